"""An interrupt at any line between `send_messages()` and the socket: the truth on each message, and nothing leaks."""

import contextlib
import gc
import os
import signal
from itertools import islice

import pytest

from django_smtp_pool.core.clock import SystemClock
from django_smtp_pool.core.events.events import Observer
from django_smtp_pool.core.net import sockets as net_sockets
from django_smtp_pool.registry import Registry
from tests.batches.ledger import QUIET, messages, misreported
from tests.core.fakes import until
from tests.handlers import handling
from tests.interrupts import KINDS, Interrupting, Route, by_handler
from tests.mailing import backend_for, message
from tests.servers import FaultServer

# All lines in the nightly run, some of them in every run; never the same number of steps apart.
SOME = None if os.environ.get("NIGHTLY") else 20

# name: (options of the server, of the backend, messages before, how those connections end, messages)
SCENES = {
    "fresh": ({}, {}, 0, None, 1),
    "reused": ({}, {}, 1, None, 1),
    "one-shot": ({"chunking": True}, {}, 1, None, 1),
    "stale": ({}, {}, 1, "fin", 1),
    "batch": ({}, {"max_connections": 3}, 1, None, 4),
}


def open_sockets():
    """Return how many sockets the package has open."""
    sockets = (reference() for reference in net_sockets._sockets.valuerefs())  # one step: other threads add to them
    return sum(sock is not None and sock.fileno() >= 0 for sock in sockets)


class Deaf(Observer):
    """An observer that hears nothing: what struck in one that does would be its own affair."""

    def hears(self, kind):
        return False


class Scene:
    """A server and a backend, ready to send."""

    def __init__(self, monkeypatch, server, name):
        _, options, before, way, count = SCENES[name]
        self.server = server
        self.registry = Registry(clock=SystemClock(), observer=Deaf())
        monkeypatch.setattr("django_smtp_pool.backend.registry", self.registry)
        self.backend = backend_for(server, idle_timeout=0, max_lifetime=0, acquire_timeout=5, **options)
        for number in range(before):
            self.backend.send_messages([message(number)])
            assert server.wait_for(lambda: server.idle_now == 1)
        if way:
            server.close_idle(way)
        self.batch = messages(count)

    def send(self, tracer):
        """Send the batch under a tracer; return what came of it."""
        try:
            return tracer.run(self.backend.send_messages, self.batch)
        except BaseException as error:
            return error

    def leftovers(self):
        """Return what is not as it should be when all is over; whoever asks the pool next sets it right."""
        wrong = misreported(self.server, self.batch)
        for mail in self.batch:
            mail.smtp_pool_status = None  # its error has a traceback, and with that whoever had a connection
        gc.collect()
        pool = self.backend.pool
        pool.tidy()
        stats = pool.stats()
        gone = self.server.wait_for(lambda: self.server.open_now == self.server.idle_now <= stats.idle, 5)
        numbers = {"connecting": stats.connecting, "busy": stats.busy, "waiting": stats.waiting}
        with contextlib.suppress(AssertionError):  # the server's end is gone first
            until(lambda: open_sockets() <= stats.idle, 5)
        return [
            *([f"{numbers}, {stats.idle} idle"] if numbers != QUIET else []),
            *([] if gone else [f"{self.server.open_now} open at the server, {stats.idle} in the pool"]),
            *([f"{open_sockets()} sockets"] if open_sockets() > stats.idle else []),
            *wrong,
        ]


@pytest.fixture(autouse=True)
def _nothing_old_is_collected():
    """Let the garbage collector look only at what a test makes: it is called after each interrupt."""
    gc.freeze()
    with handling(signal.SIG_DFL):
        yield
    gc.collect()  # here, where a socket that Python closes is no news, and not in another test
    gc.unfreeze()


@contextlib.contextmanager
def scene(monkeypatch, name):
    with FaultServer(**SCENES[name][0]) as server:
        made = Scene(monkeypatch, server, name)
        try:
            yield made
        finally:  # the next test counts sockets
            made.registry.at_exit()


# A socket that nobody had taken over yet is closed by Python itself, which says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:unclosed:ResourceWarning")
@pytest.mark.timeout(3600 if SOME is None else 120)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SCENES)
def test_at_any_line(monkeypatch, name, kind):
    """Wherever it strikes: it reaches the caller, each message has its true outcome, and no place is taken."""
    with scene(monkeypatch, name) as made:
        route = Route()
        made.send(route)
        assert made.leftovers() == []
    steps = sorted(route.first.values())
    assert len(steps) > 300
    stride = 1 if SOME is None else len(steps) // SOME
    found = {}
    for step in islice(steps, list(KINDS).index(kind), None, stride):
        own = KINDS[kind]()
        is_networks_type = isinstance(own, OSError) and own.errno is not None
        tracer = Interrupting(step, by_handler(own) if is_networks_type else own)
        with scene(monkeypatch, name) as made:
            came = made.send(tracer)
            problems = [f"the caller got {came!r}"] if tracer.where and came is not own else []
            del came
            own.__traceback__ = own.__context__ = None  # they lead to the frames that it came through
            if problems := problems + made.leftovers():
                found[tracer.where] = problems
            assert made.backend.send_messages([message(99)]) == 1  # whatever was left, the next one is none the worse
    assert found == {}
