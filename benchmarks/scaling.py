"""Measure what a message costs with more connections, pools, threads, waiters, or messages in a list.

Each point is measured in a separate process: `python -m benchmarks.scaling KIND NUMBER PORT` prints it as JSON.
"""

import asyncio
import json
import subprocess
import sys
import threading
import time

import django

from benchmarks import memory, project, servers

# The numbers of each kind, for a quick run and for a full run.
QUICK = {
    "connections": (1, 16, 64),
    "pools": (1, 16, 64),
    "threads": (1, 10, 100),
    "waiters": (1, 100, 1000),
    "messages": (100, 3000),
}
FULL = {
    "connections": (1, 4, 16, 64, 256),
    "pools": (1, 4, 16, 64, 256),
    "threads": (1, 10, 100, 1000),
    "waiters": (1, 10, 100, 1000, 10_000, 100_000),
    "messages": (100, 1000, 10_000, 100_000),
}
TITLES = {
    "connections": "connections of one list, server of 20 ms",
    "pools": "pools, used in turn",
    "threads": "threads that share 5 connections",
    "waiters": "tasks that wait for 5 connections",
    "messages": "messages of one generator, 5 connections",
}
DELAYS = {"connections": 0.02}
LEAST = 1000  # messages, so that there is enough time to measure


def connections(number):
    """Send a list over `number` connections, all of them busy."""
    count = max(LEAST // 4, 4 * number)
    project.backend().send_messages(project.messages("text", number))
    return count, lambda messages: project.backend().send_messages(messages)


def pools(number):
    """Send over `number` pools in turn; each has another `local_hostname`."""
    from django_smtp_pool.backend import PooledBackend

    alias = {"alias": "default"} if django.VERSION >= (6, 1) else {}

    def send(messages):
        for index, message in enumerate(messages):
            options = {"host": "127.0.0.1", "port": PORT, "local_hostname": f"client{index % number}.example", **alias}
            PooledBackend(**options).send_messages([message])

    send(project.messages("text", number))
    return max(LEAST, 2 * number), send


def threads(number):
    """Send in `number` threads, each one message at a time."""

    def send(messages):
        workers = [threading.Thread(target=share, args=(messages[index::number],)) for index in range(number)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def share(messages):
        for message in messages:
            message.send()

    return max(LEAST, 2 * number), send


def waiters(number):
    """Send in `number` tasks at once, which all need a connection; None if there is no asyncio driver."""
    backend = project.backend()
    if not hasattr(backend, "asend_messages"):
        return None

    async def send_all(messages):
        for start in range(0, len(messages), number):
            await asyncio.gather(*(backend.asend_messages([each]) for each in messages[start : start + number]))

    return max(LEAST, number), lambda messages: asyncio.run(send_all(messages))


def messages(number):
    """Send the messages of a generator; this measures the memory."""

    def generated():
        for _ in range(number):
            yield from project.messages("text", 1)

    return number, lambda _: project.backend().send_messages(generated())


KINDS = {each.__name__: each for each in (connections, pools, threads, waiters, messages)}


def measure(kind, number):
    """Return milliseconds of CPU per message, messages per second, and the peak memory in MB; None if not possible."""
    width = number if kind == "connections" else 5
    project.configure(project.POOLED, PORT, max_connections=width, max_messages=0, acquire_timeout=600)
    project.backend().send_messages(project.messages("text", 20))
    prepared = KINDS[kind](number)
    if prepared is None:
        return None
    count, send = prepared
    prebuilt = [] if kind == "messages" else project.messages("text", count)
    before = memory.forget()
    cpu, since = time.process_time(), time.perf_counter()
    send(prebuilt)
    seconds, cpu = time.perf_counter() - since, time.process_time() - cpu
    return {"cpu": cpu / count * 1000, "rate": count / seconds, "memory": (memory.peak() - before) / 1024}


def run(numbers):
    """Measure all points; yield (kind, number, result of `measure`)."""
    for kind, points in numbers.items():
        with servers.sink(delay=DELAYS.get(kind, 0.0)) as port:
            for number in points:
                command = [sys.executable, "-m", "benchmarks.scaling", kind, str(number), str(port)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                yield kind, number, json.loads(done.stdout)


if __name__ == "__main__":
    PORT = int(sys.argv[3])
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
