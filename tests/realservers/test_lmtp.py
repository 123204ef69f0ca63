"""LMTP to a real mailbox server: what is accepted is in the mailbox, and each recipient has a verdict of his own."""

import smtplib
from typing import Any

import pytest

from django_smtp_pool.backend import PooledBackend

from .dovecot_lmtp import FULL_USER, DovecotLmtp
from .mailer import _ALIAS, RECIPIENT, SENDER, a_message, on_the_wire
from .server import UNKNOWN_USER

SECOND = "second@example.com"


def backend(server: DovecotLmtp, **changed: Any) -> PooledBackend:
    """Return a backend that delivers into the mailboxes of this machine, and logs in nowhere."""
    usual = {"host": server.host, "port": server.port, "lmtp": True, "local_hostname": "client.example.com"}
    return PooledBackend(alias=_ALIAS, **{**usual, **changed})


@pytest.mark.parametrize("pipelining", [True, False])
def test_a_message_arrives_octet_by_octet_in_each_mailbox(lmtp: DovecotLmtp, pipelining: bool) -> None:
    message = a_message(to=[RECIPIENT, SECOND])
    assert backend(lmtp, pipelining=pipelining).send_messages([message]) == 1
    for user in ("recipient", "second"):
        (mail,) = lmtp.mails_of(user)
        assert mail.is_exactly(on_the_wire(message))
        assert mail.message["Return-Path"] == f"<{SENDER}>"
    status = message.smtp_pool_status
    assert status.accepted == (RECIPIENT, SECOND)
    texts = [each.text for each in status.recipients.values()]
    assert [text.split()[0] for text in texts] == [f"<{RECIPIENT}>", f"<{SECOND}>"]
    assert status.queue_id
    assert status.queue_id in lmtp.log()


def test_an_unknown_recipient_is_refused_by_rcpt_and_a_full_mailbox_after_the_data(lmtp: DovecotLmtp) -> None:
    message = a_message(to=[UNKNOWN_USER, FULL_USER, RECIPIENT])
    assert backend(lmtp).send_messages([message]) == 1
    status = message.smtp_pool_status
    assert status.outcome == "accepted"
    fates = {each.address: (each.outcome, each.code, each.enhanced) for each in status.recipients.values()}
    assert fates == {
        UNKNOWN_USER: ("refused", 550, "5.1.1"),
        FULL_USER: ("refused", 552, "5.2.2"),
        RECIPIENT: ("accepted", 250, "2.0.0"),
    }
    assert [len(lmtp.mails_of(user)) for user in ("recipient", "full")] == [1, 0]


def test_refused_by_all_and_then_on_over_the_same_connection(lmtp: DovecotLmtp) -> None:
    ours = backend(lmtp)
    with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
        ours.send_messages([a_message(to=[FULL_USER])])
    assert caught.value.recipients[FULL_USER][0] == 552
    with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
        ours.send_messages([a_message(to=[UNKNOWN_USER])])
    assert caught.value.recipients[UNKNOWN_USER][0] == 550
    assert ours.send_messages([a_message()]) == 1
    lmtp.wait_for_mails(1)
    assert lmtp.connections() == 1


def test_the_same_recipient_twice_has_it(lmtp: DovecotLmtp) -> None:
    message = a_message(to=[RECIPIENT, RECIPIENT])
    assert backend(lmtp).send_messages([message]) == 1
    assert message.smtp_pool_status.accepted == (RECIPIENT,)
    assert {mail.subject for mail in lmtp.mails()} == {message.subject}


def test_a_list_of_messages(lmtp: DovecotLmtp) -> None:
    batch = [a_message(number, to=[RECIPIENT, SECOND]) for number in range(40)]
    assert backend(lmtp).send_messages(batch) == 40
    for user in ("recipient", "second"):
        assert sorted(mail.subject for mail in lmtp.mails_of(user)) == sorted(message.subject for message in batch)
    assert lmtp.connections() <= 5


@pytest.mark.parametrize("mode", ["use_tls", "use_ssl"])
def test_tls(lmtp: DovecotLmtp, mode: str) -> None:
    port = lmtp.tls_port if mode == "use_ssl" else lmtp.port
    tls = {mode: True, "tls_options": {"ca_file": str(lmtp.certificates.ca_file)}}
    assert backend(lmtp, port=port, **tls).send_messages([a_message()]) == 1
    (mail,) = lmtp.wait_for_mails(1)
    assert "TLS" in str(mail.message["Received"])


def test_a_large_message(lmtp: DovecotLmtp) -> None:
    octets = bytes(range(256)) * 8192
    message = a_message(attachments=[("numbers.bin", octets, "application/octet-stream")])
    assert backend(lmtp).send_messages([message]) == 1
    (mail,) = lmtp.wait_for_mails(1)
    (attachment,) = mail.message.iter_attachments()
    assert attachment.get_content() == octets


def test_spoken_to_by_smtp(lmtp: DovecotLmtp) -> None:
    with pytest.raises(smtplib.SMTPHeloError, match=r"LHLO|LMTP|command"):
        backend(lmtp, lmtp=False).send_messages([a_message()])


def test_the_server_is_started_anew(lmtp: DovecotLmtp) -> None:
    ours = backend(lmtp)
    assert ours.send_messages([a_message(1)]) == 1
    lmtp.stop()
    lmtp.start()
    assert ours.send_messages([a_message(2)]) == 1
    lmtp.wait_for_mails(2)


def test_by_a_unix_socket(lmtp: DovecotLmtp) -> None:
    there = backend(lmtp, host=f"unix:{lmtp.socket}")
    assert there.send_messages([a_message(number) for number in range(5)]) == 5
    assert len(lmtp.mails()) == 5
    assert repr(there.pool).startswith(f"<Pool unix:{lmtp.socket}: ")


def test_a_unix_socket_that_nobody_listens_on(lmtp: DovecotLmtp) -> None:
    lmtp.stop()
    message = a_message()
    with pytest.raises((ConnectionRefusedError, FileNotFoundError), match=f"could not connect to unix:{lmtp.socket}"):
        backend(lmtp, host=f"unix:{lmtp.socket}").send_messages([message])
    assert (message.smtp_pool_status.outcome, message.smtp_pool_status.attempts) == ("not_sent", 1)
    lmtp.start()
