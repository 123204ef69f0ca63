"""Threads killed by `PyThreadState_SetAsyncExc`: no place of the pool goes with them."""

import collections
import contextlib
import ctypes
import gc
import random
import threading

import pytest

from django_smtp_pool import status_of
from tests.mailing import backend_for, message
from tests.servers import FaultServer


class Killed(BaseException):
    """What a killed thread dies of."""


STARTING = threading.Lock()


def kill(thread):
    """Raise in another thread, at whatever it does next; nothing happens to one that has ended.

    Not while it starts a thread: before Python 3.12 the new one has the same ident for an instant. It would be killed
    instead, and `start()` would wait for it for ever.
    """
    with STARTING:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Killed))


@pytest.fixture(autouse=True)
def _a_starting_thread_is_not_killed(monkeypatch):
    start = threading.Thread.start

    def start_alone(thread):
        with STARTING:
            start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_alone)


def send_until_killed(backend, batch):
    """Send until it happens."""
    with contextlib.suppress(Killed):  # a second one may come while the first is dealt with
        try:
            while True:
                mails = [message(number, to=[f"to{number}@example.com"]) for number in batch.numbers()]
                batch.mails += mails
                backend.send_messages(mails)
        except Killed:
            batch.is_killed = True
            gc.collect()


class Batch:
    """What one thread has sent, a message or three at a time."""

    def __init__(self, start, width):
        self._next, self._width = start, width
        self.mails = []
        self.is_killed = False

    def numbers(self):
        """Return the next numbers."""
        first, self._next = self._next, self._next + self._width
        return range(first, self._next)


@pytest.fixture(autouse=True)
def _sockets_are_closed_here():
    """Collect what killed threads have left where a socket that Python closes is no news, and not in another test."""
    yield
    gc.collect()


@pytest.mark.parametrize("width", [1, 3], ids=["one-by-one", "batch"])
@pytest.mark.parametrize("chunking", [False, True], ids=["DATA", "BDAT"])
# A connection that nobody had taken over yet is closed by Python itself, which says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:unclosed:ResourceWarning")
def test_killed_in_the_middle(width, chunking):
    choose = random.Random(width)
    with FaultServer(chunking=chunking) as server:
        backend = backend_for(server, max_connections=2, acquire_timeout=10)
        batches = [Batch(1000 * number, width) for number in range(12)]
        for batch in batches:
            before = len(server.accepted)
            thread = threading.Thread(target=send_until_killed, args=(backend, batch))
            thread.start()
            # So that it comes at another point each time, first of all in the first message.
            wanted = before + choose.randrange(5)
            assert server.wait_for(lambda wanted=wanted: len(server.accepted) >= wanted)
            while thread.is_alive():
                if not batch.is_killed:  # it may have come where Python lets no exception out
                    kill(thread)
                thread.join(0.2)
        assert backend.send_messages([message(99999)]) == 1
        # As long as a status keeps the traceback of what killed a thread, it may keep whom a place was lent to.
        # One that was killed on the way to `send_messages` has none.
        statuses = [(mail.to[0], status_of(mail)) for batch in batches for mail in batch.mails]
        told = [(to, status and status.outcome) for to, status in statuses]
        del statuses
        batches.clear()
        del batch, thread
        gc.collect()
        backend.pool.tidy()
        stats = backend.pool.stats()
        assert (stats.busy, stats.connecting, stats.waiting) == (0, 0, 0)
        assert server.wait_for(lambda: server.open_now == server.idle_now == stats.idle)
        taken = collections.Counter(each.recipients[0] for each in server.accepted)
        allowed = {"accepted": {1}, "unknown": {0, 1}, "not_sent": {0}, None: {0}}
        assert [(to, outcome) for to, outcome in told if taken[to] not in allowed[outcome]] == []
        assert all(each.content.endswith(b"Hello\r\n") for each in server.accepted)
