"""Sending from asynchronous code: `asend_mail()` compared with `sync_to_async(send_mail)`.

`python -m benchmarks.loops` prints a table. Twenty tasks send one message after the other over ten connections, with
each function in turn; the values are medians of five rounds. "held" is the longest time for which the loop did not run
a task that is always ready: every other request of the process would have waited that long.
"""

import asyncio
import statistics
import time

from asgiref.sync import sync_to_async
from django.core.mail import send_mail

from benchmarks import project, servers
from django_smtp_pool.aio import asend_mail

TASKS, EACH, CONNECTIONS, ROUNDS = 20, 10, 10, 5
DELAY = 0.02  # seconds that the server needs for each message
MESSAGE = ("Hello", project.TEXT, "from@example.com", ["to@example.com"])
WAYS = {
    "asend_mail()": asend_mail,
    "sync_to_async(send_mail, thread_sensitive=False)": sync_to_async(send_mail, thread_sensitive=False),
    "sync_to_async(send_mail)": sync_to_async(send_mail),
}


async def longest_gap():
    """Return the longest time between two steps of this task, when it is cancelled."""
    longest, before = 0.0, time.perf_counter()
    try:
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            longest, before = max(longest, now - before - 0.001), now
    except asyncio.CancelledError:
        return longest


async def some(send):
    """Send some messages, one after the other."""
    for _ in range(EACH):
        await send(*MESSAGE)


async def measured(send):
    """Return messages per second, milliseconds of CPU per message, and milliseconds for which the loop was held."""
    watch = asyncio.create_task(longest_gap())
    cpu, since = time.process_time(), time.perf_counter()
    await asyncio.gather(*(some(send) for _ in range(TASKS)))
    count = TASKS * EACH
    seconds, cpu = time.perf_counter() - since, time.process_time() - cpu
    watch.cancel()
    return count / seconds, cpu / count * 1000, await watch * 1000


def main():
    """Measure all functions and print the table."""
    with servers.sink(delay=DELAY) as port:
        project.configure(project.POOLED, port, max_connections=CONNECTIONS, acquire_timeout=600)
        project.backend().send_messages(project.messages("text", 2 * CONNECTIONS))
        rounds = [{way: asyncio.run(measured(send)) for way, send in WAYS.items()} for _ in range(ROUNDS)]
    print(f"{'':50} {'messages/s':>10} {'CPU ms':>8} {'held ms':>8}")
    for way in WAYS:
        rate, cpu, held = (statistics.median(figures) for figures in zip(*(each[way] for each in rounds), strict=True))
        print(f"{way:50} {rate:10.0f} {cpu:8.2f} {held:8.1f}")


if __name__ == "__main__":
    main()
