"""Threads, tasks and loops of one process share one pool: one ceiling, one line, one rate limit."""

import asyncio
import subprocess
import sys
import threading

import pytest

from django_smtp_pool import RateLimited
from django_smtp_pool.core.errors import PoolTimeout
from tests.aio.waiting import assert_no_place_is_taken, until
from tests.mailing import backend_for, message
from tests.registry.test_processes import ROOT


def subjects(server):
    """Return the numbers of the messages in the order in which the server accepted them."""
    lines = [line for each in server.accepted for line in each.content.split(b"\r\n") if line.startswith(b"Subject")]
    return [int(line.split()[-1]) for line in lines]


def in_thread(backend, messages):
    """Send in a thread of its own, and return the thread."""
    thread = threading.Thread(target=backend.send_messages, args=(messages,))
    thread.start()
    return thread


def test_threads_and_tasks_never_exceed_the_ceiling(server):
    server.max_connections = 2  # from the third on it says 421
    backend = backend_for(server, max_connections=2)

    async def main():
        threads = [in_thread(backend, [message(n) for n in range(5)]) for _ in range(3)]
        singles = [backend.asend_messages([message(n)]) for n in range(20)]
        batches = [backend.asend_messages([message(n) for n in range(10)]) for _ in range(3)]
        sent = await asyncio.gather(*singles, *batches)
        for thread in threads:
            await asyncio.to_thread(thread.join)
        return sum(sent)

    assert asyncio.run(main()) == 50
    assert (len(server.accepted), server.most_open) == (65, 2)
    assert_no_place_is_taken(backend)


def test_a_task_and_a_thread_are_served_in_order(server):
    backend = backend_for(server, max_connections=1)

    async def stand_in_line(number):
        if number % 2:
            threads.append(in_thread(backend, [message(number)]))
        else:
            tasks.append(asyncio.create_task(backend.asend_messages([message(number)])))
        while backend.pool.stats().waiting < number:
            await asyncio.sleep(0)

    async def main():
        server.hold("mail")
        tasks.append(asyncio.create_task(backend.asend_messages([message(0)])))
        await until(server, lambda: server.held == 1)
        for number in range(1, 7):
            await stand_in_line(number)
        server.release()
        await asyncio.gather(*tasks)
        for thread in threads:
            await asyncio.to_thread(thread.join)

    threads, tasks = [], []
    asyncio.run(main())
    assert subjects(server) == list(range(7))


def test_two_loops_share_a_connection(server):
    backend = backend_for(server, max_connections=1)
    loops = [threading.Thread(target=asyncio.run, args=(send_some(backend, start),)) for start in (0, 100)]
    for loop in loops:
        loop.start()
    for loop in loops:
        loop.join()
    assert sorted(subjects(server)) == [*range(10), *range(100, 110)]
    assert server.connections == 1


async def send_some(backend, start):
    """Send one by one, and a batch."""
    for number in range(start, start + 5):
        await backend.asend_messages([message(number)])
    await backend.asend_messages([message(number) for number in range(start + 5, start + 10)])


def test_a_grant_to_a_loop_that_is_closed_does_no_harm(server):
    backend = backend_for(server, max_connections=1)
    server.hold("mail")
    thread = in_thread(backend, [message(1)])
    assert server.wait_for(lambda: server.held == 1)
    loop = asyncio.new_event_loop()
    task = loop.create_task(backend.asend_messages([message(2)]))
    while not backend.pool.stats().waiting:
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()  # with the task in it, which a program should not do
    server.release()
    thread.join()
    assert len(server.accepted) == 1
    task.get_coro().close()
    task._log_destroy_pending = False
    assert_no_place_is_taken(backend)
    assert backend.send_messages([message(3)]) == 1


def test_a_blocking_call_in_a_receiver_does_not_wait_for_its_own_loop(server):
    backend = backend_for(server, max_connections=1, acquire_timeout=30)
    refused = []

    async def main():
        server.hold("mail")
        task = asyncio.create_task(backend.asend_messages([message(1)]))
        await until(server, lambda: server.held == 1)
        with pytest.raises(PoolTimeout) as caught:
            backend.send_messages([message(2)])  # blocks the loop that the connection is in
        refused.append(caught.value)
        server.release()
        return await task

    assert asyncio.run(main()) == 1
    assert len(refused) == 1


FORK = """
import asyncio, os, sys
import django
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
django.setup()
from types import SimpleNamespace
from tests.mailing import backend_for, message

backend = backend_for(SimpleNamespace(host="127.0.0.1", port=int(sys.argv[1])), max_connections=1)


async def main():
    await backend.asend_messages([message(1)])
    under_way = asyncio.create_task(backend.asend_messages([message(number) for number in range(2, 12)]))
    while not backend.pool.stats().busy:
        await asyncio.sleep(0)
    child = os.fork()
    if child == 0:
        del under_way
        assert backend.send_messages([message(100)]) == 1
        from django_smtp_pool import registry
        registry.reset()
        os._exit(0)
    assert await under_way == 10
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert status == 0, status


asyncio.run(main())
"""


def test_a_fork_with_a_running_loop(server):
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, str(server.port)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(subjects(server)) == [*range(1, 12), 100]
    assert len({each.connection for each in server.accepted}) == 2


@pytest.mark.parametrize("count", [1, 2])
def test_one_rate_limit(server, count):
    backend = backend_for(server, rate_limit=2, rate_delta=3600, rate_wait=1)
    assert backend.send_messages([message(1)]) == 1
    assert asyncio.run(backend.asend_messages([message(2)])) == 1
    with pytest.raises(RateLimited):
        asyncio.run(backend.asend_messages([message(number) for number in range(count)]))
    assert len(server.accepted) == 2
    assert_no_place_is_taken(backend)


def test_a_rate_limit_is_waited_for_in_the_loop(server):
    backend = backend_for(server, rate_limit=1, rate_delta=0.05)

    async def main():
        return await asyncio.gather(*(backend.asend_messages([message(number)]) for number in range(3)))

    assert asyncio.run(main()) == [1, 1, 1]
