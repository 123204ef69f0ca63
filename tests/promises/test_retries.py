"""Networks that fail a tenth of the time, connections that died while idle, and how long a caller is kept for it."""

import re
import smtplib

import pytest

from django_smtp_pool import DeliveryUnknown
from django_smtp_pool.core.drivers import blocking
from django_smtp_pool.core.events.events import Attempted, Observer
from django_smtp_pool.core.events.logs import LogObserver
from tests.clocks import LeapingClock, ServersClock
from tests.mailing import message
from tests.servers import Fault, FaultServer, RandomFaults, faults
from tests.servers.certificates import certificates

# Not "body": of a small message the dot has left by then, and nobody can tell.
BEFORE_THE_END = ("connect", "tls", "banner", "ehlo", "mail", "rcpt", "data")
COUNT = 100
NETWORK = (faults.reset, faults.fin, faults.vanish)


class Diary(Observer):
    """Writes down how long each further try had to wait."""

    def __init__(self):
        self.pauses = []

    def notice(self, event):
        if isinstance(event, Attempted):
            self.pauses.append(event.retry_after)


@pytest.fixture
def mailer(mailer):
    """Return a function that makes a backend with a clock of the test's own, or of the server's."""
    return lambda server, clock=None, observer=None, **how: mailer(
        server, clock or ServersClock(server), observer, **how
    )


@pytest.mark.parametrize("way", ["one-by-one", "batch"])
def test_nearly_everything_gets_through_a_network_that_fails_at_a_tenth_of_all_steps(mailer, way):
    """A tenth of the steps, that is half of all tries on a fresh connection."""
    context = certificates().server_context() if way == "batch" else None
    plan = RandomFaults(rate=0.1, seed=f"tenth/{way}", points=BEFORE_THE_END, choices=NETWORK)
    with FaultServer(fault=plan, implicit_tls=context) as server:
        options = {"use_ssl": context is not None, "tls_options": {"verify": False}, "max_connections": 3}
        backend = mailer(server, timeout=10, **options)
        batch = [message(number, to=[f"to{number}@example.com"]) for number in range(COUNT)]
        failed = 0
        for part in [batch] if way == "batch" else [[mail] for mail in batch]:
            try:
                backend.send_messages(part)
            except (smtplib.SMTPException, OSError) as error:
                failed += len(error.failures)
        assert len(server.struck) > 30
        taken = sorted(each.recipients[0] for each in server.accepted)
        told = sorted(mail.to[0] for mail in batch if mail.smtp_pool_status.outcome == "accepted")
        assert taken == told  # none twice, none lost
        assert failed == COUNT - len(told)
        assert len(told) >= 0.98 * COUNT


@pytest.mark.parametrize("way", ["fin", "rst", "421", "silent", "notify", "451"])
@pytest.mark.parametrize("encrypted", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("chunking", [False, True], ids=["DATA", "BDAT"])
def test_every_connection_that_died_while_idle_is_invisible(mailer, way, encrypted, chunking):
    """By BDAT too: after two seconds of rest nothing goes in one shot."""
    context = certificates().server_context() if encrypted else None
    with FaultServer(implicit_tls=context, chunking=chunking) as server:
        clock = ServersClock(server)
        backend = mailer(server, clock, use_ssl=encrypted, tls_options={"verify": False}, max_connections=3)
        for number in range(6):
            mail = message(number)
            assert backend.send_messages([mail]) == 1
            assert mail.smtp_pool_status.outcome == "accepted"
            if way == "451":
                # SES: the answer to the first command after the rest.
                timeout = faults.reply_and_close("451 4.4.2 Timeout waiting for data from client.")
                server.fault = Fault(at="next", do=timeout)
            else:
                server.close_idle(way)
            clock.advance(3)
        assert len(server.accepted) == 6
        assert backend.pool.stats().stale >= 2
        assert backend.pool.stats().messages_accepted == 6


def test_further_tries_wait_longer_each_time(mailer):
    """50 ms, doubling to two seconds, each between a half and the whole of that."""
    with FaultServer(fault=Fault(at="mail", do=faults.reset, times=None)) as server:
        diary = Diary()
        backend = mailer(server, LeapingClock(), diary, max_requeues=9)
        with pytest.raises(smtplib.SMTPServerDisconnected):
            backend.send_messages([message()])
    whole = [min(2.0, 0.05 * 2**number) for number in range(9)]
    assert len(diary.pauses) == 9
    assert all(full / 2 <= pause <= full for pause, full in zip(diary.pauses, whole, strict=True))
    assert diary.pauses != whole


@pytest.mark.parametrize("at", ["mail", "data"])
def test_all_tries_together_have_delivery_timeout(mailer, at):
    with FaultServer(fault=Fault(at=at, do=faults.hang, times=None)) as server:
        clock = ServersClock(server)
        began_at = clock.monotonic()
        backend = mailer(server, clock, delivery_timeout=45, timeout=20, max_requeues=50)
        mail = message()
        with pytest.raises(smtplib.SMTPServerDisconnected):
            backend.send_messages([mail])
        assert mail.smtp_pool_status.attempts == 3
        assert clock.monotonic() - began_at == pytest.approx(45, abs=0.5)


@pytest.mark.parametrize("at", ["connect", "banner", "ehlo", "starttls", "tls", "auth"])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("options", "seconds"), [({"timeout": 5}, 5), ({}, 30)], ids=["timeout=5", "defaults"])
def test_a_server_that_is_silent_while_a_session_is_opened_is_waited_for_once(mailer, at, count, options, seconds):
    """With Django's backend, `timeout=5` against a port that wants TLS from the first octet takes 5 seconds."""
    hang = Fault(at=at, do=faults.hang, times=None)
    with FaultServer(fault=hang, starttls=certificates().server_context(), users={"u": "p"}) as server:
        clock = ServersClock(server)
        tls = {"use_tls": True, "tls_options": {"verify": False}}
        backend = mailer(server, clock, username="u", password="p", batch_connections=1, **tls, **options)
        began_at, mails = clock.monotonic(), [message(number) for number in range(count)]
        with pytest.raises(TimeoutError):
            backend.send_messages(mails)
        waited = seconds if at != "auth" else options.get("timeout", 60)
        assert clock.monotonic() - began_at == pytest.approx(waited, abs=0.5)
        assert (mails[0].smtp_pool_status.outcome, mails[0].smtp_pool_status.attempts) == ("not_sent", 1)
        assert server.accepted == []


@pytest.mark.parametrize("count", [1, 3])
def test_timeout_bounds_the_wait_for_the_end_of_data(mailer, count):
    with FaultServer(fault=Fault(at="end", do=faults.hang)) as server:
        clock = ServersClock(server)
        backend = mailer(server, clock, timeout=5, batch_connections=1)
        began_at, mails = clock.monotonic(), [message(number) for number in range(count)]
        with pytest.raises(DeliveryUnknown):
            backend.send_messages(mails)
        assert clock.monotonic() - began_at == pytest.approx(5, abs=0.5)
        assert [mail.smtp_pool_status.outcome for mail in mails] == ["unknown", *["accepted"] * (count - 1)]


@pytest.mark.parametrize("count", [1, 3])
def test_each_further_try_is_one_warning_that_says_why_and_when(mailer, caplog, count):
    with FaultServer(fault=Fault(at="mail", do=faults.reset)) as server:
        mailer(server, LeapingClock(), LogObserver(), batch_connections=1).send_messages(
            [message(number) for number in range(count)]
        )
    (text,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    place = re.escape(f"{server.host}:{server.port}")
    assert re.fullmatch(rf"Attempt 1 to send a message by {place} failed, trying again in 0\.0\d s: .* reset .*", text)


def test_a_handler_that_keeps_records_keeps_no_frames(mailer, caplog):
    plan = [Fault(at="mail", do=faults.reset), Fault(at="end", do=faults.reset)]
    with FaultServer(fault=plan) as server, pytest.raises(DeliveryUnknown):
        mailer(server, LeapingClock(), LogObserver()).send_messages([message()])
    records = [record for record in caplog.records if record.levelname == "WARNING"]
    assert [record.getMessage().split()[0] for record in records] == ["Attempt", "Outcome"]
    assert not [value for record in records for value in record.args if isinstance(value, BaseException)]


@pytest.mark.parametrize("at", ["mail", "rcpt", "data", "end"])
@pytest.mark.parametrize("text", ["451 4.7.1 Greylisting in action, please come back later", "450 4.2.0 Greylisted"])
def test_nobody_waits_for_greylisting(mailer, at, text):
    with FaultServer(fault=Fault(at=at, do=faults.reply(text), times=None)) as server:
        clock = LeapingClock()
        mail, began_at = message(), clock.monotonic()
        with pytest.raises((smtplib.SMTPResponseException, smtplib.SMTPRecipientsRefused)):
            mailer(server, clock).send_messages([mail])
        assert (mail.smtp_pool_status.outcome, mail.smtp_pool_status.attempts) == ("refused", 1)
        assert clock.monotonic() == began_at


def step_of(server, clock, seconds):
    """Return a misbehaviour that steps the wall clock and then does what is proper."""

    def act(session, proper):
        clock.jump(seconds)
        session.say(proper)
        return int(proper[:3])

    return faults.Misbehaviour(name=f"step {seconds}", act=act, accepts=True)


@pytest.mark.parametrize("seconds", [-86400, -3600, 3600, 86400 * 365])
@pytest.mark.parametrize("at", ["banner", "ehlo", "mail", "rcpt", "data", "end"])
def test_a_step_of_the_wall_clock_breaks_no_timeout(mailer, seconds, at):
    with FaultServer() as server:
        clock = ServersClock(server)
        server.fault = Fault(at=at, do=step_of(server, clock, seconds))
        backend = mailer(server, clock, rate_limit=5, rate_delta=1)
        mails = [message(number) for number in range(3)]
        for mail in mails:
            assert backend.send_messages([mail]) == 1
        assert [mail.smtp_pool_status.attempts for mail in mails] == [1, 1, 1]
        assert len(server.accepted) == 3


@pytest.mark.parametrize("seconds", [-600, 600])
def test_a_machine_that_was_suspended_discards_what_was_idle(mailer, seconds):
    """Monotonic time stands still meanwhile, on Linux: the wall clock alone tells."""
    with FaultServer() as server:
        clock = ServersClock(server)
        backend = mailer(server, clock)
        backend.send_messages([message(1)])
        backend.send_messages([message(2)])
        assert server.connections == 1
        clock.jump(seconds)
        backend.send_messages([message(3)])
        assert (server.connections, len(server.accepted)) == (2, 3)
        assert backend.pool.stats().connections_closed == {"clock jump": 1}


def test_where_no_descriptor_is_left_nothing_is_said(server, mailer, monkeypatch):
    """What waits for the answer is made before the question: else nobody would know what became of the message."""

    def no_more(*_):
        raise OSError(24, "Too many open files")

    backend, unlucky = mailer(server), message()
    assert backend.send_messages([message()]) == 1
    with monkeypatch.context() as patch:
        patch.setattr(blocking, "Poller", no_more)
        with pytest.raises(OSError, match="Too many open files"):
            backend.send_messages([unlucky])
    assert unlucky.smtp_pool_status.outcome == "not_sent"
    assert backend.send_messages([message()]) == 1
    assert len(server.accepted) == 2
