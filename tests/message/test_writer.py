"""The writer: the octets that Django makes of a message; a message that it does not know is left to Django."""

import importlib.util
import random
import sys
from datetime import datetime, timezone
from email import policy
from email.charset import BASE64, Charset
from email.utils import format_datetime
from types import SimpleNamespace

import django
import pytest
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.core.mail import message as djangos
from django.utils.functional import lazystr
from django.utils.safestring import SafeString

from django_smtp_pool.core.smtp.content import with_crlf
from django_smtp_pool.message.parts import ALONE
from django_smtp_pool.message.render import envelope_of
from django_smtp_pool.message.writer import write
from tests.mailing import message
from tests.message.reader import read

MODERN = django.VERSION >= (6, 0)

INSTANT = datetime(2026, 11, 5, 7, 8, 9, 123456, tzinfo=timezone.utc)


@pytest.fixture(autouse=True, scope="module")
def _always_the_same():
    """Let every message be made at the same instant, with the same Message-ID."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(djangos, "make_msgid", lambda domain=None: f"<1@{domain}>")
        if MODERN:
            patch.setattr(djangos, "datetime", SimpleNamespace(now=INSTANT.astimezone))
        else:
            patch.setattr(djangos, "formatdate", lambda localtime: format_datetime(INSTANT))
        yield


def by_django(mail):
    random.seed(7)  # the boundaries
    if MODERN:
        return mail.message(policy=policy.SMTP).as_bytes()
    return with_crlf(mail.message().as_bytes(linesep="\r\n"))


def written(mail):
    random.seed(7)
    found = write(mail, ALONE)
    assert found is not None
    return bytes(found.content)


ORDINARY = {
    "a small one": {},
    "an empty body": {"body": ""},
    "empty lines": {"body": "\n\na\n\n"},
    "no last line end": {"body": "a\nb"},
    "line ends of all kinds": {"body": "a\r\nb\rc\nd"},
    "dots": {"body": ".\n..\n.a\n"},
    "From at the beginning": {"body": "From me\nFrom you\n"},
    "tabs and blanks at the ends": {"body": "\ta \n b\t\n"},
    "the longest line": {"body": "x" * 78},
    "the longest subject": {"subject": "x" * 69},
    "many words": {"subject": " ".join(["word"] * 13)},
    "signs": {"subject": '[1/2] <a> (b) "c", d: e; f?! 100% #1 a@b.example'},
    "names": {"from_email": "Ann Smith <ann@example.com>", "to": ["Bob 2 <bob@example.com>", "cid@example.com"]},
    "everybody": {"cc": ["cc@example.com"], "bcc": ["bcc@example.com"], "reply_to": ["re@example.com"]},
}


@pytest.mark.parametrize("fields", ORDINARY.values(), ids=ORDINARY)
@pytest.mark.parametrize("kind", [EmailMessage, EmailMultiAlternatives])
def test_an_ordinary_message(kind, fields):
    mail = kind(
        **{"subject": "Hello", "body": "Hi\n", "from_email": "a@example.com", "to": ["b@example.com"], **fields}
    )
    assert written(mail) == by_django(mail)
    assert write(mail, ALONE).message_id == f"<1@{djangos.DNS_NAME}>"
    assert bytes(envelope_of(mail, None).content) == by_django(mail)


@pytest.mark.skipif(not MODERN, reason="the clock is that of Django 6.0")
def test_local_time(settings):
    settings.EMAIL_USE_LOCALTIME = True
    settings.TIME_ZONE = "Asia/Kolkata"
    assert b" +0530\r\n" in written(message())
    assert written(message()) == by_django(message())


class Own(EmailMessage):
    """A message of somebody's own kind, which Django renders like any other."""


class Rendering(EmailMessage):
    """A message that has a say in its rendering."""

    def message(self, **how):
        return super().message(**how)


def with_own_body_maker():
    mail = message()
    mail.message = mail.message
    return mail


def with_charset(charset):
    mail = message()
    mail.encoding = charset
    return mail


LEFT_TO_DJANGO = {
    "a class that renders itself": lambda: Rendering("Hello", "Hi", "a@example.com", ["b@example.com"]),
    "an object that renders itself": with_own_body_maker,
    "a Charset": lambda: with_charset(Charset("utf-8")),
    "UTF-16": lambda: with_charset("utf-16"),
    "an unknown charset": lambda: with_charset("x-none"),
    "a header that is no text": lambda: message(headers={"X-Number": 1}),
    "a second subject": lambda: message(headers={"SUBJECT": "x"}),
    "the same header twice": lambda: message(headers={"Sender": "a@example.com", "SENDER": "a@example.com"}),
    "a Content header": lambda: message(headers={"Content-Language": "de"}),
    "a forwarded message": lambda: message(attachments=[("a.eml", message(), "message/rfc822")]),
}


@pytest.mark.parametrize("make", LEFT_TO_DJANGO.values(), ids=LEFT_TO_DJANGO)
def test_what_the_writer_does_not_know_is_left_to_django(make):
    assert write(make(), ALONE) is None


def test_a_class_that_leaves_the_rendering_to_django_is_written():
    mail = Own("Hello", "Hi", "a@example.com", ["b@example.com"])
    assert written(mail) == by_django(mail)


REPLACED = ["message", "_set_list_header_if_not_empty"]
REPLACED += ["_add_bodies", "_add_attachments"] if MODERN else ["_create_message", "_create_attachments"]


@pytest.mark.parametrize("name", REPLACED)
def test_who_replaces_a_method_of_django_is_asked(monkeypatch, name):
    assert write(message(), ALONE) is not None
    monkeypatch.setattr(EmailMessage, name, lambda self, *args, **how: None)
    assert write(message(), ALONE) is None


def test_who_has_replaced_it_before_we_came_is_asked(monkeypatch):
    """The backend is imported with the first mail: long after the `ready()` of every app."""
    monkeypatch.setattr(EmailMessage, "message", lambda self, **how: None)
    spec = importlib.util.find_spec("django_smtp_pool.message.writer")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    assert module.write(message(), ALONE) is None


def test_lazy_and_safe_texts_are_texts():
    mail = message(subject=lazystr("Hello"), body=SafeString("Hi\n"))
    assert written(mail) == by_django(message(subject="Hello", body="Hi\n"))


def test_the_default_charset_is_read_each_time(settings):
    settings.DEFAULT_CHARSET = "iso-8859-1"
    mail = message(body="Äpfel\n")
    assert b"iso-8859-1" in written(mail)
    assert written(mail) == by_django(mail)


@pytest.mark.skipif(MODERN, reason="Django 6.0 no longer has it")
def test_a_changed_charset_of_django_counts(monkeypatch):
    monkeypatch.setattr(djangos.utf8_charset, "body_encoding", BASE64)
    assert written(message(body="Äpfel\n")) == by_django(message(body="Äpfel\n"))
    assert b"base64" in written(message(body="Äpfel\n"))


def test_a_boundary_is_in_no_part(monkeypatch):
    monkeypatch.setattr(random, "getrandbits", lambda count: 1)
    boundary = f"{'=' * 15}{1:019d}=="
    mail = EmailMultiAlternatives("Hello", f"--{boundary}\n", "a@example.com", ["b@example.com"])
    mail.attach_alternative("<p>Hi</p>", "text/html")
    found = read(written(mail))
    assert found.params("content-type")[1]["boundary"] == f"{boundary}.0"
    assert [part.content for part in found.parts] == [f"--{boundary}\n", "<p>Hi</p>\n"[: None if MODERN else -1]]
