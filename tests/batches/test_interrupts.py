"""Ctrl-C in the middle of a batch: no half message at the server, no connection lost, and the truth on each message."""

import contextlib
import gc
import itertools
import logging
import threading

import pytest

from django_smtp_pool.core.clock import SystemClock
from django_smtp_pool.core.delivery import batch as batches
from django_smtp_pool.core.delivery import retry as judgement
from django_smtp_pool.core.events.events import Attempted, Closed, DialFailed, Finished, Line, Observer, Opened
from django_smtp_pool.core.pool.pool import Pool
from tests.batches.ledger import QUIET, messages, misreported, outcomes, settled
from tests.core.fakes import Diary, in_thread
from tests.interrupts import Tracer
from tests.servers import Fault, FaultServer, faults

COUNT = 12


def check_interrupted(server, backend, batch, sending):
    """See that an interrupted batch left everything in order, and that the next one is none the worse for it."""
    with pytest.raises(KeyboardInterrupt):
        sending()
    assert settled(server, backend.pool) == QUIET
    assert misreported(server, batch) == []
    before = len(server.accepted)
    fresh = messages(3)
    assert backend.send_messages(fresh) == 3
    assert outcomes(fresh) == ["accepted"] * 3
    assert len(server.accepted) == before + 3


@pytest.mark.parametrize("at", [0, 1, 5, 11])
def test_in_the_generator(server, mailer, at):
    batch = messages(COUNT)

    def mailing():
        for number, mail in enumerate(batch):
            if number == at:
                raise KeyboardInterrupt
            yield mail

    backend = mailer(server)
    check_interrupted(server, backend, batch, lambda: backend.send_messages(mailing()))


@pytest.mark.parametrize("at", [0, 1, 5, 11])
def test_in_rendering(server, mailer, at):
    batch = messages(COUNT)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    batch[at].message = interrupt
    backend = mailer(server)
    check_interrupted(server, backend, batch, lambda: backend.send_messages(batch))
    assert batch[at].smtp_pool_status is None


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("at", [1, 4, COUNT])
def test_in_a_receiver(server, mailer, receive, at, width):
    told = []

    def receiver(message, **_):
        told.append(message)
        if len(told) == at:
            raise KeyboardInterrupt

    batch = messages(COUNT)
    backend = mailer(server, batch_connections=width)
    receive(receiver)
    check_interrupted(server, backend, batch, lambda: backend.send_messages(batch))
    assert outcomes(batch).count("accepted") >= at


class Interrupting(Observer):
    """Somebody who watches and is interrupted at the n-th event of a kind."""

    def __init__(self, kind, at):
        self._kind, self._left = kind, at

    def notice(self, event):
        if isinstance(event, self._kind):
            self._left -= 1
            if self._left == 0:
                raise KeyboardInterrupt


@pytest.mark.parametrize("kind", [Opened, Finished, Line], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("at", [1, 2, 3])
def test_in_an_observer(server, mailer, kind, at):
    batch = messages(10 * COUNT)  # so that it does not end before the third connection is open
    server.hold("banner")  # so that a second and a third connection are needed
    backend = mailer(server, observer=Interrupting(kind, at), debug=True, max_connections=3)

    def sending():
        work = in_thread(backend.send_messages, batch)
        assert server.wait_for(lambda: server.held == 3)
        server.release()
        work.join()

    check_interrupted(server, backend, batch, sending)


@pytest.mark.parametrize("at", [*range(4, 40, 3), 60])
def test_at_any_line_of_the_dialogue(server, mailer, at):
    batch = messages(COUNT)
    backend = mailer(server, observer=Interrupting(Line, at), debug=True, max_connections=3)
    check_interrupted(server, backend, batch, lambda: backend.send_messages(batch))


@pytest.mark.parametrize("kind", [Closed, DialFailed, Attempted], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("at", [1, 2])
def test_in_an_observer_of_trouble(mailer, kind, at):
    trouble = [
        Fault(at="data", do=faults.reset, times=4, skip=2),
        Fault(at="banner", do=faults.code_4xx, times=3, skip=2),
    ]
    with FaultServer(fault=trouble) as server:
        batch = messages(COUNT)
        backend = mailer(server, observer=Interrupting(kind, at), max_connections=4)
        check_interrupted(server, backend, batch, lambda: backend.send_messages(batch))


class InTheBooks(Tracer):
    """Interrupts at the n-th line by which a batch moves a message that has been tried."""

    PLACES = (
        "_work",
        "_may_start",
        "_deliver",
        "_no_connection",
        "_stop",
        "_wake_worker",
        "_offer",
        "_tell",
        "_report",
    )

    def __init__(self, at, diary):
        self._left, self._diary = at, diary
        self.where = None

    def look(self, frame, event):
        concerns_us = frame.f_code.co_filename == batches.__file__ and frame.f_code.co_name in self.PLACES
        if concerns_us and self.where is None and self._diary.of(Attempted):
            self._left -= 1
            if self._left == 0:
                self.where = f"{frame.f_code.co_name}:{frame.f_lineno}"
                raise KeyboardInterrupt


# Where an interrupt makes everybody lose a socket, the interpreter closes it, and says so: here, and in no other test.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize(
    "fault", [Fault(at="mail", do=faults.reset), Fault(at="banner", do=faults.code_4xx)], ids=["message", "dial"]
)
def test_a_message_that_has_been_tried_is_told_of_wherever_the_interrupt_comes(mailer, monkeypatch, fault):
    monkeypatch.setattr(judgement, "FIRST_PAUSE", 0.001)
    untold = []
    for at in itertools.count(1):
        diary, batch = Diary(), messages(1)
        tracer = InTheBooks(at, diary)
        with FaultServer(fault=fault) as server:
            backend = mailer(server, observer=diary)
            with contextlib.suppress(KeyboardInterrupt):
                tracer.run(backend.send_messages, iter(batch))
            if batch[0].smtp_pool_status is None:
                untold.append(tracer.where)
        if tracer.where is None:
            break
    gc.collect()
    assert at > 25
    assert untold == []


def test_in_a_log_handler(server, mailer, caplog):
    from django_smtp_pool.core.events.logs import LogObserver

    class Handler(logging.Handler):
        left = 4

        def emit(self, record):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    logger, handler = logging.getLogger("django_smtp_pool.sender"), Handler()
    logger.addHandler(handler)
    batch = messages(COUNT)
    try:
        backend = mailer(server, observer=LogObserver())
        with caplog.at_level(logging.DEBUG, logger.name):
            check_interrupted(server, backend, batch, lambda: backend.send_messages(batch))
    finally:
        logger.removeHandler(handler)


class InterruptingClock(SystemClock):
    """A clock at whose n-th question, or wait, the user loses patience; in one thread only."""

    def __init__(self, at, *, before):
        self._left, self._before = at, before
        self._thread = threading.get_ident()

    def monotonic(self):
        self._count(before=True)
        return super().monotonic()

    def wait(self, block, timeout):
        is_time = self._count(before=self._before)
        answer = super().wait(block, timeout)
        if is_time:
            raise KeyboardInterrupt
        return answer

    def _count(self, *, before):
        if threading.get_ident() != self._thread:
            return False
        self._left -= 1
        if self._left == 0 and before:
            raise KeyboardInterrupt
        return self._left == 0


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("at", [*range(5, 150, 6), 200, 250])
def test_while_waiting(server, mailer, at, before):
    batch = messages(3 * COUNT)
    backend = mailer(server, clock=InterruptingClock(at, before=before), max_connections=3)
    check_interrupted(server, backend, batch, lambda: backend.send_messages(batch))


def test_while_every_server_works_on_the_verdict(server, mailer):
    batch = messages(COUNT)

    class Clock(SystemClock):
        def wait(self, block, timeout):
            if server.held == 3:
                raise KeyboardInterrupt
            return super().wait(block, min(timeout, 0.01))

    server.hold("end")
    backend = mailer(server, clock=Clock(), max_connections=3)
    with pytest.raises(KeyboardInterrupt):
        backend.send_messages(batch)
    assert sorted(filter(None, outcomes(batch))) == ["unknown"] * 3
    server.release()
    assert server.wait_for(lambda: server.open_now == 0)
    assert misreported(server, batch) == []


def test_in_the_middle_of_a_body(mailer):
    class Clock(SystemClock):
        def wait(self, block, timeout):
            if server.held == 2:
                raise KeyboardInterrupt
            return super().wait(block, min(timeout, 0.01))

    with FaultServer(receive_buffer=65536) as server:
        batch = messages(4, attachments=[("large.bin", bytes(6_000_000), "application/octet-stream")])
        server.hold("body")
        backend = mailer(server, clock=Clock(), max_connections=2)
        with pytest.raises(KeyboardInterrupt):
            backend.send_messages(iter(batch))
        assert set(outcomes(batch)) == {"not_sent", None}
        server.release()
        assert settled(server, backend.pool) == QUIET
        assert server.accepted == []


def test_while_standing_in_line(server, mailer):
    main = threading.get_ident()

    class Clock(SystemClock):
        def wait(self, block, timeout):
            if threading.get_ident() == main and backend.pool.stats().waiting:
                raise KeyboardInterrupt
            return super().wait(block, timeout)

    server.hold("data")
    backend = mailer(server, clock=Clock(), max_connections=1)
    first = in_thread(backend.send_messages, messages(1))
    assert server.wait_for(lambda: server.held == 1)
    batch = messages(4)
    with pytest.raises(KeyboardInterrupt):
        backend.send_messages(batch)
    assert outcomes(batch) == [None] * 4
    server.release()
    assert first.join() == 1
    assert settled(server, backend.pool) == QUIET


@pytest.mark.parametrize("where", ["take_back", "opened", "request"])
@pytest.mark.parametrize("at", [1, 3])
def test_in_the_pool(server, mailer, monkeypatch, where, at):
    # Each of the three connections is asked for, opened and given back once at least, and may be kept in between.
    original, left = getattr(Pool, where), [at]

    def interrupted(self, *args, **kwargs):
        original(self, *args, **kwargs)
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(Pool, where, interrupted)
    batch = messages(COUNT)
    server.hold("banner")  # so that a second and a third connection are needed
    backend = mailer(server, max_connections=3)

    def sending():
        work = in_thread(backend.send_messages, batch)
        if where != "request":
            assert server.wait_for(lambda: server.held == 3)
        server.release()
        work.join()

    check_interrupted(server, backend, batch, sending)
