"""A cancelled task: the outcome is true, no place is taken, and no half message is accepted."""

import asyncio
import threading

import pytest

from tests.aio.waiting import assert_no_place_is_taken, until
from tests.mailing import backend_for, message

BIG = ("z" * 70 + "\n") * 100000
POINTS = ["connect", "banner", "ehlo", "mail", "rcpt", "data", "body", "end"]


async def cancelled_at(server, backend, mails, point):
    """Cancel when the server stands at a point; return the error."""
    caught = []

    async def send():
        try:
            await backend.asend_messages(mails)
        except asyncio.CancelledError as error:  # before Python 3.11, whoever awaits the task gets another one
            caught.append(error)
            raise

    server.hold(point)
    task = asyncio.create_task(send())
    await until(server, lambda: server.held >= min(len(mails), 2))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert_no_place_is_taken(backend)
    server.release()
    return caught[0]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("point", POINTS)
def test_cancelled_at_every_point(server, point, count):
    server.receive_buffer = 65536
    backend = backend_for(server, max_connections=2)
    mails = [message(number, body=BIG if point == "body" else "Hello\n") for number in range(count)]
    outcome = "unknown" if point == "end" else "not_sent"

    async def main():
        error = await cancelled_at(server, backend, mails, point)
        statuses = [mail.smtp_pool_status for mail in mails if mail.smtp_pool_status is not None]
        assert {status.outcome for status in statuses} <= {outcome}
        assert statuses or count > 1  # of a batch that has no connection yet, none has been tried
        assert error.batch.accepted == ()
        await until(server, lambda: server.open_now == 0)
        assert len(server.accepted) <= (count if outcome == "unknown" else 0)
        before = len(server.accepted)
        assert await backend.asend_messages([message(9)]) == 1
        assert len(server.accepted) == before + 1

    asyncio.run(main(), debug=True)


def test_cancelled_while_waiting_for_a_connection(server):
    backend = backend_for(server, max_connections=1)
    waiting = message(2)

    async def main():
        server.hold("mail")
        first = asyncio.create_task(backend.asend_messages([message(1)]))
        await until(server, lambda: server.held == 1)
        second = asyncio.create_task(backend.asend_messages([waiting]))
        while not backend.pool.stats().waiting:
            await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert backend.pool.stats().waiting == 0
        server.release()
        return await first

    assert asyncio.run(main()) == 1
    assert waiting.smtp_pool_status.outcome == "not_sent"
    assert_no_place_is_taken(backend)


def test_a_place_granted_to_a_task_that_is_being_cancelled_is_not_lost(server):
    backend = backend_for(server, max_connections=1)

    async def main():
        server.hold("mail")
        first = asyncio.create_task(backend.asend_messages([message(1)]))
        await until(server, lambda: server.held == 1)
        second = asyncio.create_task(backend.asend_messages([message(2)]))
        await asyncio.sleep(0)
        first.add_done_callback(lambda _: second.cancel())  # the second has been granted the place by now
        server.release()
        await asyncio.wait([first, second])
        assert_no_place_is_taken(backend)
        return await backend.asend_messages([message(3)])

    assert asyncio.run(main()) == 1


def test_cancelled_before_the_first_step(server):
    async def main():
        task = asyncio.create_task(backend_for(server).asend_messages([message(1)]))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert server.connections == 0


def test_cancelled_while_a_thread_renders(server):
    rendering, may_end = threading.Event(), threading.Event()
    mails = [message(1), message(2)]

    class Slow(type(mails[0])):
        """Takes its time."""

        def message(self, *args, **kwargs):
            """Wait for the test."""
            rendering.set()
            may_end.wait(30)
            return super().message(*args, **kwargs)

    mails[1].__class__ = Slow
    backend = backend_for(server)

    async def main():
        task = asyncio.create_task(backend.asend_messages(mails))
        await asyncio.to_thread(rendering.wait, 30)
        await until(server, lambda: len(server.accepted) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert_no_place_is_taken(backend)
        may_end.set()

    asyncio.run(main())
    assert len(server.accepted) == 1
