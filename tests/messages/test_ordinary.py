"""The ordinary message, written down at once: the octets that Django makes of it; any other is left to Django."""

import importlib.util
from datetime import datetime, timezone
from email import policy
from email.charset import Charset
from types import SimpleNamespace

import django
import pytest
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.core.mail import message as djangos
from django.utils.functional import lazystr
from hypothesis import given
from hypothesis import strategies as st

from django_smtp_pool.message.ordinary import ordinary
from django_smtp_pool.message.render import envelope_of
from tests.mailing import message

pytestmark = pytest.mark.skipif(django.VERSION < (6, 0), reason="Django 5.2 renders otherwise, and fast enough")

INSTANT = datetime(2026, 11, 5, 7, 8, 9, 123456, tzinfo=timezone.utc)


@pytest.fixture(autouse=True, scope="module")
def _always_the_same():
    """Let every message be made at the same instant, with the same Message-ID."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(djangos, "make_msgid", lambda domain=None: f"<1@{domain}>")
        patch.setattr(djangos, "datetime", SimpleNamespace(now=INSTANT.astimezone))
        yield


def by_django(mail):
    return mail.message(policy=policy.SMTP).as_bytes()


def written(mail):
    found = ordinary(mail)
    assert found is not None
    return found[0]


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
    assert ordinary(mail)[1] == f"<1@{djangos.DNS_NAME}>"
    assert envelope_of(mail, None).content == by_django(mail)


def test_local_time(settings):
    settings.EMAIL_USE_LOCALTIME = True
    settings.TIME_ZONE = "Asia/Kolkata"
    assert b" +0530\r\n" in written(message())
    assert written(message()) == by_django(message())


class Own(EmailMessage):
    """A message of somebody's own kind."""


OTHERS = {
    "no ASCII in the body": {"body": "é"},
    "a NUL": {"body": "\0"},
    "a form feed": {"body": "a\x0cb"},
    "a line that is too long": {"body": "x" * 79},
    "no ASCII in the subject": {"subject": "é"},
    "an encoded word": {"subject": "=?utf-8?q?=0A?="},
    "no subject": {"subject": ""},
    "blanks": {"subject": "a  b"},
    "a line end": {"subject": "a\nb"},
    "a subject that is too long": {"subject": "x" * 70},
    "a lazy subject": {"subject": lazystr("Hello")},
    "a quoted name": {"from_email": '"Smith, Ann" <ann@example.com>'},
    "no address": {"from_email": "webmaster"},
    "many recipients": {"to": [f"recipient{number}@example.com" for number in range(9)]},
    "a header": {"headers": {"X-Own": "1"}},
    "an attachment": {"attachments": [("a.txt", "a", "text/plain")]},
}


@pytest.mark.parametrize("fields", OTHERS.values(), ids=OTHERS)
def test_any_other_is_left_to_django(fields):
    assert ordinary(message(**fields)) is None


def test_what_somebody_has_changed_is_left_to_django(settings, monkeypatch):
    html = EmailMultiAlternatives("Hello", "Hi", "a@example.com", ["b@example.com"])
    html.attach_alternative("<p>Hi</p>", "text/html")
    subtype, encoding = message(), message()
    subtype.content_subtype, encoding.encoding = "html", "iso-8859-1"
    own = Own("Hello", "Hi", "a@example.com", ["b@example.com"])
    assert [ordinary(mail) for mail in (html, subtype, encoding, own)] == [None] * 4
    own = message()
    own.message = lambda **how: None
    assert ordinary(own) is None
    settings.DEFAULT_CHARSET = "iso-8859-1"
    assert ordinary(message()) is None
    settings.DEFAULT_CHARSET = "utf-8"
    assert ordinary(message()) is not None
    monkeypatch.setattr(EmailMessage, "message", lambda self, **how: None)
    assert ordinary(message()) is None


def test_who_has_replaced_it_before_we_came_is_asked(monkeypatch):
    """The backend is imported with the first mail: long after the `ready()` of every app."""
    monkeypatch.setattr(EmailMessage, "message", lambda self, **how: None)
    spec = importlib.util.find_spec("django_smtp_pool.message.ordinary")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.ordinary(message()) is None


def test_a_charset_that_says_it_is_utf_8_is_left_to_django():
    mail = message()
    mail.encoding = Charset("utf-8")
    assert ordinary(mail) is None


TEXT = st.text(st.characters(min_codepoint=9, max_codepoint=126), max_size=90)
MAILBOXES = st.sampled_from(
    ["a@example.com", "Ann <a.b+c@mail.example.com>", "Ann 2 Bo <a@b>", "-a@1", "x" * 60 + "@example.com"]
)


@given(TEXT, st.text(max_size=80) | TEXT, MAILBOXES, st.lists(MAILBOXES, min_size=1, max_size=4))
def test_whatever_is_taken_for_ordinary_has_the_octets_of_django(subject, body, sender, recipients):
    mail = EmailMessage(subject, body, sender, recipients)
    found = ordinary(mail)
    if found is not None:
        assert found[0] == by_django(mail)


@given(
    st.from_regex(r"[!-<>-~]{1,20}( [!-<>-~]{1,20}){0,3}", fullmatch=True),
    st.from_regex(r"([ -~]{0,78}(\n|\r\n)){0,9}", fullmatch=True),
)
def test_ordinary_words_and_lines_are_taken_for_ordinary(subject, body):
    mail = EmailMessage(subject[:69].rstrip(), body, "a@example.com", ["b@example.com"])
    assert written(mail) == by_django(mail)
