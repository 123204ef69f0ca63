"""Stand-ins for what a pool is given: connections without a server, somebody who looks after them, a shared window."""

import itertools
import threading

from django_smtp_pool.core.delivery.life import Service
from django_smtp_pool.core.events.events import Observer
from django_smtp_pool.core.interrupts import as_failure
from django_smtp_pool.core.needs import Call
from django_smtp_pool.core.options.options import PoolOptions
from django_smtp_pool.core.pool.pool import Pool
from django_smtp_pool.core.rate_limit.redis import StorageFailed
from tests.borrowing import borrow
from tests.clocks import ManualClock


class FakeConnection:
    """A connection that is as well as it is said to be."""

    _numbers = itertools.count(1)

    def __init__(self):
        self.number = next(self._numbers)
        self.messages = 0
        self.is_usable = True
        self.in_step = True
        self.closed = 0
        self.seen_off = 0
        self.severed = 0

    def close(self):
        self.closed += 1

    def sever(self):
        self.severed += 1


class FakeServer:
    """What a pool's `connect` reaches; counts what is open, and fails when told to."""

    def __init__(self):
        self.lock = threading.Lock()
        self.connections = []
        self.deadlines = []
        self.fails_with = []  # the next dials raise these
        self.is_down = None  # every dial raises this

    def open(self, clock, deadline):
        """Open a connection, as a connector does."""
        yield Call(lambda: None)
        return self.connect(None if deadline == float("inf") else deadline)

    def connect(self, deadline):
        with self.lock:
            self.deadlines.append(deadline)
            if self.fails_with:
                raise as_failure(self.fails_with.pop(0))
            if self.is_down is not None:
                raise as_failure(self.is_down)
            connection = FakeConnection()
            self.connections.append(connection)
        return connection


class FakeHousekeeper:
    """Remembers what it was asked for, and sees off at once; later, where it is not quick."""

    def __init__(self):
        self.due = []
        self.leaving = []
        self.is_quick = True

    def watch(self, pool, due):
        self.due.append(due)

    def see_off(self, connection, left):
        connection.seen_off += 1
        if self.is_quick:
            left()
        else:
            self.leaving.append(left)

    def sever(self, connection):
        connection.closed += 1


class Diary(Observer):
    """Writes down what happens."""

    def __init__(self):
        self.events = []

    def notice(self, event):
        self.events.append(event)

    def of(self, kind):
        return [event for event in self.events if type(event) is kind]


class Bench:
    """A pool with everything around it."""

    def __init__(self, **options):
        jitter = options.pop("uniform", lambda low, high: high)
        self.clock = options.pop("clock", None) or ManualClock()
        self.server = FakeServer()
        self.housekeeper = FakeHousekeeper()
        self.diary = Diary()
        self.pool = Pool(
            PoolOptions(**options),
            name="mail.example:25",
            connect=self.server.connect,
            clock=self.clock,
            observer=self.diary,
            housekeeper=self.housekeeper,
            uniform=jitter,
        )
        self.service = Service(pool=self.pool, connector=self.server, clock=self.clock, observer=self.diary)
        self.pool.acquire = lambda deadline=None: borrow(self.service, deadline)

    def use(self):
        """Borrow a connection for one message and give it back; return it."""
        lease = self.pool.acquire()
        lease.connection.messages += 1
        lease.give_back()
        return lease.connection

    def reasons(self):
        """Return why connections were closed, with how many of each."""
        return dict(self.pool.stats().connections_closed)


class FakeWindow:
    """The window of a shared rate limit: it says what it is told to."""

    place = "redis://store.example.com"

    def __init__(self):
        self.left = {}
        self.asked = self.forks = self.closed = 0
        self.says = []  # pauses, or what to raise; a place where there is nothing left
        self.is_down = False
        self.meanwhile = lambda: None

    def take(self, recipients):
        self.asked += 1
        self.meanwhile()
        said = StorageFailed("gone") if self.is_down else self.says.pop(0) if self.says else 0.0
        if isinstance(said, BaseException):
            raise said
        return said

    def after_fork(self):
        self.forks += 1

    def close(self):
        self.closed += 1


def in_thread(work, *args):
    """Start a thread that keeps what its work returns or raises; `join` hands it out."""
    return Worker(work, args)


class Worker:
    """A thread and its result."""

    def __init__(self, work, args):
        self._result = self._error = None
        self._thread = threading.Thread(target=self._run, args=(work, args), daemon=True)
        self._thread.start()

    def _run(self, work, args):
        try:
            self._result = work(*args)
        except BaseException as error:
            self._error = error

    @property
    def is_done(self):
        return not self._thread.is_alive()

    def join(self, timeout=20):
        self._thread.join(timeout)
        assert self.is_done, "a thread does not end"
        if self._error is not None:
            raise self._error
        return self._result


def until(predicate, timeout=20):
    """Return when something that other threads do has come true: bounded by real time, and never slept through."""
    idle = threading.Event()
    for _ in range(int(timeout / 0.002)):
        if predicate():
            return
        idle.wait(0.002)
    raise AssertionError("this did not come true")
