"""Measure one sender in one case; the runner starts `python -m benchmarks.measured JOB` for each.

JOB is JSON with the fields of `Job`; the output is JSON with the fields of `Result`.
"""

import cProfile
import gc
import json
import pstats
import sys
import time
from dataclasses import asdict, dataclass, field

from benchmarks import memory, servers
from benchmarks.senders import SENDERS

MOST = 20_000  # messages in one list


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to measure: send to `port` for about `budget` seconds; the port `sink` is that of the sink itself."""

    sender: str
    port: int
    sink: int
    content: str
    connections: int
    is_secure: bool
    budget: float
    authority: str = ""


@dataclass(kw_only=True)
class Result:
    """The result: times in seconds, added memory in kB; `total` also counts the messages before the measurement."""

    messages: int
    seconds: float
    cpu: float
    sink_cpu: float
    memory: int | None
    total: int
    calls: float | None = None
    latencies: list = field(default_factory=list)


def measure(job):
    """Send growing lists, until one takes about as long as the budget; the last one is the measurement."""
    sender, width = SENDERS[job.sender](job), job.connections
    sender.send(sender.make(job.content, width))
    total, count = width, 2 * width
    while True:
        messages = sender.make(job.content, count)
        gc.collect()
        before = memory.forget()
        sink, cpu, since = servers.counted(job.sink).cpu, sender.cpu(), time.perf_counter()
        latencies = sender.send(messages)
        seconds, cpu = time.perf_counter() - since, sender.cpu() - cpu
        sink = servers.counted(job.sink).cpu - sink
        total += count
        if seconds >= job.budget / 2 or count == MOST:
            break
        count = min(MOST, width * max(1, int(count * min(10, max(2, 0.9 * job.budget / seconds)) / width)))
    result = Result(
        messages=count,
        seconds=seconds,
        cpu=cpu,
        sink_cpu=sink,
        memory=memory.peak() - before if sender.is_here else None,
        total=total,
        latencies=latencies,
    )
    if not sender.threads:
        few = min(count, 50)
        result.calls = calls(sender, job.content, few)
        result.total += few
    return result


def calls(sender, content, count):
    """Return the number of function calls per message, including built-in functions."""
    messages, profile = sender.make(content, count), cProfile.Profile()
    profile.runcall(sender.send, messages)
    return pstats.Stats(profile).total_calls / count


if __name__ == "__main__":
    print(json.dumps(asdict(measure(Job(**json.loads(sys.argv[1]))))))
