"""Real signals at random moments, some hundred sends, counted at the server: what no tracer of lines can do.

A tracer strikes where a line begins. A signal strikes inside an expression too: between the system call that took the
end of a message and the assignment of what it returned, or inside Python's own ssl.py.
"""

import gc
import logging
import os
import random
import signal
import ssl
import sys
import threading

import pytest

from django_smtp_pool import signals
from tests.batches.ledger import QUIET, misreported, settled
from tests.handlers import handling, ring
from tests.interrupts import KINDS
from tests.mailing import backend_for, message
from tests.servers import Fault, FaultServer, faults
from tests.servers.certificates import certificates

ROUNDS = 2000 if os.environ.get("NIGHTLY") else 30  # of each of 32 kinds
ALL_KINDS = {**KINDS, "tls": lambda: ssl.SSLWantReadError("mine")}


class Alarm:
    """A handler that raises once each time it is set, and knows what it raised."""

    def __init__(self, make):
        self._make = make
        self.raised = None

    def __call__(self, number, frame):
        self.raised = self._make()
        raise self.raised

    def during(self, work, delay):
        """Do some work, with a signal after so many seconds; return what came of it."""
        self.raised = None
        try:
            signal.setitimer(signal.ITIMER_REAL, delay)
            try:
                return work()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except BaseException as error:
            return error


@pytest.fixture
def unraisable(monkeypatch):
    """Return what Python itself could not raise: in a finaliser, say."""
    found = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraised: found.append(unraised.exc_value))
    yield found
    gc.collect()


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.timeout(3600 if os.environ.get("NIGHTLY") else 120)
@pytest.mark.parametrize("width", [1, 5], ids=["single", "batch"])
@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_an_alarm_at_any_moment(unraisable, kind, width, tls):
    """It is never swallowed nor taken for the network's, no message goes out twice, and each has a true outcome."""
    choose, alarm, struck, wrong, sent = random.Random(kind), Alarm(ALL_KINDS[kind]), 0, [], []
    secure = {"implicit_tls": certificates().server_context("expired")} if tls else {}
    options = {"use_ssl": True, "tls_options": {"verify": False}} if tls else {}
    with FaultServer(chunking=True, **secure) as server, handling(alarm, signal.SIGALRM):
        backend = backend_for(server, max_connections=3, acquire_timeout=10, **options)
        # The first one looks up our own name: `socket.getfqdn` swallows what is raised in it.
        assert backend.send_messages([message()]) == 1
        for number in range(ROUNDS):
            batch = [message(to=[f"to{number}-{each}@example.com"]) for each in range(width)]
            sent += batch
            # From 0.1 to 4 ms, short ones as often as long ones: one message takes less than 1 ms, a handshake more.
            delay = 0.0001 * 40 ** choose.random() * (2 if width > 1 else 1)
            came = alarm.during(lambda batch=batch: backend.send_messages(batch), delay)
            struck += alarm.raised is not None
            expected = alarm.raised or width
            if came is not expected and came != expected and alarm.raised not in unraisable:
                wrong.append((came, alarm.raised))
            came = expected = None
        assert wrong == []
        assert struck
        assert backend.send_messages([message()]) == 1
        found = settled_and_misreported(server, backend, sent)
    assert found == (QUIET, [])


def settled_and_misreported(server, backend, sent):
    """Return what the pool holds when all is over, and what was told wrongly."""
    for mail in sent:
        status = getattr(mail, "smtp_pool_status", None)
        if status is not None and status.error is not None:
            status.error.__traceback__ = None  # it leads to whoever had a connection
    gc.collect()
    backend.pool.tidy()
    numbers = settled(server, backend.pool)
    return numbers, misreported(server, sent)


@pytest.mark.parametrize("struck", ["conf.settings_now", "backend.PooledBackend._own_context"])
def test_an_alarm_while_a_receiver_makes_a_mailer(monkeypatch, server, struck):
    """The frames of a mailer in the making are not shown, since they hold the password; what raised is known still."""
    error = TimeoutError("mine")

    def handler(number, frame):
        raise error

    def mails(**told):
        monkeypatch.setattr(f"django_smtp_pool.{struck}", lambda *_: ring())
        backend_for(server).send_messages([message(2)])

    backend = backend_for(server)
    signals.message_sent.connect(mails)
    try:
        with handling(handler), pytest.raises(TimeoutError, match="mine") as caught:
            backend.send_messages([message()])
    finally:
        signals.message_sent.disconnect(mails)
    assert caught.value is error


class Ringing(logging.Handler):
    """A log handler in which the alarm rings, at one of the records of the main thread."""

    def __init__(self, at):
        super().__init__()
        self.left = at

    def emit(self, record):
        if threading.current_thread() is threading.main_thread():
            self.left -= 1
            if self.left == -1:
                ring()


def in_receiver(name):
    def rings(**told):
        ring()

    getattr(signals, name).connect(rings, weak=False)
    return lambda: getattr(signals, name).disconnect(rings)


def in_log_handler(at):
    logger, handler = logging.getLogger("django_smtp_pool"), Ringing(at)
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)

    def end():
        logger.removeHandler(handler)
        logger.setLevel(level)

    return end


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("width", [1, 3], ids=["single", "batch"])
@pytest.mark.parametrize(
    ("guest", "where", "outcome"),
    [
        (in_receiver, "message_sent", "accepted"),
        (in_receiver, "message_failed", "refused"),
        (in_receiver, "connection_opened", "accepted"),
        (in_log_handler, 0, "accepted"),
        (in_log_handler, 1, "accepted"),
        (in_log_handler, 0, "refused"),
        (in_log_handler, 1, "refused"),
    ],
)
def test_an_alarm_in_a_guests_code_comes_out_after_the_outcome_is_known(guest, where, outcome, width):
    """The guards around receivers and log handlers keep in what those raise, and nothing else."""
    error = TimeoutError("mine")

    def handler(number, frame):
        raise error

    refusing = Fault(at="mail", do=faults.code_5xx, times=None) if outcome == "refused" else None
    with FaultServer(fault=refusing) as server, handling(handler):
        backend = backend_for(server, max_connections=1)
        batch = [message(to=[f"to{number}@example.com"]) for number in range(width)]
        end = guest(where)
        try:
            with pytest.raises(TimeoutError, match="mine") as caught:
                backend.send_messages(batch)
        finally:
            end()
        assert caught.value is error
        if where in ("message_sent", "message_failed"):
            assert batch[0].smtp_pool_status.outcome == outcome
        assert settled_and_misreported(server, backend, batch) == (QUIET, [])
        server.fault = None
        assert backend.send_messages([message()]) == 1
