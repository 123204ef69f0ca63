"""Limits that real servers keep, switched on one by one: what the user of the backend sees of them."""

import re
import smtplib
from concurrent.futures import ThreadPoolExecutor

import pytest

from .exim import Exim
from .mailer import a_message, send
from .postfix import Postfix
from .server import UNKNOWN_USER, MailServer
from .waiting import eventually

# The same limit has another name in each server.
IDLE = {"Postfix": "smtpd_timeout", "Exim": "smtp_receive_timeout"}
CONNECTIONS = {"Postfix": "smtpd_client_connection_count_limit", "Exim": "smtp_accept_max_per_host"}
RECIPIENTS = {"Postfix": "smtpd_recipient_limit", "Exim": "recipients_max"}


def limit(server: MailServer, names: dict[str, str], value: str) -> dict[str, str]:
    """Return the setting of a limit in the server's own words."""
    return {names[type(server).__name__]: value}


def test_a_connection_that_idled_too_long_is_invisible(server: MailServer) -> None:
    """Exim says its 421 in clear on the TLS connection that it gives up: to us, no more than a lost connection."""
    with server.reconfigured(**limit(server, IDLE, "1s")):
        send(server, a_message(1))
        eventually(lambda: server.open_connections() == 0, otherwise=server.log)
        message = a_message(2)
        send(server, message)
        assert message.smtp_pool_status.outcome == "accepted"
        server.wait_for_mails(2)
        assert server.connections() == 2


def test_fewer_connections_than_the_server_allows(server: MailServer) -> None:
    with server.reconfigured(**limit(server, CONNECTIONS, "2")):
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda number: send(server, a_message(number), max_connections=2), range(40)))
        server.wait_for_mails(40)
        assert server.connections() == 2


def test_more_connections_than_the_server_allows(server: MailServer) -> None:
    """A refused connection is no refused message: it waits a little and goes over one that works."""
    with server.reconfigured(**limit(server, CONNECTIONS, "2")):
        with ThreadPoolExecutor(8) as threads:
            options = {"max_connections": 5, "max_requeues": 50}
            list(threads.map(lambda number: send(server, a_message(number), **options), range(40)))
        server.wait_for_mails(40)


def test_others_have_taken_all_connections(server: MailServer) -> None:
    with (
        server.reconfigured(**limit(server, CONNECTIONS, "1")),
        smtplib.SMTP(server.host, server.port, timeout=10),
    ):
        message = a_message()
        with pytest.raises(smtplib.SMTPConnectError, match=r"(?i)too many") as caught:
            send(server, message, max_requeues=1)
        assert caught.value.smtp_code == 421
        assert message.smtp_pool_status.outcome == "not_sent"


def test_a_message_that_is_too_large(server: MailServer) -> None:
    with server.reconfigured(message_size_limit="20000"):
        message = a_message(body="a line of no importance\n" * 2000)
        with pytest.raises(smtplib.SMTPResponseException) as caught:
            send(server, message)
        assert caught.value.smtp_code == 552
        # The server says its limit after SIZE, so it need not be asked.
        assert message.smtp_pool_status.outcome == "not_sent"
        assert not re.search(r"\b552\b", server.log())
        send(server, a_message())
        server.wait_for_mails(1)
        assert server.connections() == 1


def test_too_many_recipients(server: MailServer) -> None:
    with server.reconfigured(**limit(server, RECIPIENTS, "3")):
        recipients = [f"recipient{number}@example.com" for number in range(5)]
        message = a_message(to=recipients)
        assert send(server, message) == 1
        server.wait_for_mails(3)
        status = message.smtp_pool_status
        assert status.accepted == tuple(recipients[:3])
        assert {address: reply.code for address, reply in status.refused.items()} == dict.fromkeys(recipients[3:], 452)


def test_postfix_limits_the_rate_of_messages(postfix: Postfix) -> None:
    with postfix.reconfigured(smtpd_client_message_rate_limit="3"):
        send(postfix, *map(a_message, range(3)))
        message = a_message(3)
        with pytest.raises(smtplib.SMTPSenderRefused, match="too much mail") as caught:
            send(postfix, message)
        assert caught.value.smtp_code == 450
        assert message.smtp_pool_status.outcome == "refused"
        postfix.wait_for_mails(3)
        assert postfix.connections() == 2  # the refusal may be about the connection: one fresh one is asked


def test_postfix_limits_the_rate_of_recipients(postfix: Postfix) -> None:
    with postfix.reconfigured(smtpd_client_recipient_rate_limit="1"):
        send(postfix, a_message(1))
        with pytest.raises(smtplib.SMTPRecipientsRefused, match="too many recipients"):
            send(postfix, a_message(2))
        postfix.wait_for_mails(1)


def test_postfix_limits_the_rate_of_connections(postfix: Postfix) -> None:
    with postfix.reconfigured(smtpd_client_connection_rate_limit="1"):
        send(postfix, *map(a_message, range(10)))
        postfix.wait_for_mails(10)
        with pytest.raises(smtplib.SMTPConnectError, match="too many connections"):
            send(postfix, a_message(), auth_method="PLAIN", max_requeues=1)


def test_postfix_limits_the_rate_of_logins(postfix: Postfix) -> None:
    with postfix.reconfigured(smtpd_client_auth_rate_limit="1"):
        send(postfix, *map(a_message, range(10)))
        postfix.wait_for_mails(10)
        with pytest.raises(smtplib.SMTPAuthenticationError, match="too many AUTH commands") as caught:
            send(postfix, a_message(), auth_method="PLAIN", max_requeues=1)
        assert caught.value.smtp_code == 450


def test_postfix_hangs_up_after_too_many_errors(postfix: Postfix) -> None:
    """Pipelined, a refused recipient is two errors to Postfix: RCPT, and DATA without a recipient."""
    with postfix.reconfigured(smtpd_hard_error_limit="3"):
        for number in range(5):
            with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
                send(postfix, a_message(number, to=[UNKNOWN_USER]))
            assert caught.value.recipients[UNKNOWN_USER][0] == 550
        send(postfix, a_message())
        postfix.wait_for_mails(1)
        assert "too many errors" in postfix.log()


def test_exim_limits_the_messages_of_a_connection(exim: Exim) -> None:
    with exim.reconfigured(smtp_accept_max_per_connection="3"):
        send(exim, *map(a_message, range(10)))
        exim.wait_for_mails(10)
        assert exim.connections() == 4


def test_exim_is_full(exim: Exim) -> None:
    with (
        exim.reconfigured(smtp_accept_max="1"),
        smtplib.SMTP(exim.host, exim.port, timeout=10),
        pytest.raises(smtplib.SMTPConnectError, match="Too many concurrent SMTP connections"),
    ):
        send(exim, a_message(), max_requeues=1)
