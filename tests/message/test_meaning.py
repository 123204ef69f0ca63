"""Messages of chance: what a reader that is not Python's finds in the octets is what the message says.

And the octets are Django's wherever Django's say the same. MESSAGES=10000 in the environment
makes so many of each kind.
"""

import os
import random
import re
from datetime import datetime, timezone
from email import policy
from email.utils import format_datetime
from types import SimpleNamespace

import django
import pytest
from django.core.mail import EmailMultiAlternatives
from django.core.mail import message as djangos
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_smtp_pool.core.smtp.content import Content, with_crlf
from django_smtp_pool.message.parts import ALONE, Batch
from django_smtp_pool.message.render import envelope_of
from django_smtp_pool.message.writer import write
from tests.message.reader import PEOPLE, PROSE, Unreadable, people, read, text_of

MODERN = django.VERSION >= (6, 0)
pytestmark = [pytest.mark.timeout(0)] if "MESSAGES" in os.environ else []
INSTANT = datetime(2026, 11, 5, 7, 8, 9, tzinfo=timezone.utc)


@pytest.fixture(autouse=True, scope="module")
def _always_the_same():
    """Let every message be made at the same instant, with the same Message-ID."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(djangos, "make_msgid", lambda domain=None: "<1@example.com>")
        if MODERN:
            patch.setattr(djangos, "datetime", SimpleNamespace(now=INSTANT.astimezone))
        else:
            patch.setattr(djangos, "formatdate", lambda localtime: format_datetime(INSTANT))
        yield


SCRIPTS = ["abc", "XYZ 09", "äöüß", "абвг", "日本語", "אבג", "🎉👍🏽", "'!?.-_", '",;:@<>()[]\\', "=?%"]
LETTERS = st.sampled_from(SCRIPTS).flatmap(lambda script: st.text(st.sampled_from(script), min_size=1, max_size=12))
WORDS = st.one_of(LETTERS, st.text(st.sampled_from("abcäß日"), min_size=1, max_size=90), st.sampled_from(["x" * 80]))
GAPS = st.sampled_from([" ", " ", " ", "  ", "   "])


@st.composite
def texts(draw, words=WORDS, gaps=GAPS, longest=12):
    """Return words in several scripts, with one blank or more between them."""
    found = draw(st.lists(words, min_size=1, max_size=longest))
    return "".join(word + draw(gaps) for word in found).strip()


NAMES = texts(words=LETTERS, gaps=st.just(" "), longest=6).filter(lambda name: "=?" not in name)
DOMAINS = st.sampled_from(["example.com", "mail.example.org", "bücher.example", "a-b.c.example", "例え.example"])
LOCAL_PARTS = st.from_regex(r"[a-z0-9_+-]{1,12}(\.[a-z0-9_+-]{1,12})?", fullmatch=True)
ASCII = {"bücher.example": "xn--bcher-kva.example", "例え.example": "xn--r8jz45g.example"}


@st.composite
def mailboxes(draw):
    """Return an address as people write it, with what it means: a name and an address."""
    name, local_part, domain = draw(st.none() | NAMES), draw(LOCAL_PARTS), draw(DOMAINS)
    address, meant = f"{local_part}@{domain}", f"{local_part}@{ASCII.get(domain, domain)}"
    if name is None:
        return address, ("", meant)
    quoted = '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'
    written = name if re.fullmatch(r"[^\W_]+( [^\W_]+)*", name) else quoted
    return f"{written} <{address}>", (name, meant)


IDS = st.from_regex(r"<[a-z0-9=_-]{1,90}@[a-z0-9.]{1,30}>", fullmatch=True)
URLS = st.from_regex(r"<https://example\.com/[a-zA-Z0-9=/_?&-]{0,200}>", fullmatch=True)
MACHINE = st.fixed_dictionaries(
    {},
    optional={
        "References": st.lists(IDS, min_size=1, max_size=8).map(" ".join),
        "In-Reply-To": IDS,
        "List-Unsubscribe": st.lists(URLS, min_size=1, max_size=2).map(", ".join),
        "List-ID": st.just("News for you <news.example.com>"),
        "Feedback-ID": st.from_regex(r"[a-z0-9:]{1,120}", fullmatch=True),
        "X-SMTPAPI": st.from_regex(r'\{"to": \["[a-z@.]{1,150}"(, "[a-z@.]{1,60}"){0,6}\]\}', fullmatch=True),
    },
)
LINES = st.text(st.sampled_from("abc äß日🎉.,=<>&\t-"), max_size=100) | st.sampled_from(
    ["", ".", "..", "From me", "data", "BDAT x", "rcpt to:<x>", "x" * 997, "ü" * 500, "=" * 90, " " * 80, "trailing \t"]
)
BODIES = st.lists(LINES, max_size=14).map("\n".join)
FILENAMES = st.sampled_from(
    ["a.pdf", "a b.pdf", "Grüße.pdf", 'a"b.pdf', "a'b%20.pdf", "x" * 100 + ".pdf", "日本" * 30 + ".pdf", "a;b.pdf"]
)
FILES = st.tuples(FILENAMES, st.binary(max_size=200), st.sampled_from(["application/pdf", "image/png"]))
DOCUMENTS = st.tuples(FILENAMES, BODIES, st.sampled_from(["text/plain", "text/csv", "text/calendar"]))


def by_django(mail):
    random.seed(7)
    if MODERN:
        return mail.message(policy=policy.SMTP).as_bytes()
    return with_crlf(mail.message().as_bytes(linesep="\r\n"))


def fields_of(content):
    """Return the header, field by field, as it stands."""
    head, _, body = content.partition(b"\r\n\r\n")
    return re.findall(rb"[^\r\n]+(?:\r\n[ \t][^\r\n]*)*", head), body


def says(name, octets, meant):
    """Tell whether a field says what is meant to a strict reader."""
    try:
        ((_, value),) = read(octets + b"\r\n\r\n").fields
        if name in PEOPLE:
            return people(value) == meant
        return (text_of(value) if name in PROSE or not meant.isascii() else value) == meant
    except (Unreadable, UnicodeDecodeError):
        return False


def assert_right(mail, meant):
    """Check a message against what it means: its fields by name, in lower case."""
    random.seed(7)
    found = write(mail, ALONE)
    assert found is not None
    content = bytes(found.content)
    read(content)
    ours, body = fields_of(content)
    djangos_fields, djangos_body = fields_of(by_django(mail))
    assert body == djangos_body
    for our, django_s in zip(ours, djangos_fields, strict=True):
        name = our.partition(b":")[0].decode().lower()
        if name in meant:
            assert says(name, our, meant[name]), (our, meant[name])
            assert our == django_s or not says(name, django_s, meant[name]), (our, django_s)
        else:
            assert our == django_s


SLOW = settings(
    max_examples=int(os.environ.get("MESSAGES", "40")), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@given(subject=texts(), comments=texts())
@SLOW
def test_texts(subject, comments):
    mail = EmailMultiAlternatives(subject, "", "a@example.com", ["b@example.com"], headers={"Comments": comments})
    if "=?" in subject + comments:
        return  # read as encoded already
    assert_right(mail, {"subject": subject, "comments": comments})


@given(sender=mailboxes(), to=st.lists(mailboxes(), min_size=1, max_size=8), reply_to=mailboxes())
@SLOW
def test_people(sender, to, reply_to):
    mail = EmailMultiAlternatives("x", "", sender[0], [each for each, _ in to], reply_to=[reply_to[0]])
    assert_right(mail, {"from": [sender[1]], "to": [meant for _, meant in to], "reply-to": [reply_to[1]]})
    envelope = envelope_of(mail, None)
    assert envelope.sender == sender[1][1]
    assert list(envelope.recipients) == [meant for _, (_, meant) in to]


@given(headers=MACHINE)
@SLOW
def test_what_programs_read(headers):
    mail = EmailMultiAlternatives("x", "", "a@example.com", ["b@example.com"], headers=headers)
    assert_right(mail, {name.lower(): value for name, value in headers.items()})


def composed(body, html, files, charset):
    mail = EmailMultiAlternatives("x", body, "a@example.com", ["b@example.com"])
    mail.encoding = charset
    if html is not None:
        mail.attach_alternative(html, "text/html")
    for each in files:
        mail.attach(*each)
    return mail


COMPOSED = {
    "body": BODIES,
    "html": st.none() | BODIES,
    "files": st.lists(FILES | DOCUMENTS, max_size=3),
    "charset": st.sampled_from(
        [None, None, "utf-8", "iso-8859-1", "us-ascii", "koi8-r", "iso-2022-jp", "windows-1252"]
    ),
}


@given(**COMPOSED)
@SLOW
def test_bodies_and_files(body, html, files, charset):
    mail = composed(body, html, files, charset)
    try:
        by_django(mail)
    except (UnicodeError, LookupError):
        with pytest.raises((UnicodeError, LookupError)):
            envelope_of(mail, None)
        return
    content = bytes(envelope_of(mail, None).content)
    leaves = [*read(content).walk()]
    expected = [body] * bool(body or (html is None and not files)) + [html] * (html is not None)
    expected += [each[1] for each in files]
    assert [without_last_line_end(leaf.content) for leaf in leaves] == [*map(without_last_line_end, expected)]
    names = [leaf.params("content-disposition")[1]["filename"] for leaf in leaves if leaf["content-disposition"]]
    assert names == [each[0] for each in files]


def without_last_line_end(content):
    return content.removesuffix("\n") if isinstance(content, str) else content


@given(**COMPOSED)
@SLOW
def test_what_messages_share_does_not_change_them(body, html, files, charset):
    mail, batch = composed(body, html, files, charset), Batch(is_alone=False)
    found = []
    for shared in (ALONE, batch, batch, batch):
        random.seed(7)
        try:
            found.append(envelope_of(mail, None, batch=shared).content)
        except (UnicodeError, LookupError):
            return
    whole = Content.of(bytes(found[0]))
    for content in found:
        assert bytes(content) == bytes(whole)
        assert (content.size, content.is_ascii) == (whole.size, whole.is_ascii)
        assert b"".join(content.stuffed()) == b"".join(whole.stuffed())
        assert content.names_recipient == whole.names_recipient
        assert content.may_be_chunk >= whole.may_be_chunk
