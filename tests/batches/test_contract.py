"""What Django promises of send_messages(), and what we add to it, when the messages go side by side."""

import smtplib

import pytest
from django.core.mail import EmailMessage

from django_smtp_pool import DeliveryUnknown
from django_smtp_pool.backend import PooledBackend
from django_smtp_pool.core.errors import PoolClosed, PoolFull, PoolTimeout
from django_smtp_pool.core.pool.learning import FIRST_PAUSE
from django_smtp_pool.core.pool.pool import Pool
from tests.batches.ledger import (
    QUIET,
    address_of,
    messages,
    misreported,
    order_of,
    outcomes,
    settled,
    taken,
    until_it_waits,
)
from tests.clocks import ManualClock
from tests.core.fakes import in_thread, until
from tests.mailing import backend_for, message
from tests.servers import Fault, FaultServer, faults

BAD = "no address at all"


def refusing(*numbers):
    """Return the option of a server that knows nobody by these numbers."""
    return {address_of(number): "550 5.1.1 no such user" for number in numbers}


@pytest.mark.parametrize("nothing", [[], (), iter([]), (each for each in [])], ids=["list", "tuple", "iter", "gen"])
def test_nothing_to_send(server, mailer, nothing):
    assert mailer(server).send_messages(nothing) == 0
    assert server.connections == 0


@pytest.mark.parametrize("as_what", [list, tuple, iter, lambda batch: (each for each in batch)])
def test_messages_without_recipients_are_passed_over(server, mailer, as_what):
    batch = messages(6)
    batch[2] = message(2, to=[])
    batch[5] = message(5, to=[])
    assert mailer(server).send_messages(as_what(batch)) == 4
    assert outcomes(batch) == ["accepted", "accepted", None, "accepted", "accepted", None]
    assert misreported(server, batch[:2]) == []


def test_only_messages_without_recipients(server, mailer):
    assert mailer(server).send_messages([message(to=[]) for _ in range(3)]) == 0
    assert server.connections == 0


def test_the_batch_goes_on_after_refusals_and_raises_the_first_by_index(mailer):
    with FaultServer(refuse_recipients=refusing(3, 7, 19)) as server:
        backend, batch = mailer(server), messages(20)
        with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
            backend.send_messages(batch)
        assert list(caught.value.failures) == [3, 7, 19]
        assert caught.value is caught.value.failures[3]
        assert list(caught.value.recipients) == [address_of(3)]
        assert outcomes(batch) == ["refused" if n in (3, 7, 19) else "accepted" for n in range(20)]
        assert misreported(server, batch) == []
        assert settled(server, backend.pool) == QUIET


def test_fail_silently_counts_what_was_accepted(mailer):
    with FaultServer(refuse_recipients=refusing(0, 4)) as server:
        batch = messages(10)
        assert mailer(server, fail_silently=True).send_messages(batch) == 8
        assert outcomes(batch).count("refused") == 2


def test_messages_that_cannot_be_rendered_are_failures_of_their_own(mailer):
    with FaultServer(refuse_recipients=refusing(6)) as server:
        batch = messages(10)
        batch[4] = message(4, to=[address_of(4)], subject="a\nb")
        batch[8] = message(8, to=[BAD])
        with pytest.raises(ValueError, match=r"(?i)newline|linefeed") as caught:
            mailer(server).send_messages(batch)
        assert [type(each).__name__ for each in caught.value.failures.values()] == [
            type(caught.value).__name__, "RecipientsRefused", "ValueError",
        ]  # fmt: skip
        assert list(caught.value.failures) == [4, 6, 8]
        assert [n for n, outcome in enumerate(outcomes(batch)) if outcome == "not_sent"] == [4, 8]
        assert len(server.accepted) == 7
        assert misreported(server, batch) == []


def test_fail_silently_does_not_hide_what_is_no_fault_of_the_network(server, mailer):
    batch = messages(5)
    batch[3] = message(3, to=[address_of(3)], subject="a\nb")
    with pytest.raises(ValueError, match=r"(?i)newline|linefeed"):
        mailer(server, fail_silently=True).send_messages(batch)
    assert outcomes(batch) == ["accepted"] * 3 + ["not_sent", "accepted"]


class Unreadable(EmailMessage):
    """A message with an attachment that fails when it is to be serialised."""

    error = None

    def message(self, **how):
        raise self.error


@pytest.mark.parametrize(
    "error", [FileNotFoundError("report.pdf"), RuntimeError("half a file"), RecursionError("deep")]
)
@pytest.mark.parametrize("silently", [False, True])
def test_an_attachment_that_cannot_be_serialised_harms_no_other_message(server, mailer, error, silently):
    batch = messages(6)
    batch[2] = Unreadable("Report", "x", "from@example.com", [address_of(2)])
    batch[2].error = error
    with pytest.raises((type(error), ValueError)) as caught:
        mailer(server, fail_silently=silently).send_messages(batch)
    assert list(caught.value.failures) == [2]
    assert outcomes(batch) == ["accepted"] * 2 + ["not_sent"] + ["accepted"] * 3
    assert misreported(server, batch) == []
    with pytest.raises((type(error), ValueError)):
        mailer(server, fail_silently=silently).send_messages(batch[2:3])


def test_an_error_of_the_generator_lets_what_is_under_way_finish(server, mailer):
    batch = messages(5)

    def broken():
        yield from batch
        raise LookupError("the database has gone")

    server.hold("end")
    backend = mailer(server)
    sending = in_thread(backend.send_messages, broken())
    assert server.wait_for(lambda: server.held == 5)
    server.release()
    with pytest.raises(LookupError, match="gone"):
        sending.join()
    assert outcomes(batch) == ["accepted"] * 5
    assert set(taken(server).values()) == {1}
    assert settled(server, backend.pool) == QUIET


def test_doubt_is_about_one_message(mailer):
    with FaultServer(fault=Fault(at="end", do=faults.accepted_then(faults.reset), skip=2)) as server:
        batch = messages(12)
        with pytest.raises(DeliveryUnknown) as caught:
            mailer(server).send_messages(batch)
        assert len(caught.value.failures) == 1
        assert sorted(outcomes(batch)) == ["accepted"] * 11 + ["unknown"]
        assert set(taken(server).values()) == {1}


def test_the_batch_stops_where_no_connection_can_be_had(server, mailer):
    server.refuse()
    batch = messages(20)
    with pytest.raises(ConnectionRefusedError) as caught:
        mailer(server).send_messages(batch)
    assert outcomes(batch)[0] == "not_sent"
    assert set(outcomes(batch)[1:]) == {None}
    assert list(caught.value.failures) == [0]


def test_a_server_that_goes_away_in_the_middle_stops_the_batch(server, mailer):
    batch = messages(40)

    def mailing():
        for number, mail in enumerate(batch):
            if number == 20:
                server.refuse()
                server.fault = Fault(at=("mail", "next", "rcpt", "data"), do=faults.reset, times=None)
            yield mail

    backend = mailer(server)
    with pytest.raises(OSError) as caught:  # noqa: PT011 - connection refused, or lost and not to be had again
        backend.send_messages(mailing())
    assert misreported(server, batch) == []
    told = outcomes(batch)
    assert told.count("accepted") == len(server.accepted)
    assert None in told, "the rest is left alone"
    assert sorted(caught.value.failures) == [n for n, outcome in enumerate(told) if outcome == "not_sent"]
    assert settled(server, backend.pool) == QUIET


def test_a_pool_closed_in_the_middle_stops_the_batch(server, mailer):
    batch = messages(40)
    backend = mailer(server)

    def mailing():
        for number, mail in enumerate(batch):
            if number == 20:
                backend.pool.close(timeout=0)
            yield mail

    with pytest.raises(PoolClosed):
        backend.send_messages(mailing())
    assert misreported(server, batch) == []
    assert None in outcomes(batch)
    fresh = messages(3)
    assert backend.send_messages(fresh) == 3  # over a pool of its own


def test_closing_the_pool_in_the_middle_does_not_wait_for_the_thread_itself(server, mailer):
    backend = mailer(server)

    def mailing():
        for number, mail in enumerate(messages(40)):
            if number == 20:
                server.hold("end")
                backend.pool.close(timeout=3600)
                server.release()
            yield mail

    with pytest.raises(PoolClosed):
        backend.send_messages(mailing())


def test_a_full_line_stops_the_batch_that_has_nothing_yet(server, mailer):
    backend = mailer(server, max_connections=1, max_waiting=1)
    server.hold("data")
    first = in_thread(backend.send_messages, [message(to=[address_of(100)])])
    assert server.wait_for(lambda: server.held == 1)
    second = in_thread(backend.send_messages, [message(to=[address_of(101)])])
    until(lambda: backend.pool.stats().waiting == 1)
    batch = messages(5)
    with pytest.raises(PoolFull):
        backend.send_messages(batch)
    assert outcomes(batch) == ["not_sent", None, None, None, None]
    server.release()
    assert (first.join(), second.join()) == (1, 1)


def test_a_full_line_is_tried_again_by_a_batch_that_leaves_its_connection_idle(mailer, monkeypatch):
    """The server asks for a pause, somebody else has the only place in line: nobody says when he has gone."""
    turned_away, singles = [], []
    request = Pool.request

    def noting(pool, waiter, **how):
        try:
            request(pool, waiter, **how)
        except PoolFull as full:
            turned_away.append(full)
            raise

    monkeypatch.setattr(Pool, "request", noting)
    clock, batch = ManualClock(), messages(3)

    def mailing():
        for number, mail in enumerate(batch):
            if number == 1:
                assert server.wait_for(lambda: server.held == 1)
                singles.append(in_thread(backend.send_messages, [message(to=[address_of(100)])]))
                until(lambda: backend.pool.stats().waiting == 1)
                server.release()
            yield mail

    with FaultServer(fault=Fault(at="mail", do=faults.reply("454 4.3.2 later"))) as server:
        backend = mailer(server, clock=clock, max_connections=1, max_waiting=1, delivery_timeout=1_000_000)
        server.hold("mail")
        sending = in_thread(backend.send_messages, mailing())
        until(lambda: turned_away)
        until_it_waits(clock)
        clock.advance(FIRST_PAUSE)
        assert singles[0].join() == 1
        until(lambda: clock.advance(0.05) or sending.is_done)
        with pytest.raises(smtplib.SMTPSenderRefused):
            sending.join()
        assert outcomes(batch) == ["refused", "accepted", "accepted"]


def test_a_batch_that_gets_no_connection_in_time(server, mailer):
    backend = mailer(server, max_connections=1, acquire_timeout=0.05)
    server.hold("data")
    first = in_thread(backend.send_messages, [message(to=[address_of(100)])])
    assert server.wait_for(lambda: server.held == 1)
    batch = messages(3)
    with pytest.raises(PoolTimeout, match="became free within"):
        backend.send_messages(batch)
    assert outcomes(batch) == ["not_sent", None, None]
    server.release()
    assert first.join() == 1
    assert settled(server, backend.pool) == QUIET


def test_the_statuses_of_an_earlier_send_are_forgotten(server, mailer):
    batch = messages(6)
    assert mailer(server).send_messages(batch) == 6
    server.refuse()
    server.close_idle()
    with pytest.raises(ConnectionRefusedError):
        mailer(server).send_messages(batch)
    assert outcomes(batch) == ["not_sent", None, None, None, None, None]


def test_the_order_is_kept_across_tries_on_one_connection(mailer):
    trouble = [
        Fault(at="mail", do=faults.reset, skip=2, times=3),
        Fault(at="data", do=faults.code_421, skip=6, times=2),
        Fault(at="banner", do=faults.code_4xx, skip=1),
    ]
    with FaultServer(fault=trouble) as server:
        batch = messages(20)
        assert mailer(server, batch_connections=1).send_messages(iter(batch)) == 20
        assert order_of(server) == list(range(20))
        assert len(server.struck) == 6
        assert max(mail.smtp_pool_status.attempts for mail in batch) > 1


class Counting(PooledBackend):
    """A subclass that wants to see each message."""

    seen = ()

    def _send(self, email_message):
        self.seen = (*self.seen, email_message.to[0])
        return super()._send(email_message)


def test_a_subclass_that_overrides_send_is_asked_for_each_message_in_order(server):
    backend = backend_for(server, Counting)
    assert backend.send_messages(messages(8)) == 8
    assert list(backend.seen) == [address_of(number) for number in range(8)]
    assert order_of(server) == list(range(8))
    assert server.connections == 1


def test_a_partial_refusal_is_an_acceptance(mailer):
    with FaultServer(refuse_recipients=refusing(1)) as server:
        batch = [message(n, to=[address_of(n), address_of(n + 1)]) for n in range(4)]
        with pytest.raises(smtplib.SMTPException) as caught:
            mailer(server, on_partial_refusal="raise").send_messages(batch)
        assert list(caught.value.failures) == [0, 1]
        assert outcomes(batch) == ["accepted"] * 4
        assert mailer(server).send_messages(batch) == 4
