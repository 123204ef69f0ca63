"""Our backend against real servers: mail arrives as it was written, over as few connections as promised."""

import itertools
import re
import smtplib
import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import django
import pytest
from django.core.mail import EmailMultiAlternatives, send_mail

from django_smtp_pool.core.options.options import TOKEN_MECHANISMS

from . import dovecot
from .exim import Exim
from .mailer import RECIPIENT, SENDER, a_message, backend, on_the_wire, options_for, send
from .postfix import Postfix
from .server import UNKNOWN_USER, MailServer
from .waiting import eventually

BACKEND = "django_smtp_pool.backend.PooledBackend"


def use_in_settings(settings: Any, options: dict[str, Any]) -> None:
    """Make our backend the default of the project, as each Django is told."""
    if django.VERSION >= (6, 1):
        settings.MAILERS = {"default": {"BACKEND": BACKEND, "OPTIONS": options}}
        return
    settings.EMAIL_BACKEND = BACKEND
    names = {"username": "HOST_USER", "password": "HOST_PASSWORD"}
    for key, value in options.items():
        setattr(settings, f"EMAIL_{names.get(key, key.upper())}", value)


def test_200_send_mail_calls_use_one_connection(server: MailServer, settings: Any) -> None:
    use_in_settings(settings, options_for(server))
    settings.EMAIL_POOL_MAX_MESSAGES = 0
    subjects = [f"message {number}" for number in range(200)]
    for subject in subjects:
        assert send_mail(subject, "Hello\n", SENDER, [RECIPIENT]) == 1
    mails = server.wait_for_mails(200)
    assert sorted(mail.subject for mail in mails) == sorted(subjects)
    assert server.connections() == 1


def test_a_connection_is_replaced_after_max_messages(server: MailServer) -> None:
    send(server, *map(a_message, range(10)), max_messages=4)
    server.wait_for_mails(10)
    assert server.connections() == 3


def test_a_message_arrives_octet_by_octet(server: MailServer) -> None:
    message = a_message()
    assert send(server, message) == 1
    (mail,) = server.wait_for_mails(1)
    assert mail.is_exactly(on_the_wire(message))
    assert mail.message["Return-Path"] == f"<{SENDER}>"
    assert message.smtp_pool_status.outcome == "accepted"
    assert message.smtp_pool_status.queue_id
    assert message.smtp_pool_status.queue_id in server.log()


def test_names_beside_the_addresses(server: MailServer) -> None:
    people = {"from_email": f"Zoë <{SENDER}>", "to": [f'"Ray, the Reader" <{RECIPIENT}>']}
    send(server, a_message(**people))
    (mail,) = server.wait_for_mails(1)
    assert mail.message["Return-Path"] == f"<{SENDER}>"
    assert mail.message["From"].addresses[0].display_name == "Zoë"
    assert mail.message["To"].addresses[0].display_name == "Ray, the Reader"


def test_implicit_tls(server: MailServer) -> None:
    send(server, a_message(), port=server.tls_port, use_tls=False, use_ssl=True)
    server.wait_for_mails(1)


def test_alternatives_and_attachments_arrive_whole(server: MailServer) -> None:
    picture = bytes(range(256)) * 4096
    message = EmailMultiAlternatives("Grüße", "Text ü\n", SENDER, [RECIPIENT])
    message.attach_alternative("<p>Text ü</p>\n", "text/html")
    message.attach("bild.png", picture, "image/png")
    send(server, message)
    (mail,) = server.wait_for_mails(1)
    text, html = (mail.message.get_body((kind,)) for kind in ("plain", "html"))
    assert mail.subject == "Grüße"
    assert text is not None
    assert text.get_content().strip() == "Text ü"
    assert html is not None
    assert html.get_content().strip() == "<p>Text ü</p>"
    (attachment,) = mail.message.iter_attachments()
    assert attachment.get_content() == picture


def test_blind_copies_arrive_and_are_not_named(server: MailServer) -> None:
    send(server, a_message(bcc=["secret@example.com"]))
    mails = server.wait_for_mails(2)
    receivers = {str(mail.message["Delivered-To"] or mail.message["Envelope-To"]) for mail in mails}
    assert receivers == {RECIPIENT, "secret@example.com"}
    assert all(mail.message["Bcc"] is None for mail in mails)


def test_a_long_list_of_recipients_in_one_group(server: MailServer) -> None:
    recipients = [f"recipient{number}@example.com" for number in range(100)]
    send(server, a_message(to=recipients))
    server.wait_for_mails(100)


@pytest.mark.parametrize("pipelining", [True, False])
def test_threads_share_few_connections_and_lose_nothing(server: MailServer, pipelining: bool) -> None:
    messages = [a_message(number) for number in range(120)]
    with ThreadPoolExecutor(8) as threads:
        sent = threads.map(lambda message: send(server, message, max_connections=3, pipelining=pipelining), messages)
        assert sum(sent) == 120
    subjects = [mail.subject for mail in server.wait_for_mails(120)]
    assert sorted(subjects) == sorted(message.subject for message in messages)
    assert server.connections() <= 3


def test_a_list_of_messages(server: MailServer) -> None:
    assert backend(server).send_messages([a_message(number) for number in range(50)]) == 50
    server.wait_for_mails(50)
    assert server.connections() <= 5


# Debian's small Exim can do no SCRAM.
_BOTH = ("PLAIN", "LOGIN", "CRAM-MD5")
_SCRAM = ("SCRAM-SHA-1", "SCRAM-SHA-256")
LOGINS = [*itertools.product(["postfix"], (*_BOTH, *_SCRAM)), *itertools.product(["exim"], _BOTH)]


@pytest.mark.parametrize(("server", "mechanism"), LOGINS, indirect=["server"])
def test_each_mechanism(server: MailServer, mechanism: str) -> None:
    send(server, a_message(), auth_method=mechanism)
    server.wait_for_mails(1)
    assert logged_in(server) == [mechanism]


def logged_in(server: MailServer) -> list[str]:
    """Return the mechanisms by which the messages of the log came."""
    return [name.replace("_", "-") for name in re.findall(r"\b(?:sasl_method|A)=([\w-]+)", server.log())]


@pytest.mark.parametrize(("server", "best"), [("postfix", "SCRAM-SHA-256"), ("exim", "CRAM-MD5")], indirect=["server"])
def test_the_best_mechanism_is_chosen(server: MailServer, best: str) -> None:
    send(server, a_message())
    server.wait_for_mails(1)
    assert logged_in(server) == [best]


@pytest.mark.parametrize("mechanism", [None, *_BOTH, *_SCRAM])
def test_a_name_and_a_password_that_take_some_care(postfix: Postfix, mechanism: str | None) -> None:
    who = {"username": dovecot.FOREIGN.username, "password": dovecot.FOREIGN.password}
    send(postfix, a_message(), **who, auth_method=mechanism)
    postfix.wait_for_mails(1)
    assert logged_in(postfix) == [mechanism or "SCRAM-SHA-256"]


def test_a_password_of_which_a_hash_is_kept_costs_one_refused_login(postfix: Postfix) -> None:
    """Dovecot offers SCRAM all the same; each refusal would count where somebody counts them."""
    who = {"username": dovecot.HASHED.username, "password": dovecot.HASHED.password}
    send(postfix, *map(a_message, range(4)), **who, max_messages=1)
    postfix.wait_for_mails(4)
    assert logged_in(postfix) == ["PLAIN"] * 4
    assert refusals(postfix) == ["SCRAM-SHA-256"]


def refusals(postfix: Postfix) -> list[str]:
    """Return the mechanisms of the logins that Postfix refused."""
    return re.findall(r"SASL ([\w-]+) authentication failed", postfix.log())


def test_a_wrong_password_is_refused_twice_at_most(postfix: Postfix) -> None:
    for number in range(3):
        with pytest.raises(smtplib.SMTPAuthenticationError, match="535"):
            send(postfix, a_message(number), password="not this one")
    assert refusals(postfix) == ["SCRAM-SHA-256", "PLAIN"]


@pytest.mark.parametrize(("server", "mechanism"), [("postfix", None), ("exim", None), *LOGINS], indirect=["server"])
def test_a_wrong_password(server: MailServer, mechanism: str | None) -> None:
    message = a_message()
    with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
        send(server, message, password="not this one", auth_method=mechanism)
    assert caught.value.smtp_code == 535
    assert "not this one" not in repr(caught.value)
    assert message.smtp_pool_status.outcome == "not_sent"
    send(server, message)
    server.wait_for_mails(1)


@pytest.mark.parametrize("mechanism", [None, *TOKEN_MECHANISMS])
def test_a_token_instead_of_a_password(postfix: Postfix, mechanism: str | None) -> None:
    token = postfix.account.token
    send(postfix, a_message(), password=None, oauth2_token=token, auth_method=mechanism)
    postfix.wait_for_mails(1)
    assert re.search(rf"sasl_method={mechanism or 'OAUTHBEARER|XOAUTH2'},", postfix.log())


@pytest.mark.parametrize("mechanism", TOKEN_MECHANISMS)
def test_a_token_of_nobody(postfix: Postfix, mechanism: str) -> None:
    with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
        send(postfix, a_message(), password=None, oauth2_token="bm90IG1l", auth_method=mechanism)
    assert caught.value.smtp_code == 535
    assert postfix.mails() == []


def test_a_client_certificate_instead_of_a_password(postfix: Postfix) -> None:
    chain = str(postfix.certificates.client_chain)
    send(postfix, a_message(), username=None, password=None, ssl_certfile=chain, ssl_keyfile=chain)
    postfix.wait_for_mails(1)
    assert "Trusted TLS connection" in postfix.log()


def with_certificate(chain: Path) -> dict[str, Any]:
    """Return options that show a client certificate, and have no password."""
    return {"username": None, "password": None, "ssl_certfile": str(chain), "ssl_keyfile": str(chain)}


@pytest.mark.parametrize("tls", ["use_tls", "use_ssl"])
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("mechanism", [None, "EXTERNAL"])
def test_a_client_certificate_as_a_login(exim: Exim, mechanism: str | None, named: bool, tls: str) -> None:
    options = with_certificate(exim.certificates.client_chain)
    port = exim.port if tls == "use_tls" else exim.tls_port
    where = {"port": port, "use_tls": tls == "use_tls", "use_ssl": tls == "use_ssl"}
    who = {"username": exim.account.username} if named else {}
    send(exim, *map(a_message, range(3)), **{**options, **where, **who}, auth_method=mechanism)
    exim.wait_for_mails(3)
    assert logged_in(exim) == ["EXTERNAL"] * 3
    assert exim.connections() == 1


def test_a_client_certificate_of_somebody_else(exim: Exim) -> None:
    options = with_certificate(exim.certificates.stranger_chain)
    for number in range(3):
        with pytest.raises(smtplib.SMTPAuthenticationError, match="535"):
            send(exim, a_message(number), **options)
    # Exim answers first, and writes that down then.
    eventually(lambda: "EXTERNAL authenticator failed" in exim.log(), otherwise=exim.log)
    assert exim.connections() == 1
    assert exim.mails() == []


def test_a_client_certificate_of_an_authority_that_is_not_known(server: MailServer) -> None:
    """Such a server offers no EXTERNAL, and lets nobody in without."""
    options = with_certificate(server.certificates.foreign_chain)
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        send(server, a_message(), **options)
    with pytest.raises(smtplib.SMTPNotSupportedError, match="many servers offer that only to a certificate"):
        send(server, a_message(), **options, auth_method="EXTERNAL")
    assert server.mails() == []


def test_a_certificate_of_nobody_we_trust(server: MailServer) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        send(server, a_message(), tls_options={})
    assert server.mails() == []


def test_a_certificate_for_another_name(server: MailServer) -> None:
    ours = {"ca_file": str(server.certificates.ca_file), "server_hostname": "other.example.com"}
    with pytest.raises(ssl.SSLCertVerificationError):
        send(server, a_message(), tls_options=ours)
    assert server.mails() == []


def test_no_mail_where_tls_was_asked_for_and_is_not_offered(postfix: Postfix) -> None:
    with postfix.reconfigured(smtpd_tls_security_level="none", smtpd_tls_auth_only="no"):
        with pytest.raises(smtplib.SMTPNotSupportedError):
            send(postfix, a_message())
        assert "AUTH" not in postfix.log()
    assert postfix.mails() == []


def test_a_recipient_who_is_refused(server: MailServer) -> None:
    message = a_message(to=[UNKNOWN_USER])
    with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
        send(server, message)
    assert caught.value.recipients[UNKNOWN_USER][0] == 550
    assert message.smtp_pool_status.outcome == "refused"
    # The refusal was about the message: the connection goes on.
    send(server, a_message())
    server.wait_for_mails(1)
    assert server.connections() == 1


def test_one_of_two_recipients_is_refused(server: MailServer, caplog: pytest.LogCaptureFixture) -> None:
    message = a_message(to=[RECIPIENT, UNKNOWN_USER])
    assert send(server, message) == 1
    server.wait_for_mails(1)
    assert message.smtp_pool_status.accepted == (RECIPIENT,)
    assert list(message.smtp_pool_status.refused) == [UNKNOWN_USER]
    assert [record.levelname for record in caplog.records if "refused" in record.getMessage()] == ["WARNING"]


def test_a_server_that_is_not_there(server: MailServer) -> None:
    # By DATA: in one shot, a server that goes down at that very moment leaves doubt, as it should.
    send(server, a_message(1), chunking=False)
    server.wait_for_mails(1)
    server.stop()
    message = a_message(2)
    with pytest.raises(ConnectionRefusedError):
        send(server, message, chunking=False)
    assert message.smtp_pool_status.outcome == "not_sent"
    server.start()
    send(server, message, chunking=False)
    assert [mail.subject for mail in server.wait_for_mails(2)].count("message 2") == 1


def test_a_restart_of_the_server_is_invisible(server: MailServer) -> None:
    send(server, a_message(1), chunking=False)
    server.wait_for_mails(1)
    server.stop()
    server.start()
    send(server, a_message(2), chunking=False)
    server.wait_for_mails(2)
    assert server.connections() == 2
