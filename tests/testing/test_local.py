"""A real server for a project's tests, and the assertion "exactly once, or told"."""

import subprocess
import sys
from contextlib import suppress
from smtplib import SMTPException

import pytest
from django.core.mail import EmailMessage

from django_smtp_pool import status_of
from django_smtp_pool.core.options import extras
from django_smtp_pool.testing import Fault, assert_once_or_told, faults, local_server
from django_smtp_pool.testing.server.record import Accepted

pytestmark = pytest.mark.filterwarnings("ignore:The EMAIL_", "ignore:get_connection", "ignore:Django 2028")


def letters(count=3):
    return [EmailMessage(f"Grüße {number}", "Hello", to=["ann@example.com"]) for number in range(count)]


@pytest.mark.parametrize("tls", [None, "starttls", "implicit"])
@pytest.mark.parametrize("login", [False, True])
def test_mail_travels(tls, login):
    with local_server(tls=tls, login=login) as server:
        for message in letters():
            message.send()
        assert [(each.tls, each.user) for each in server.accepted] == [(tls is not None, "user" if login else None)] * 3
        assert server.accepted[0].recipients == ("ann@example.com",)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(at="end", do=faults.accepted_then(faults.reset)),
        Fault(at="end", do=faults.refused_then(faults.reset)),
        Fault(at="end", do=faults.code_5xx),
        Fault(at="banner", do=faults.code_421),
    ],
)
def test_once_or_told(fault):
    messages = letters()
    with local_server(fault=fault) as server:
        for message in messages:
            with suppress(SMTPException):
                message.send()
        assert server.struck
        assert_once_or_told(server, messages)


def test_a_copy_too_many_and_a_message_too_few():
    messages = letters(2)
    with local_server() as server:
        for message in messages:
            message.send()
        record = server.record.accepted
        record[1:] = [record[0]]
        with pytest.raises(AssertionError) as caught:
            assert_once_or_told(server, messages)
    assert str(caught.value).splitlines() == [
        "'Grüße 0' for ann@example.com: the sender was told accepted, the server has 2",
        "'Grüße 1' for ann@example.com: the sender was told accepted, the server has 0",
    ]
    assert isinstance(record[0], Accepted)


def test_messages_that_cannot_be_told_apart_or_were_not_sent():
    with local_server() as server:
        with pytest.raises(ValueError, match="'Grüße 0' is used more than once"):
            assert_once_or_told(server, letters(1) * 2)
        with pytest.raises(AssertionError, match="has no status"):
            assert_once_or_told(server, letters(1))


def test_without_trustme_the_error_names_the_extra():
    script = """
import sys
sys.modules["trustme"] = None
import django_smtp_pool.testing as testing
try:
    testing.certificates()
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stderr, "pip install 'django-smtp-pool[testing]'" in done.stdout) == ("", True)


def test_the_extra_is_known():
    assert extras.missing("testing") is None


def test_the_status_of_what_was_not_sent_by_the_pool():
    assert status_of(letters(1)[0]) is None
