"""Errors: what they are to code written for smtplib, and that they survive a task queue."""

import inspect
import pickle
import smtplib

import pytest

from django_smtp_pool.core import errors
from django_smtp_pool.core.errors import Failure, Outcome, Stage, outcome_of, refusal
from tests.core.transcript import reply_of

REPLY = reply_of("550 5.1.1 no")
ARGUMENTS = {
    "SenderRefused": (550, b"no", "a@x"),
    "RecipientsRefused": ({"b@x": (550, b"no")},),
    "PartiallyRefused": (("a@x",), {"b@x": REPLY}),
}
KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Failure)]


def made(kind):
    responds = issubclass(kind, smtplib.SMTPResponseException)
    return kind(*ARGUMENTS.get(kind.__name__, (550, b"no") if responds else ("what happened",)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("protocol", [0, pickle.HIGHEST_PROTOCOL])
def test_an_error_survives_pickling_with_all_it_knows(kind, protocol):
    error = made(kind)
    error.stage, error.reply, error.outcome, error.recipients = Stage.RCPT, REPLY, Outcome.UNKNOWN, ("b@x",)
    copy = pickle.loads(pickle.dumps(error, protocol))
    assert type(copy) is kind
    assert (copy.stage, copy.reply, copy.outcome, copy.recipients) == (Stage.RCPT, REPLY, Outcome.UNKNOWN, ("b@x",))
    assert (str(copy), copy.args) == (str(error), error.args)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_what_code_for_djangos_backend_catches(kind):
    assert issubclass(kind, smtplib.SMTPException)
    assert issubclass(kind, OSError)


def test_doubt_is_nothing_that_callers_resend_on():
    assert not issubclass(errors.DeliveryUnknown, (smtplib.SMTPServerDisconnected, TimeoutError, ConnectionError))


@pytest.mark.parametrize(
    ("kind", "parent"),
    [
        ("ConnectionLost", smtplib.SMTPServerDisconnected),
        ("ReplyTimeout", TimeoutError),
        ("GreetingRefused", smtplib.SMTPConnectError),
        ("EhloRefused", smtplib.SMTPHeloError),
        ("NotOffered", smtplib.SMTPNotSupportedError),
        ("AuthRefused", smtplib.SMTPAuthenticationError),
        ("SenderRefused", smtplib.SMTPSenderRefused),
        ("RecipientsRefused", smtplib.SMTPRecipientsRefused),
        ("DataRefused", smtplib.SMTPDataError),
        ("PoolTimeout", TimeoutError),
    ],
)
def test_an_error_is_smtplibs_own(kind, parent):
    assert issubclass(getattr(errors, kind), parent)


def test_a_refusal_has_smtplibs_attributes():
    error = refusal(errors.SenderRefused, REPLY, "a@x", stage=Stage.MAIL, outcome=Outcome.REFUSED)
    assert (error.smtp_code, error.smtp_error, error.sender) == (550, b"5.1.1 no", "a@x")
    assert (error.reply, error.stage, error.outcome) == (REPLY, Stage.MAIL, Outcome.REFUSED)


@pytest.mark.parametrize("error", [OSError(), KeyboardInterrupt(), smtplib.SMTPException("x")])
def test_an_error_that_says_nothing_came_before_anything_was_sent(error):
    assert outcome_of(error) is Outcome.NOT_SENT


def test_an_outcome_that_is_none_of_ours_is_not_believed():
    error = OSError()
    error.outcome = "accepted, trust me"
    assert outcome_of(error) is Outcome.NOT_SENT
