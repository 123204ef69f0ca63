"""The servers themselves, spoken to by smtplib: what the other tests of this directory build on holds."""

import base64
import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage

import pytest

from .exim import Exim
from .postfix import Postfix
from .server import UNKNOWN_USER, MailServer
from .waiting import eventually

SENDER, RECIPIENT = "sender@example.com", "recipient@example.com"


def tls(server: MailServer, *, with_certificate: bool = False) -> ssl.SSLContext:
    """Return a context that trusts the session's authority and nobody else."""
    context = ssl.create_default_context(cafile=server.certificates.ca_file)
    if with_certificate:
        context.load_cert_chain(server.certificates.client_chain)
    return context


@contextmanager
def secured(server: MailServer, *, with_certificate: bool = False) -> Iterator[smtplib.SMTP]:
    """Connect and change to TLS by STARTTLS."""
    with smtplib.SMTP(server.host, server.port, timeout=10) as client:
        client.starttls(context=tls(server, with_certificate=with_certificate))
        client.ehlo()
        yield client


def log_in(client: smtplib.SMTP, server: MailServer) -> None:
    """Authenticate by whatever smtplib likes best."""
    client.login(server.account.username, server.account.password)


def a_message() -> EmailMessage:
    """Return a message that is not in ASCII and has lines that begin with a dot."""
    message = EmailMessage()
    message["Subject"] = "Grüße"
    message["From"], message["To"] = SENDER, RECIPIENT
    message["Date"] = "Sun, 22 Nov 2026 08:00:00 +0000"
    message["Message-ID"] = "<first@example.com>"
    message.set_content("Schöne Grüße\n.\n..\nEnde\n")
    return message


def on_the_wire(message: EmailMessage) -> bytes:
    """Return the octets that smtplib sends for a message."""
    return message.as_bytes(policy=message.policy.clone(linesep="\r\n"))


def test_starttls_and_login_deliver_what_was_sent(server: MailServer) -> None:
    message = a_message()
    with secured(server) as client:
        log_in(client, server)
        client.send_message(message)
    (mail,) = server.wait_for_mails(1)
    assert mail.subject == "Grüße"
    assert mail.message["Return-Path"] == f"<{SENDER}>"
    assert mail.is_exactly(on_the_wire(message))


def test_implicit_tls_delivers(server: MailServer) -> None:
    with smtplib.SMTP_SSL(server.host, server.tls_port, context=tls(server), timeout=10) as client:
        log_in(client, server)
        client.send_message(a_message())
    server.wait_for_mails(1)


def test_what_is_offered(server: MailServer) -> None:
    with secured(server) as client:
        offered = set(client.esmtp_features)
        mechanisms = set(client.esmtp_features["auth"].split())
    assert offered >= {"pipelining", "chunking", "size", "8bitmime"}
    assert mechanisms >= {"PLAIN", "LOGIN", "CRAM-MD5"}


def test_no_login_in_clear(server: MailServer) -> None:
    with smtplib.SMTP(server.host, server.port, timeout=10) as client:
        client.ehlo()
        assert client.has_extn("starttls")
        assert not client.has_extn("auth")


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_each_mechanism_of_smtplib(server: MailServer, mechanism: str) -> None:
    with secured(server) as client:
        client.esmtp_features["auth"] = mechanism
        log_in(client, server)
        client.send_message(a_message())
    server.wait_for_mails(1)


def test_postfix_offers_what_dovecot_does(postfix: Postfix) -> None:
    with secured(postfix) as client:
        mechanisms = set(client.esmtp_features["auth"].split())
    scram = {"SCRAM-SHA-1", "SCRAM-SHA-256"}
    assert mechanisms == {"PLAIN", "LOGIN", "CRAM-MD5", *scram, "XOAUTH2", "OAUTHBEARER"}


def test_postfix_takes_a_token(postfix: Postfix) -> None:
    account = postfix.account
    response = f"user={account.username}\1auth=Bearer {account.token}\1\1".encode()
    with secured(postfix) as client:
        code, _ = client.docmd("AUTH", f"XOAUTH2 {base64.b64encode(response).decode()}")
        assert code == 235
        client.send_message(a_message())
    postfix.wait_for_mails(1)


def test_a_wrong_password_is_refused(server: MailServer) -> None:
    with secured(server) as client, pytest.raises(smtplib.SMTPAuthenticationError) as caught:
        client.login(server.account.username, "wrong")
    assert caught.value.smtp_code == 535


def test_nobody_sends_without_login(server: MailServer) -> None:
    with secured(server) as client, pytest.raises(smtplib.SMTPRecipientsRefused):
        client.send_message(a_message())


@pytest.mark.parametrize("recipient", [UNKNOWN_USER, "somebody@elsewhere.example"])
def test_recipients_that_are_refused(server: MailServer, recipient: str) -> None:
    with secured(server) as client:
        log_in(client, server)
        refused = client.sendmail(SENDER, [RECIPIENT, recipient], on_the_wire(a_message()))
    assert list(refused) == [recipient]
    server.wait_for_mails(1)


def test_postfix_lets_a_client_certificate_send(postfix: Postfix) -> None:
    with secured(postfix, with_certificate=True) as client:
        client.send_message(a_message())
    postfix.wait_for_mails(1)


def test_exim_takes_a_client_certificate_for_a_login(exim: Exim) -> None:
    identity = base64.b64encode(exim.account.username.encode()).decode()
    with secured(exim, with_certificate=True) as client:
        code, _ = client.docmd("AUTH", f"EXTERNAL {identity}")
        assert code == 235
        client.send_message(a_message())
    exim.wait_for_mails(1)


def test_exim_offers_that_to_a_certificate_it_knows_alone(exim: Exim) -> None:
    with secured(exim) as client:
        assert "EXTERNAL" not in client.esmtp_features["auth"].split()
    with secured(exim, with_certificate=True) as client:
        assert "EXTERNAL" in client.esmtp_features["auth"].split()


def test_connections_are_counted(server: MailServer) -> None:
    assert server.connections() == 0
    with secured(server):
        eventually(lambda: server.connections() == 1, otherwise=server.log)
        assert server.open_connections() == 1
    with secured(server):
        pass
    eventually(lambda: server.open_connections() == 0, otherwise=server.log)
    assert server.connections() == 2


def test_settings_are_changed_and_put_back(server: MailServer) -> None:
    with server.reconfigured(message_size_limit="2000"):
        assert size_limit(server) == "2000"
    assert size_limit(server) != "2000"


def size_limit(server: MailServer) -> str:
    """Return what the server says after SIZE."""
    with secured(server) as client:
        return client.esmtp_features["size"]


def test_a_server_is_stopped_and_started_again(server: MailServer) -> None:
    with secured(server) as client:
        server.stop()
        with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionError, ssl.SSLError)):
            log_in(client, server)
    with pytest.raises(ConnectionRefusedError):
        smtplib.SMTP(server.host, server.port, timeout=10)
    server.start()
    with secured(server) as client:
        log_in(client, server)
        client.send_message(a_message())
    server.wait_for_mails(1)
