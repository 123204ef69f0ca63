"""`message.smtp_pool_status`: what became of a message, recipient by recipient; partial refusals; the queue id."""

import logging
import pickle

import pytest

from django_smtp_pool import DeliveryUnknown, PartiallyRefused
from django_smtp_pool.core.errors import DataRefused, RecipientsRefused, SenderRefused
from django_smtp_pool.core.replies import Reply, queue_id_of
from django_smtp_pool.status import RecipientStatus
from tests.mailing import backend_for, message
from tests.servers import Fault, FaultServer, faults

ALL = ("a@example.com", "b@example.com", "c@example.com")
REFUSING = {"b@example.com": "550 5.1.1 No such user", "c@example.com": "450 4.2.0 Greylisted"}


def sent(server, *, error=None, to=ALL, **options):
    """Send one message and return its status."""
    made = message(to=to)
    backend = backend_for(server, max_requeues=0, **options)
    if error is None:
        assert backend.send_messages([made]) == 1
    else:
        with pytest.raises(error):
            backend.send_messages([made])
    return made.smtp_pool_status


def fates(status):
    return {each.address: (each.outcome, each.code, each.enhanced) for each in status.recipients.values()}


def test_accepted(server):
    status = sent(server)
    assert status.outcome == "accepted"
    assert fates(status) == dict.fromkeys(ALL, ("accepted", 250, "2.0.0"))
    assert status.accepted == ALL
    assert status.refused == {}
    assert status.queue_id == server.accepted[0].queue_id
    assert status.reply.code == 250
    assert status.error is None
    assert (status.attempts, status.reused) == (1, False)
    assert list(status.recipients) == list(ALL)


def test_timings(server):
    status = sent(server)
    assert status.waited >= 0
    assert status.connected > 0
    assert status.sent > 0
    again = sent(server)
    assert again.reused
    assert again.connected < status.connected


@pytest.mark.parametrize("pipelining", [True, False])
def test_some_recipients_refused(pipelining):
    with FaultServer(refuse_recipients=REFUSING, pipelining=pipelining) as server:
        status = sent(server)
    assert status.outcome == "accepted"
    assert fates(status) == {
        "a@example.com": ("accepted", 250, "2.0.0"),
        "b@example.com": ("refused", 550, "5.1.1"),
        "c@example.com": ("refused", 450, "4.2.0"),
    }
    assert status.recipients["b@example.com"].text == "No such user"
    assert status.accepted == ("a@example.com",)
    assert {address: reply.code for address, reply in status.refused.items()} == {ALL[1]: 550, ALL[2]: 450}


def test_every_recipient_refused():
    refusing = {**REFUSING, "a@example.com": "550 5.7.1 Not you"}
    with FaultServer(refuse_recipients=refusing) as server:
        status = sent(server, error=RecipientsRefused)
    assert status.outcome == "refused"
    assert [each.code for each in status.recipients.values()] == [550, 550, 450]
    assert status.accepted == ()
    assert status.queue_id is None
    assert isinstance(status.error, RecipientsRefused)


@pytest.mark.parametrize(("at", "error"), [("mail", SenderRefused), ("data", DataRefused), ("end", DataRefused)])
def test_the_message_refused(at, error):
    with FaultServer(fault=Fault(at=at, do=faults.reply("554 5.7.1 Not this one"))) as server:
        status = sent(server, error=error)
    assert status.outcome == "refused"
    assert fates(status) == dict.fromkeys(ALL, ("refused", 554, "5.7.1"))


@pytest.mark.parametrize("at", ["data", "end"])
def test_the_message_refused_after_some_recipients_were(at):
    fault = Fault(at=at, do=faults.reply("554 5.7.1 Not this one"))
    with FaultServer(refuse_recipients=REFUSING, fault=fault) as server:
        status = sent(server, error=DataRefused)
    assert [each.code for each in status.recipients.values()] == [554, 550, 450]
    assert {each.outcome for each in status.recipients.values()} == {"refused"}


def test_unknown():
    with FaultServer(refuse_recipients=REFUSING, fault=Fault(at="end", do=faults.reset)) as server:
        status = sent(server, error=DeliveryUnknown)
    assert status.outcome == "unknown"
    assert fates(status) == {
        "a@example.com": ("unknown", None, None),
        "b@example.com": ("refused", 550, "5.1.1"),
        "c@example.com": ("refused", 450, "4.2.0"),
    }
    assert status.reply is None
    assert status.queue_id is None


def test_not_sent():
    with FaultServer(refuse_recipients=REFUSING, fault=Fault(at="body", do=faults.reset)) as server:
        server.fault = Fault(at="data", do=faults.reset)
        status = sent(server, error=OSError)
    assert status.outcome == "not_sent"
    assert {each.outcome for each in status.recipients.values()} == {"not_sent"}


def test_not_even_rendered(server):
    status = sent(server, error=ValueError, to=["a@example.com", "b@[::1"])
    assert status.outcome == "not_sent"
    assert {address: each.outcome for address, each in status.recipients.items()} == {
        "a@example.com": "not_sent",
        "b@[::1": "not_sent",
    }
    assert isinstance(status.error, ValueError)
    assert status.attempts == 0


def test_no_connection_to_be_had(server):
    server.refuse()
    status = sent(server, error=ConnectionRefusedError)
    assert status.outcome == "not_sent"
    assert status.recipients["a@example.com"].code is None
    assert status.recipients["a@example.com"].text == ""


def test_it_is_reset_on_each_send(server):
    made = message()
    backend = backend_for(server, max_requeues=0)
    backend.send_messages([made])
    first = made.smtp_pool_status
    server.fault = Fault(at="end", do=faults.code_5xx)
    with pytest.raises(DataRefused):
        backend.send_messages([made])
    assert first.outcome == "accepted"
    assert made.smtp_pool_status.outcome == "refused"
    backend.send_messages([made])
    assert made.smtp_pool_status.outcome == "accepted"
    assert made.smtp_pool_status.queue_id != first.queue_id


def test_one_status_for_each_message_of_a_batch():
    with FaultServer(refuse_recipients=REFUSING) as server:
        made = [message(1, to=ALL[:1]), message(2, to=ALL[1:2]), message(3, to=ALL[:2])]
        with pytest.raises(RecipientsRefused) as caught:
            backend_for(server).send_messages(made)
    assert [each.smtp_pool_status.outcome for each in made] == ["accepted", "refused", "accepted"]
    assert list(caught.value.failures) == [1]


def test_fail_silently_tells_it_all_the_same(caplog):
    with FaultServer(fault=Fault(at="mail", do=faults.code_5xx)) as server:
        made = message()
        assert backend_for(server, fail_silently=True).send_messages([made]) == 0
    assert made.smtp_pool_status.outcome == "refused"
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "A message was refused, and fail_silently hides it" in warnings[0].getMessage()


def test_a_status_survives_pickling(server):
    status = sent(server)
    assert pickle.loads(pickle.dumps(status)) == status


def test_errors_with_refused_recipients_survive_pickling():
    with FaultServer(refuse_recipients=REFUSING, fault=Fault(at="end", do=faults.code_5xx)) as server:
        status = sent(server, error=DataRefused)
    assert pickle.loads(pickle.dumps(status.error)).refused == status.error.refused


def test_the_text_has_no_code_and_one_line():
    status = RecipientStatus(
        address="a", outcome="refused", reply=Reply(code=550, lines=(b"5.1.1 No", b"5.1.1 such\r"))
    )
    assert (status.code, status.enhanced, status.text) == (550, "5.1.1", "No 5.1.1 such\\r")
    assert RecipientStatus(address="a", outcome="refused", reply=Reply(code=550)).text == ""


# -- on_partial_refusal --------------------------------------------------------------------------------


def partially(server, mode, caplog):
    made = message(to=ALL)
    with caplog.at_level("WARNING", "django_smtp_pool"):
        try:
            count = backend_for(server, on_partial_refusal=mode).send_messages([made])
        except PartiallyRefused as error:
            return made.smtp_pool_status, error
    return made.smtp_pool_status, count


@pytest.mark.parametrize("mode", ["warn", "ignore", "raise"])
def test_partial_refusals(mode, caplog):
    with FaultServer(refuse_recipients=REFUSING) as server:
        status, result = partially(server, mode, caplog)
        assert len(server.accepted) == 1
    assert status.outcome == "accepted"
    assert status.accepted == ALL[:1]
    if mode == "raise":
        assert result.accepted == ALL[:1]
        assert {address: reply.code for address, reply in result.refused.items()} == {ALL[1]: 550, ALL[2]: 450}
    else:
        assert result == 1
    assert ("refused for 2: b@example.com (550 5.1.1 No such user)" in caplog.text) is (mode == "warn")


def test_a_partial_refusal_does_not_stop_a_batch():
    with FaultServer(refuse_recipients=REFUSING) as server:
        made = [message(1, to=ALL), message(2, to=ALL[:1])]
        with pytest.raises(PartiallyRefused) as caught:
            backend_for(server, on_partial_refusal="raise").send_messages(made)
        assert len(server.accepted) == 2
    assert list(caught.value.failures) == [0]


# -- the queue id --------------------------------------------------------------------------------------

REPLIES = {
    "2.0.0 Ok: queued as 4WxYzT2JLfz9s1n": "4WxYzT2JLfz9s1n",  # Postfix
    "2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as 7F3A21C0": "7F3A21C0",  # Amavis before Postfix
    "OK id=1rT2Jf-000000004Lq-0Abc": "1rT2Jf-000000004Lq-0Abc",  # Exim
    "Requested mail action okay, completed: id=1MbRfl-1nMLzW2Kqv-00CvQr": "1MbRfl-1nMLzW2Kqv-00CvQr",  # GMX
    "Ok 0100018c5d3f2a1b-7a1c2d3e-4f50-6172-8394-a5b6c7d8e9f0-000000": (
        "0100018c5d3f2a1b-7a1c2d3e-4f50-6172-8394-a5b6c7d8e9f0-000000"  # Amazon SES
    ),
    "2.0.0 OK  1700000000 d2e1a72fcca58-6c4cb2f1aa1sm9876543b3a.55 - gsmtp": (
        "d2e1a72fcca58-6c4cb2f1aa1sm9876543b3a.55"  # Gmail
    ),
    "2.6.0 <x@example.com> [InternalId=18820310925312, Hostname=AM6PR0.example.com] 8301 bytes in 0.2, 40.1 KB/sec "
    "Queued mail for delivery": "18820310925312",  # Exchange, Microsoft 365
    "2.0.0 x1AFG3kd012345 Message accepted for delivery": "x1AFG3kd012345",  # sendmail
    "2.0.0 3fa1c2b4 Message accepted for delivery": "3fa1c2b4",  # OpenSMTPD
    "2.0.0: a1b2c3d4 Message accepted for delivery": "a1b2c3d4",  # older OpenSMTPD
    "ok 1700000000 qp 12345": "12345",  # qmail
    "Message Queued (6F1A2B3C-4D5E-6F70-8192-A3B4C5D6E7F8.1)": "6F1A2B3C-4D5E-6F70-8192-A3B4C5D6E7F8.1",  # Haraka
    "2.0.0 OK 5A/3C-12345-ABCDEF65": "5A/3C-12345-ABCDEF65",  # SparkPost
    "2.0.0 Ok: queued on mail-nwsmtp-1.example.net as 1700000000-AbCdEfGh12": "1700000000-AbCdEfGh12",  # Yandex
    "2.0.0 OK: queued as <202611221200.12345@smtp-relay.example.com>": "202611221200.12345@smtp-relay.example.com",
    "2.0.0 Message queued with id 1a2b3c.": "1a2b3c",  # Stalwart
    "2.6.0 1234 bytes received in 00:00:00; Message id ABC123XYZ accepted for delivery": "ABC123XYZ",  # IceWarp
    "2.0.0 <b@example.com> lpGzAHYMCWtuFQAAg+zDdQ:R3 Saved": "lpGzAHYMCWtuFQAAg+zDdQ:R3",  # Dovecot, by LMTP
    "2.0.0 <b@example.com> Saved": None,
    "2.0.0 OK": None,
    "2.0.0 Ok: queued": None,
    "Queued (0.010 seconds)": None,
    "Great success": None,
    "Mail queued for delivery": None,
    "Message accepted for delivery": None,
    "OK , completed": None,
    "": None,
}


@pytest.mark.parametrize(("text", "queue_id"), REPLIES.items())
def test_queue_ids(text, queue_id):
    assert queue_id_of(text) == queue_id
