"""Delivery status notifications by real servers: what was asked for comes back to the sender."""

from collections.abc import Iterator
from email.message import EmailMessage as Parsed
from typing import Any

import pytest
from django.core.mail import EmailMessage

from django_smtp_pool.core.smtp.dsn import xtext

from .exim import Exim
from .mailbox import Mail
from .mailer import RECIPIENT, a_message, backend, send
from .postfix import Postfix
from .server import MailServer


@pytest.fixture(params=["postfix", "exim"])
def server(request: pytest.FixtureRequest) -> Iterator[MailServer]:
    """Return each mail server in turn, offering DSN."""
    found: MailServer = request.getfixturevalue(request.param)
    if isinstance(found, Exim):
        with found.reconfigured(dsn_advertise_hosts="*"):
            yield found
    else:
        yield found


def asking(**dsn: Any) -> EmailMessage:
    """Return a message that asks for notifications."""
    message = a_message()
    message.smtp_options = {"dsn": dsn}  # type: ignore[attr-defined]
    return message


def notifications(mails: list[Mail]) -> list[Parsed]:
    """Return the reports among the mails."""
    return [mail.message for mail in mails if mail.message.get_content_type() == "multipart/report"]


def fields_of(report: Parsed) -> dict[str, str]:
    """Return the fields of a report, of the message and of its one recipient (RFC 3464)."""
    (status,) = (part for part in report.walk() if part.get_content_type() == "message/delivery-status")
    return {name.lower(): str(value) for block in status.get_payload() for name, value in block.items()}


def given_back(server: MailServer, text: str) -> str:
    """Return an identifier or an address as a server reports it: Exim leaves it encoded."""
    return xtext(text) if isinstance(server, Exim) else text


def test_success_is_reported_to_the_sender(server: MailServer) -> None:
    message = asking(
        ret="hdrs",
        envid="order 17+1",
        notify=["success", "failure"],
        orcpt={RECIPIENT: "first+list=x@example.com"},
        strict=True,
    )
    assert send(server, message) == 1
    assert message.smtp_pool_status.dsn is True
    (report,) = notifications(server.wait_for_mails(2))
    fields = fields_of(report)
    assert fields["original-envelope-id"] == given_back(server, "order 17+1")
    kind, _, address = fields["original-recipient"].partition(";")
    assert (kind, address.strip()) == ("rfc822", given_back(server, "first+list=x@example.com"))
    assert fields["action"] == "delivered"
    returned = [part.get_content_type() for part in report.iter_parts()][-1]
    assert returned == "text/rfc822-headers"


def test_nothing_is_reported_that_was_not_asked_for(server: MailServer) -> None:
    assert send(server, asking(notify="never", envid="x"), asking(notify="failure"), a_message()) == 3
    assert notifications(server.wait_for_mails(3)) == []


def test_each_recipient_of_one_message_for_itself(server: MailServer) -> None:
    message = asking(notify={"a@example.com": "success", "b@example.com": "never"})
    message.to = ["a@example.com", "b@example.com"]
    assert send(server, message) == 1
    (report,) = notifications(server.wait_for_mails(3))
    assert "a@example.com" in fields_of(report)["final-recipient"]


@pytest.mark.parametrize("changed", [{}, {"chunking": False}, {"pipelining": False}])
def test_warm_messages_ask_as_well(server: MailServer, changed: dict[str, bool]) -> None:
    ours = backend(server, **changed)
    for number in range(3):
        assert ours.send_messages([asking(envid=f"letter {number}", notify="success")]) == 1
    reports = notifications(server.wait_for_mails(6))
    sent = {given_back(server, f"letter {number}") for number in range(3)}
    assert {fields_of(report)["original-envelope-id"] for report in reports} == sent
    assert server.connections() == 1


def test_where_dsn_is_not_offered_the_message_goes_without(postfix: Postfix) -> None:
    with postfix.reconfigured(smtpd_discard_ehlo_keywords="dsn"):
        message = asking(notify="success", ret="full")
        assert send(postfix, message) == 1
        assert message.smtp_pool_status.dsn is False
        assert notifications(postfix.wait_for_mails(1)) == []
