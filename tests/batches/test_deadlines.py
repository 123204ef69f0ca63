"""The caller's code shares the thread with the clock: it may take long, and nobody else pays for it."""

import threading

import pytest

from django_smtp_pool.core.errors import ReplyTimeout
from django_smtp_pool.core.events.events import Closed, Observer, Opened
from tests.batches.ledger import messages, misreported, outcomes, server_has_answered, taken
from tests.clocks import ManualClock, ServersClock
from tests.core.fakes import in_thread
from tests.servers import Fault, FaultServer, faults

SLOW = 70.0  # seconds: longer than any patience for a reply to a command, which is 60


def slowly(server, batch, clock, seconds=SLOW, when=lambda number: True):
    """Yield messages whose rendering takes long; the server answers meanwhile, as it would in so much time."""
    for number, mail in enumerate(batch):
        if when(number):
            server_has_answered(server)
            clock.advance(seconds)
        yield mail


@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelining", "one-by-one"])
@pytest.mark.parametrize("width", [1, 3, 10])
def test_slow_rendering_times_nobody_out(mailer, pipelining, width):
    clock = ManualClock()
    with FaultServer(pipelining=pipelining) as server:
        batch = messages(15)
        backend = mailer(server, clock=clock, max_connections=10, batch_connections=width)
        assert backend.send_messages(slowly(server, batch, clock)) == 15
        assert {mail.smtp_pool_status.attempts for mail in batch} == {1}
        assert set(taken(server).values()) == {1}
        assert clock.monotonic() >= 1000 + 15 * SLOW


def test_a_slow_receiver_times_nobody_out(server, mailer, receive):
    clock = ManualClock()

    def receiver(**_):
        server_has_answered(server)
        clock.advance(SLOW)

    receive(receiver)
    batch = messages(15)
    assert mailer(server, clock=clock, max_connections=4).send_messages(batch) == 15
    assert {mail.smtp_pool_status.attempts for mail in batch} == {1}


@pytest.mark.parametrize("kind", [Opened, Closed], ids=lambda kind: kind.__name__)
def test_slow_watchers_time_nobody_out(mailer, kind):
    """Receivers of `connection_opened` and `connection_closed`, and log handlers, run between the dialogues as well."""
    clock = ManualClock()
    sender = threading.get_ident()

    class Watcher(Observer):
        slow_at = kind

        def notice(self, event):
            if type(event) is self.slow_at and threading.get_ident() == sender:
                server_has_answered(server)
                clock.advance(2 * SLOW)  # longer than a message may take

    with FaultServer(pipelining=False) as server:
        batch = messages(15)
        backend = mailer(server, clock=clock, observer=Watcher(), max_connections=4, max_messages=2)
        assert backend.send_messages(iter(batch)) == 15
        Watcher.slow_at = None  # who closes the rest has no server to wait for
        assert {mail.smtp_pool_status.attempts for mail in batch} == {1}


def test_a_reply_that_has_arrived_meanwhile_is_read_before_the_clock(server, mailer):
    clock = ManualClock()
    batch = messages(6)

    def mailing():
        for number, mail in enumerate(batch):
            if number == 3:
                server_has_answered(server)
                clock.advance(1000)
            yield mail

    assert mailer(server, clock=clock, max_connections=2).send_messages(mailing()) == 6
    assert {mail.smtp_pool_status.attempts for mail in batch} == {1}


def test_a_place_in_line_that_was_granted_meanwhile_is_taken(server, mailer):
    clock = ManualClock()
    backend = mailer(server, clock=clock, max_connections=2)
    server.hold("data")
    singles = [in_thread(backend.send_messages, messages(1)) for _ in range(2)]
    assert server.wait_for(lambda: server.held == 2)
    batch = messages(6)

    def mailing():
        for number, mail in enumerate(batch):
            if number == 1:  # the first message stands in line
                server.release()
                assert [single.join() for single in singles] == [1, 1]
                clock.advance(SLOW)
            yield mail

    assert backend.send_messages(mailing()) == 6
    assert server.connections == 2


@pytest.mark.parametrize("width", [1, 4])
def test_a_server_that_does_not_answer_still_times_out(mailer, width):
    with FaultServer(fault=Fault(at="end", do=faults.hang, skip=2)) as server:
        batch = messages(10)
        clock = ServersClock(server)
        backend = mailer(server, clock=clock, max_connections=width)
        with pytest.raises(Exception, match="timed out") as caught:
            backend.send_messages(slowly(server, batch, clock, when=lambda number: number == 5))
        assert sorted(outcomes(batch)) == ["accepted"] * 9 + ["unknown"]
        assert list(caught.value.failures) == [outcomes(batch).index("unknown")]
        assert misreported(server, batch) == []


def test_a_server_that_never_answers_a_command_ends_the_message_and_not_the_batch(mailer):
    with FaultServer(fault=Fault(at="mail", do=faults.hang, skip=1, times=2)) as server:
        batch = messages(10)
        assert mailer(server, clock=ServersClock(server), max_connections=2).send_messages(batch) == 10
        assert max(mail.smtp_pool_status.attempts for mail in batch) >= 2


def test_the_time_of_a_message_counts_from_its_first_try(server, mailer):
    clock = ManualClock()
    batch = messages(40)
    # Each rendering takes half of what a message may take: the last one comes long after the batch began.
    backend = mailer(server, clock=clock, max_connections=2, delivery_timeout=20)
    assert backend.send_messages(slowly(server, batch, clock, seconds=10)) == 40
    assert {mail.smtp_pool_status.attempts for mail in batch} == {1}


def test_the_time_of_a_message_ends(mailer):
    with FaultServer(fault=Fault(at="data", do=faults.hang, times=None)) as server:
        batch = messages(1)
        backend = mailer(server, clock=ServersClock(server), delivery_timeout=100, timeout=30)
        with pytest.raises(ReplyTimeout):
            backend.send_messages(iter(batch))
        status = batch[0].smtp_pool_status
        assert status.outcome == "not_sent"
        assert 2 <= status.attempts <= 4, "four times thirty seconds are more than a hundred"
        assert status.sent + status.connected + status.waited <= 101
