"""Send for a long time through a server that fails at random, and compare what is told with what it took.

    python -m tests.soak --minutes 5 --threads 8 --rate 0.03

Lost: told accepted, and the server has not got it. Duplicated: it has got it twice. Misreported: told refused or
not sent, and it has got it. Hung: a send that took longer than all its time-outs together. All must be 0.
"""

import argparse
import collections
import contextlib
import os
import resource
import sys
import threading
import time
from dataclasses import dataclass, field

POINTS = ("connect", "banner", "ehlo", "mail", "next", "rcpt", "data", "body", "bdat", "end", "after", "rset", "quit")


@dataclass(kw_only=True)
class Account:
    """What the senders were told, message by message."""

    told: dict = field(default_factory=dict)  # number: outcome
    slowest: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, number, outcome, took):
        """Write down one message."""
        with self.lock:
            self.told[number] = outcome
            self.slowest = max(self.slowest, took)


@dataclass(frozen=True, kw_only=True)
class Result:
    """The figures of a run."""

    told: dict
    lost: int
    duplicated: int
    misreported: int
    hung: int
    connections: int
    slowest: float
    grown_by_kb: int

    @property
    def is_good(self):
        """Whether nothing happened that must not."""
        return not (self.lost or self.duplicated or self.misreported or self.hung)


def soak(*, seconds, threads, rate, seed, chunking, messages=None, patience=2.0):
    """Send from so many threads until the time is up (or so many messages are sent) and return the figures."""
    from tests.mailing import backend_for
    from tests.servers import FaultServer, RandomFaults, faults

    account, numbers = Account(), iter(range(messages) if messages else range(sys.maxsize))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # In one shot the verdict is told from the replies before it by counting alone: there, a reply that nobody asked
    # for is taken for an answer. No client could know better.
    choices = [sin for sin in faults.MIXTURE if sin is not faults.stray or not chunking]
    points = [point for point in POINTS if point != "after" or not chunking]
    fault = RandomFaults(rate=rate, seed=seed, points=points, choices=choices)
    with FaultServer(chunking=chunking, fault=fault) as server:
        options = {"timeout": patience, "data_timeout": patience, "greeting_timeout": patience}
        options |= {"delivery_timeout": 10 * patience, "connection_timeout": patience, "max_connections": threads}
        until = time.monotonic() + seconds
        workers = [
            threading.Thread(target=_send_until, args=(until, numbers, account, backend_for(server, **options)))
            for _ in range(threads)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(seconds + 60 * patience)
        hung = sum(worker.is_alive() for worker in workers)
        return _compare(server, account, hung, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


_take = threading.Lock()


def _send_until(until, numbers, account, backend):
    from tests.mailing import message

    while time.monotonic() < until:
        with _take:
            number = next(numbers, None)
        if number is None:
            return
        mail, since = message(number), time.monotonic()
        with contextlib.suppress(OSError):  # what became of it is in its status
            backend.send_messages([mail])
        account.note(number, mail.smtp_pool_status.outcome, time.monotonic() - since)


def _compare(server, account, hung, grown):
    taken = collections.Counter(_number(each.content) for each in server.accepted)
    told = account.told
    return Result(
        told=dict(collections.Counter(told.values())),
        lost=sum(outcome == "accepted" and not taken[number] for number, outcome in told.items()),
        duplicated=sum(count > 1 for count in taken.values()),
        misreported=sum(outcome in ("refused", "not_sent") and taken[number] > 0 for number, outcome in told.items()),
        hung=hung,
        connections=server.connections,
        slowest=account.slowest,
        grown_by_kb=grown,
    )


def _number(content):
    for line in content.split(b"\r\n"):
        if line.startswith(b"Subject: Message "):
            return int(line.removeprefix(b"Subject: Message "))
    raise AssertionError("the server took something that nobody sent")


def main():
    """Run from the command line."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    import django

    django.setup()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--rate", type=float, default=0.03, help="share of all points at which the server fails")
    parser.add_argument("--seed", default="soak")
    parser.add_argument("--no-chunking", action="store_true")
    given = parser.parse_args()
    result = soak(
        seconds=60 * given.minutes,
        threads=given.threads,
        rate=given.rate,
        seed=given.seed,
        chunking=not given.no_chunking,
    )
    for name, value in vars(result).items():
        sys.stdout.write(f"{name.replace('_', ' '):>13}: {value}\n")
    sys.exit(0 if result.is_good else 1)


if __name__ == "__main__":
    main()
