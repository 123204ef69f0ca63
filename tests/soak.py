"""Send for a long time through servers that fail at random, and compare what is told with what they took.

    python -m tests.soak --minutes 5 --threads 8 --rate 0.03 [--no-chunking] [--stock]

One server in clear and one under TLS with a login; each thread sends to both, messages one by one and in batches.

Lost: told accepted, and the server has not got it. Duplicated: it has got it twice. Misreported: told refused or
not sent, and it has got it. Hung: a send that took longer than all its time-outs together. Growth: what the last half
of the run added to the memory of the client, in kB for each thousand messages, where a leak would show. For ours, all
must be 0, but for the growth, which is noise below GROWTH. `--stock` sends through Django's own backend instead (with
a socket time-out, or it would not end), for comparison: it does not tell what became of a message, so an exception
counts as "not sent", and of a batch that failed, what was not counted as sent as well.
"""

import argparse
import collections
import contextlib
import gc
import logging
import os
import random
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

POINTS = (
    *("connect", "banner", "ehlo", "auth", "mail", "next", "rcpt", "data"),
    *("body", "bdat", "end", "after", "rset", "quit"),
)
BATCH = 5  # messages
GROWTH = 100  # kB for each thousand messages; a message of the soak has less than 1 kB


@dataclass(kw_only=True)
class Account:
    """What the senders were told, message by message, and what the client's memory was meanwhile."""

    told: dict = field(default_factory=dict)  # number: outcome
    slowest: float = 0.0
    memory: list = field(default_factory=list)  # (messages so far, octets)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, outcomes, took):
        """Write down one call."""
        with self.lock:
            self.told |= outcomes
            self.slowest = max(self.slowest, took)


@dataclass(frozen=True, kw_only=True)
class Result:
    """The figures of a run."""

    sent: int
    refused: int
    unknown: int
    not_sent: int
    lost: int
    duplicated: int
    misreported: int
    hung: int
    connections: int
    slowest_s: float
    growth_kb: float

    @property
    def is_good(self):
        """Whether nothing happened that must not."""
        return not (self.lost or self.duplicated or self.misreported or self.hung)

    @property
    def total(self):
        """How many messages there were."""
        return self.sent + self.refused + self.unknown + self.not_sent


@dataclass(frozen=True, kw_only=True)
class Soak:
    """What is run: so many seconds, or messages.

    Arguments:
        rate: share of all points of the conversation at which the servers fail.
        patience: each of the client's time-outs, in seconds.
    """

    seconds: float
    threads: int = 8
    rate: float = 0.03
    seed: object = "soak"
    chunking: bool = True
    stock: bool = False
    messages: int | None = None
    patience: float = 2.0

    def run(self):
        """Send from all threads until the time is up, and return the figures."""
        account, numbers = Account(), _Numbers(self.messages)
        with ExitStack() as stack:
            servers = [stack.enter_context(server) for server in self._servers()]
            until = time.monotonic() + self.seconds
            workers = [
                threading.Thread(target=self._send, args=(until, numbers, account, servers, number), daemon=True)
                for number in range(self.threads)
            ]
            for worker in workers:
                worker.start()
            self._watch(workers, account, until + 60 * self.patience)
            return self._compare(servers, account, sum(worker.is_alive() for worker in workers))

    def _servers(self):
        from tests.servers import FaultServer, RandomFaults, faults
        from tests.servers.certificates import certificates

        # In one shot the verdict is told from the replies before it by counting alone: there, a reply that nobody
        # asked for is taken for an answer. No client could know better.
        choices = [sin for sin in faults.MIXTURE if sin is not faults.stray or not self.chunking]
        points = [point for point in POINTS if point != "after" or not self.chunking]
        for way in ({}, {"implicit_tls": certificates().server_context(), "require_auth": True}):
            fault = RandomFaults(rate=self.rate, seed=f"{self.seed}/{len(way)}", points=points, choices=choices)
            yield FaultServer(chunking=self.chunking, fault=fault, **way)

    def _backend(self, server):
        from django.core.mail.backends.smtp import EmailBackend

        from django_smtp_pool.backend import PooledBackend
        from tests.mailing import backend_for

        options = {"timeout": self.patience}
        if server.implicit_tls:
            options |= {"use_ssl": True, "username": "user", "password": "secret"}
        if self.stock:
            return backend_for(server, EmailBackend, **options)
        options |= dict.fromkeys(("data_timeout", "greeting_timeout", "connection_timeout"), self.patience)
        options |= {"delivery_timeout": 10 * self.patience, "max_connections": self.threads}
        return backend_for(server, PooledBackend, tls_options={"verify": False}, **options)

    def _send(self, until, numbers, account, servers, thread):
        from tests.mailing import message

        choose = random.Random(f"{self.seed}/{thread}")
        backends = [self._backend(server) for server in servers]
        while time.monotonic() < until and (batch := numbers.take(choose.choice([1, 1, 1, BATCH]))):
            mails = [message(number, body="Hello\n" * choose.choice([1, 1, 100])) for number in batch]
            since = time.monotonic()
            count, backend = 0, choose.choice(backends)
            with contextlib.suppress(OSError):  # what became of each is in its status
                count = backend.send_messages(mails)
            told = ["accepted"] * (count or 0) + ["not_sent"] * (len(batch) - (count or 0))
            if not self.stock:
                # None: never reached, since no connection could be had.
                told = [mail.smtp_pool_status.outcome if mail.smtp_pool_status else "not_sent" for mail in mails]
            account.note(dict(zip(batch, told, strict=True)), time.monotonic() - since)

    def _watch(self, workers, account, limit):
        while time.monotonic() < limit and any(worker.is_alive() for worker in workers):
            workers[0].join(1) if workers[0].is_alive() else time.sleep(0.05)
            gc.collect()
            account.memory.append((len(account.told), _memory()))

    def _compare(self, servers, account, hung):
        accepted = [each for server in servers for each in server.accepted]
        taken, told = collections.Counter(_number(each.content) for each in accepted), account.told
        count = collections.Counter(told.values())
        return Result(
            sent=count["accepted"],
            refused=count["refused"],
            unknown=count["unknown"],
            not_sent=count["not_sent"],
            lost=sum(outcome == "accepted" and not taken[number] for number, outcome in told.items()),
            duplicated=sum(count > 1 for count in taken.values()),
            misreported=sum(
                outcome in ("refused", "not_sent") and taken[number] > 0 for number, outcome in told.items()
            ),
            hung=hung,
            connections=sum(server.connections for server in servers),
            slowest_s=round(account.slowest, 2),
            growth_kb=_growth(account.memory),
        )


class _Numbers:
    """The numbers of the messages, each given once."""

    def __init__(self, end):
        self._next, self._end = 0, end or sys.maxsize
        self._lock = threading.Lock()

    def take(self, count):
        """Return the next numbers, fewer or none at the end."""
        with self._lock:
            first, self._next = self._next, min(self._end, self._next + count)
            return range(first, self._next)


def _memory():
    """Return the octets of all objects that a backend has made and that are still there."""
    import tracemalloc

    if not tracemalloc.is_tracing():
        return 0
    ours = [tracemalloc.Filter(True, f"*{name}*") for name in ("django_smtp_pool", "django/core/mail", "smtplib")]
    snapshot = tracemalloc.take_snapshot().filter_traces(ours)
    return sum(trace.size for trace in snapshot.traces)


def _growth(memory):
    """Return what a thousand messages of the last half have added, in kB; 0 where nobody looked."""
    half = memory[len(memory) // 2 :]
    if len(half) < 2 or half[-1][0] == half[0][0]:
        return 0.0
    (messages, octets), (messages_then, octets_then) = half[0], half[-1]
    return round((octets_then - octets) / (messages_then - messages), 1)


def _number(content):
    for line in content.split(b"\r\n"):
        if line.startswith(b"Subject: Message "):
            return int(line.removeprefix(b"Subject: Message "))
    raise AssertionError("the server took something that nobody sent")


def main():
    """Run from the command line."""
    import tracemalloc

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    import django

    django.setup()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--rate", type=float, default=0.03, help="share of all points at which the servers fail")
    parser.add_argument("--seed", default="soak")
    parser.add_argument("--no-chunking", action="store_true")
    parser.add_argument("--stock", action="store_true", help="through Django's own backend, for comparison")
    given = parser.parse_args()
    logging.getLogger("django_smtp_pool").setLevel(logging.ERROR)
    tracemalloc.start()
    result = Soak(
        seconds=60 * given.minutes,
        threads=given.threads,
        rate=given.rate,
        seed=given.seed,
        chunking=not given.no_chunking,
        stock=given.stock,
    ).run()
    for name, value in vars(result).items():
        sys.stdout.write(f"{name.replace('_', ' '):>13}: {value}\n")
    sys.exit(0 if given.stock or (result.is_good and result.growth_kb < GROWTH) else 1)


if __name__ == "__main__":
    main()
