"""Replies in forms that no RFC has: what is taken all the same, as smtplib takes it, and what is not."""

import smtplib

import pytest

from django_smtp_pool import DeliveryUnknown
from django_smtp_pool.core.errors import ProtocolError
from tests.clocks import ServersClock
from tests.mailing import message
from tests.servers import Fault, FaultServer, faults


def sent(mailer, at, text, **how):
    """Send one message to a server that answers so at a point; return its status, and the error."""
    fault = Fault(at=at, do=faults.reply(text, accepts=True), times=None)
    with FaultServer(fault=fault) as server:
        mail, error = message(), None
        try:
            mailer(server, clock=ServersClock(server), max_requeues=0, **how).send_messages([mail])
        except smtplib.SMTPException as caught:
            error = caught
        return mail.smtp_pool_status, error


@pytest.mark.parametrize("at", ["mail", "rcpt", "end"])
@pytest.mark.parametrize("code", [200, 250, 251, 252, 299])
def test_any_2xx_accepts(mailer, at, code):
    status, error = sent(mailer, at, f"{code} fine")
    assert (status.outcome, error) == ("accepted", None)


@pytest.mark.parametrize("at", ["banner", "ehlo", "mail", "rcpt", "end"])
@pytest.mark.parametrize("text", ["250\tfine", "250", "250 ", "250-first\r\n250\tlast", "250 " + "x" * 8000])
def test_forms_that_are_taken_as_smtplib_takes_them(mailer, at, text):
    text = text.replace("250", "220") if at == "banner" else text
    status, error = sent(mailer, at, text)
    assert (status.outcome, error) == ("accepted", None)


@pytest.mark.parametrize("code", [200, 250, 334, 355])
def test_only_354_answers_data(mailer, code):
    status, error = sent(mailer, "data", f"{code} fine")
    assert isinstance(error, ProtocolError)
    assert status.outcome == "not_sent"


@pytest.mark.parametrize(
    "text", ["250ok", "25", "2500 ok", " 250 ok", "+250 ok", "150 ok", "650 ok", "250 " + "x" * 8200]
)
@pytest.mark.parametrize(("at", "outcome"), [("mail", "not_sent"), ("rcpt", "not_sent"), ("end", "unknown")])
def test_what_is_no_reply_is_none(mailer, text, at, outcome):
    status, error = sent(mailer, at, text)
    assert status.outcome == outcome
    assert isinstance(error, DeliveryUnknown if outcome == "unknown" else ProtocolError)


@pytest.mark.parametrize("text", ["150 ok", "334 go on", "354 go on", "399 x"])
def test_1xx_and_3xx_to_the_end_of_data_leave_doubt(mailer, text):
    status, error = sent(mailer, "end", text)
    assert status.outcome == "unknown"
    assert isinstance(error, DeliveryUnknown)
