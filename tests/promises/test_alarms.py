"""Real signals at random moments, some hundred sends, counted at the server: what no tracer of lines can do.

A tracer strikes where a line begins. A signal strikes inside an expression too: between the system call that took the
end of a message and the assignment of what it returned, or inside Python's own ssl.py.
"""

import gc
import os
import random
import signal
import ssl
import sys

import pytest

from django_smtp_pool.signals import message_sent
from tests.batches.ledger import QUIET, misreported, settled
from tests.handlers import handling, ring
from tests.interrupts import KINDS
from tests.mailing import backend_for, message
from tests.servers import FaultServer
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
    message_sent.connect(mails)
    try:
        with handling(handler), pytest.raises(TimeoutError, match="mine") as caught:
            backend.send_messages([message()])
    finally:
        message_sent.disconnect(mails)
    assert caught.value is error
