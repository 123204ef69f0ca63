"""A soak: threads that send through the servers, and what disturbs them."""

import gc
import itertools
import os
import random
import sys
import threading
import time
import traceback
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.soak.account import Account, compare, together
from tests.soak.servers import Servers
from tests.soak.troubles import Alarms, ChildError, Receivers, Timeouts, forked

BATCH = 5  # messages
FORKS = 0.005  # share of a thread's calls that are made in a child
CHILDS = 4  # messages
ALARMS = 0.1  # share of a greenlet's calls that have an alarm; of the main thread's, all have
LONGEST_CALM = 5.0  # seconds between two `close_all()`
LOOK_EVERY = 5.0  # seconds between two looks at the memory
FAREWELLS = 3.0  # seconds that `close_all()` may take in addition to its own
OURS = ("django_smtp_pool", "tests/soak", "django/dispatch")  # Django's: what it keeps from us, we have to ask for
END = 10.0  # seconds in which everything comes to rest when nobody sends any more


@dataclass(frozen=True, kw_only=True)
class Soak:
    """What is run: so many seconds, or messages.

    Arguments:
        rate: share of all points of the conversation at which the servers fail.
        patience: each of the client's time-outs, in seconds.
        troubles: what disturbs the senders: alarms, forks, closing, receivers.
    """

    seconds: float
    threads: int = 8
    rate: float = 0.03
    seed: object = "soak"
    chunking: bool = True
    stock: bool = False
    gevent: bool = False
    messages: int | None = None
    patience: float = 2.0
    troubles: frozenset = frozenset()

    def run(self):
        """Send from all threads until the time is up; return the figures, and the first of the problems."""
        plan = {"seed": self.seed, "rate": self.rate, "chunking": self.chunking}
        with Servers(**plan, limited=not self.stock) as servers:
            return _Run(self, servers).run()


class _Run:
    """One run."""

    def __init__(self, soak, servers):
        self._soak, self._servers = soak, servers
        self._numbers = itertools.count()  # one step of the interpreter, so a fork finds no lock of it taken
        self._accounts, self._own = [], threading.local()
        self._alarms = Timeouts() if soak.gevent else Alarms()
        self._until = time.monotonic() + soak.seconds
        self._longest = 60 * soak.patience  # seconds that a call may take
        self._memory = []
        self._over = threading.Event()
        self._forking = threading.Lock()

    def run(self):
        soak = self._soak
        with ExitStack() as stack:
            stack.enter_context(self._alarms)
            if "receivers" in soak.troubles:
                stack.enter_context(Receivers(self._receive, self._alarms.heard))
            workers = [self._started(self._send, number) for number in range(1, soak.threads)]
            helpers = [self._started(self._watch)]
            if "closing" in soak.troubles:
                helpers.append(self._started(self._close_now_and_then))
            self._send(0)  # in the main thread, where signals strike
            self._join(workers)
            self._over.set()
            self._join(helpers)
        report = self._settled()
        most = soak.threads * (2 if "forks" in soak.troubles else 1)  # a child has as many again
        limits = [place.limit or most for place in self._servers.places]
        account = together(self._accounts)
        return compare(account, self._memory, report, limits), account.problems

    def _started(self, work, *arguments):
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        thread.start()
        return thread

    def _join(self, threads):
        limit = max(self._until, time.monotonic()) + self._longest
        for thread in threads:
            thread.join(max(0.0, limit - time.monotonic()))
            if thread.is_alive():
                frame = sys._current_frames().get(thread.ident)
                self._account.must_not("hung", "".join(traceback.format_stack(frame)) if frame else "a thread")

    @property
    def _account(self):
        """This thread's own: nobody else writes it, so there is no lock for a fork to find taken."""
        if not hasattr(self._own, "account"):
            self._own.account = account = Account()
            self._accounts.append(account)
        return self._own.account

    @property
    def _draw(self):
        if not hasattr(self._own, "draw"):
            self._own.draw = random.Random(f"{self._soak.seed}/{threading.current_thread().name}")
        return self._own.draw

    def _take(self, count):
        """Return the next numbers, none at the end."""
        numbers = list(itertools.islice(self._numbers, count))
        limit = self._soak.messages
        return [number for number in numbers if limit is None or number < limit]

    # -- sending ---------------------------------------------------------------------------------------

    def _send(self, thread):
        self._own.draw = draw = random.Random(f"{self._soak.seed}/{thread}")
        alarms = ALARMS if self._soak.gevent else float(thread == 0)
        alarms *= "alarms" in self._soak.troubles
        try:
            while time.monotonic() < self._until and (numbers := self._take(draw.choice([1, 1, 1, BATCH]))):
                if "forks" in self._soak.troubles and draw.random() < FORKS and self._forking.acquire(blocking=False):
                    try:
                        self._fork(numbers)
                    finally:
                        self._forking.release()
                else:
                    self._call(numbers, self._alarms if draw.random() < alarms else None)
        except Exception:
            self._account.must_not("crashed", traceback.format_exc())

    def _call(self, numbers, alarms=None):
        """Send some messages, and write down what became of them."""
        draw = self._draw
        mails = [self._message(number) for number in numbers]
        backend, is_list = self._backend(draw.choice(self._servers.places)), len(mails) > 1
        messages = mails if draw.random() < 0.7 or not is_list else iter(mails)
        since = time.monotonic()
        work = lambda: backend.send_messages(messages)  # noqa: E731
        if alarms is None:
            try:
                came = work()
            except OSError as error:  # what became of each is in its status
                if self._alarms.is_mine(error):  # this is a receiver's call
                    raise
                came = error
        else:
            came, raised = alarms.during(work, draw)
            self._account.counts["alarms"] += raised is not None
            if raised is not None and came is not raised:
                self._swallowed(raised, came)
            elif raised is None and isinstance(came, BaseException) and not isinstance(came, OSError):
                self._account.must_not("crashed", "".join(traceback.format_exception(came)))
        took = time.monotonic() - since
        if took > self._longest:
            self._account.must_not("hung", f"a call took {took:.1f} s")
        self._account.note(dict(zip(numbers, self._told(mails, came), strict=True)), took)

    def _swallowed(self, raised, came):
        """Write down what did not reach the caller, unless code that is not ours swallowed it: an import, say."""
        frames = traceback.extract_tb(raised.__traceback__)  # from who caught it to its origin
        by_c = len(frames) == 1  # no Python code has seen it but the handler itself
        if not frames or (not by_c and any(name in frames[0].filename for name in OURS)):
            where = " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
            self._account.must_not("swallowed", f"{raised!r} at {where}; the caller got {came!r}")

    def _told(self, mails, came):
        if self._soak.stock:
            count = came if isinstance(came, int) else 0
            return ["accepted"] * count + ["not_sent"] * (len(mails) - count)
        # None: never reached, since no connection could be had, or an interrupt came before.
        statuses = [getattr(mail, "smtp_pool_status", None) for mail in mails]
        return [str(status.outcome) if status else "not_sent" for status in statuses]

    def _message(self, number):
        from tests.mailing import message

        body = "Hello\n" * self._draw.choice([1, 1, 100])
        return message(number, body=body, headers={"X-Process": str(os.getpid())})

    def _backend(self, place):
        from django.core.mail.backends.smtp import EmailBackend

        from django_smtp_pool.backend import PooledBackend
        from tests.mailing import backend_for

        patience = self._soak.patience
        options = {"timeout": patience}
        if place.tls:
            options |= {"use_ssl": True, "username": "user", "password": "secret"}
        if self._soak.stock:
            return backend_for(place, EmailBackend, **options)
        options |= dict.fromkeys(("data_timeout", "greeting_timeout", "connection_timeout"), patience)
        options |= {"delivery_timeout": 10 * patience, "max_connections": place.limit or self._soak.threads}
        return backend_for(place, PooledBackend, tls_options={"verify": False}, **options)

    # -- troubles --------------------------------------------------------------------------------------

    def _receive(self, act):
        """Let a receiver act in this thread."""
        self._account.counts["receivers"] += 1
        act(self._draw, lambda: (numbers := self._take(1)) and self._call(numbers))

    def _fork(self, numbers):
        numbers += self._take(max(0, CHILDS - len(numbers)))
        self._account.counts["forks"] += 1
        try:
            verdict = forked(lambda: self._child(numbers), self._longest, self._servers.places[-1].forking)
        except ChildError as error:
            what, how = error.args
            self._account.must_not(what, f"a child with the messages {numbers} {how}")
            return
        account = Account(**{**verdict, "told": {int(number): told for number, told in verdict["told"].items()}})
        account.counts = type(self._account.counts)(account.counts)
        self._accounts.append(account)

    def _child(self, numbers):
        """Send over the same mailers, in a forked child: one by one, and in a batch."""
        from django_smtp_pool.registry import registry

        self._accounts, self._own = [], threading.local()
        self._own.draw = random.Random(f"{self._soak.seed}/child {numbers[0]}")
        self._numbers = iter(())  # none for receivers
        for number in numbers[:2]:
            self._call([number])
        if numbers[2:]:
            self._call(numbers[2:])
        if self._draw.random() < 0.5:
            registry.at_exit()
        return vars(together(self._accounts))

    def _close_now_and_then(self):
        from django_smtp_pool.registry import registry

        while not self._over.wait(LONGEST_CALM * self._draw.random()):
            timeout, since = self._draw.choice([0, 0.1, 1.0]), time.monotonic()
            try:
                registry.close_all(timeout=timeout)
            except Exception:
                self._account.must_not("crashed", traceback.format_exc())
            took = time.monotonic() - since
            if took > timeout + FAREWELLS + self._longest / 10:
                self._account.must_not("hung", f"close_all({timeout}) took {took:.1f} s")
            self._account.counts["closings"] += 1

    def _watch(self):
        while not self._over.wait(LOOK_EVERY):
            gc.collect()
            self._memory.append((sum(len(account.told) for account in list(self._accounts)), _memory()))

    # -- the end ---------------------------------------------------------------------------------------

    def _settled(self):
        """Return the servers' last report, when nobody has a connection any more."""
        from django_smtp_pool.registry import registry

        gc.collect()
        until = time.monotonic() + END
        while (taken := _taken(registry)) and time.monotonic() < until:
            time.sleep(0.05)
        for pool in taken:
            self._account.must_not("left over", repr(pool))
        registry.close_all(timeout=1.0)
        until = time.monotonic() + END
        while sum((report := self._servers.report())["open"]) and time.monotonic() < until:
            time.sleep(0.05)
        return report


def _taken(registry):
    """Return the pools in which a place is taken though nobody sends."""
    pools = registry.pools()
    for pool in pools:
        pool.tidy()
    stats = [(pool, pool.stats()) for pool in pools]
    return [pool for pool, each in stats if each.busy or each.connecting or each.waiting]


def _memory():
    """Return the bytes of all objects that a backend has made and that are still there."""
    import tracemalloc

    if not tracemalloc.is_tracing():
        return 0
    ours = [tracemalloc.Filter(True, f"*{name}*") for name in ("django_smtp_pool", "django/core/mail", "smtplib")]
    return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces(ours).traces)
