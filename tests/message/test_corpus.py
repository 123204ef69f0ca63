"""The same messages through Django's own backend and ours, to the same server: octet for octet the same.

Where they are not the same, that is on purpose, and it stands in DIFFERENCES.
"""

import random
import re
from datetime import datetime, timezone
from email import message_from_bytes
from functools import partial

import django
import pytest
from django.core.mail import EmailMessage
from django.core.mail.backends.smtp import EmailBackend

from tests.mailing import backend_for
from tests.message.corpus import COLLECTED, forwarding_bytes, generated, mail, with_encoding
from tests.message.reader import PEOPLE, PROSE, WORD, people, text_of
from tests.servers import FaultServer

NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
MODERN = django.VERSION >= (6, 0)


class StandingClock(datetime):
    """A clock for Django's renderer."""

    @classmethod
    def now(cls, tz=None):
        return NOW


@pytest.fixture(autouse=True)
def _same_rendering_every_time(monkeypatch):
    from django.core.mail import message

    monkeypatch.setattr(message, "make_msgid", lambda domain: "<same@example.com>")
    if MODERN:
        monkeypatch.setattr(message, "datetime", StandingClock)
    else:
        monkeypatch.setattr(message, "formatdate", lambda localtime: "Sun, 22 Nov 2026 12:00:00 -0000")


@pytest.fixture(scope="module")
def sink():
    with FaultServer() as running:
        yield running


class Sent:
    """What became of one message: what the server got, or the error."""

    def __init__(self, backend, server, make):
        random.seed(7)  # the boundaries
        before = len(server.accepted)
        self.error = None
        try:
            backend.send_messages([make()])
        except Exception as error:
            self.error = error
        self.got = server.accepted[before:]

    @property
    def told(self):
        """Return what must be the same."""
        if self.error is not None:
            return type(self.error)
        return [(each.sender, each.recipients, each.content) for each in self.got]


@pytest.fixture
def both(sink):
    """Return a function that sends a message both ways."""
    stock = backend_for(sink, kind=EmailBackend)
    ours = backend_for(sink)
    stock.open()
    yield lambda make: (Sent(stock, sink, make), Sent(ours, sink, make))
    stock.close()


def is_right(content):
    """Tell whether octets keep the rules of RFC 5321 and RFC 5322 that the stock backend may break."""
    lines = content.split(b"\r\n")
    return max(map(len, lines)) <= 998 and not re.search(rb"[\r\n\0]", b"".join(lines))


def meaning(content):
    """Return what a reader sees: the texts and files of a message, whatever way they were encoded."""
    parts = [part for part in message_from_bytes(content).walk() if not part.is_multipart()]
    return [(part.get_content_type(), part.get_payload(decode=True).replace(b"\r\n", b"\n")) for part in parts]


def fields_of(content):
    """Return the fields of the header, with their folds."""
    return re.findall(rb"([^\r\n:]*):((?:[^\r\n]|\r\n[ \t])*)", content.split(b"\r\n\r\n", 1)[0])


def assert_alike(stock, ours):
    if stock.error is not None:
        assert issubclass(ours.told, stock.told)  # Django 5.2 has a type of its own for line ends, and uses it at times
    elif is_right(stock.got[0].content):
        assert [each[:2] for each in ours.told] == [each[:2] for each in stock.told]
        ours, stock = ours.got[0].content, stock.got[0].content
        assert ours.partition(b"\r\n\r\n")[2] == stock.partition(b"\r\n\r\n")[2]
        ours, stock = fields_of(ours), fields_of(stock)
        assert [name for name, _ in ours] == [name for name, _ in stock]
        for (name, value), (_, djangos) in zip(ours, stock, strict=True):
            assert value == djangos or is_wrong(name, djangos, value), name
    elif b"\0" in stock.got[0].content:  # UTF-16, say
        assert ours.told is ValueError
    else:
        assert is_right(ours.got[0].content)
        assert meaning(ours.got[0].content) == meaning(stock.got[0].content)


def is_wrong(name, djangos, ours):
    """Tell whether Django's field does not say what it was given, as `docs/differences.rst` has it, and ours does."""
    name, said, meant = name.decode().lower(), *(each.decode().replace("\r\n", "").strip() for each in (djangos, ours))
    if any(len(word[0]) > 75 for word in WORD.finditer(said)):
        return not any(len(word[0]) > 75 for word in WORD.finditer(meant))
    if name in PEOPLE:
        return people(said) != people(meant)
    return (said != meant) if name not in PROSE and meant.isascii() else text_of(said) != text_of(meant)


@pytest.mark.parametrize("name", COLLECTED)
def test_collected_messages(both, name):
    assert_alike(*both(COLLECTED[name]))


@pytest.mark.parametrize("block", range(8))
def test_messages_of_chance(both, block):
    for name, make in list(generated(240).items())[block::8]:
        stock, ours = both(make)
        assert_alike(stock, ours)
        assert ours.got or ours.error, name


# -- where we differ on purpose ------------------------------------------------------------------------


class Foreign(EmailMessage):
    """A message whose octets come from somewhere else, as those of signing packages do."""

    octets = b"Subject: x\n\nlines\nwith\rany end"

    def message(self, **options):
        return self

    def as_bytes(self, **options):
        return self.octets


def foreign(octets=Foreign.octets):
    made = Foreign("Subject", "Body\n", "from@example.com", ["to@example.com"])
    made.octets = octets
    return made


HEADER_LINE = {"X-Long": "x" * 1200}
INJECTION = "é=?UTF-8?Q?=0A?=X-Injected: yes"
LOCAL_PART = ["jörg@example.com"]

SENT, REFUSED = "sent", ValueError

# What we do otherwise than Django's own backend, on purpose; docs/differences.rst says the same in words. Some
# differences are gone with a later Django or Python: then both do the same, and it is right.
DIFFERENCES = {
    "a NUL is refused": (partial(mail, body="a\0b\n"), REFUSED),
    "a Bcc header is refused": (partial(mail, headers={"Bcc": "b@example.com"}), REFUSED),
    "a second Subject is refused": (partial(mail, headers={"subject": "b"}), REFUSED),
    "a nameless header is refused": (partial(mail, headers={"": "b"}), REFUSED),
    "a header name with a blank is refused": (partial(mail, headers={"X A": "b"}), REFUSED),
    "a header name with a line end is refused": (partial(mail, headers={"X-A\nX-B": "b"}), REFUSED),
    "an injected header is refused": (partial(mail, subject=INJECTION), REFUSED),
    "bare CR and LF become CRLF": (foreign, SENT),
    "a long line is encoded again": (partial(with_encoding, "us-ascii", body="x" * 1200), SENT),
    "a long line of a forwarded message too": (partial(forwarding_bytes, b"\n" + b"x" * 1200), SENT),
    "a header line that cannot be folded is refused": (partial(mail, headers=HEADER_LINE), REFUSED),
    "a non-ASCII local part goes by SMTPUTF8": (partial(mail, to=LOCAL_PART), SENT if MODERN else REFUSED),
    "so does one in Reply-To": (partial(mail, reply_to=LOCAL_PART), SENT if MODERN else REFUSED),
    "an address that the parser chokes on is a ValueError": (partial(mail, to=["a@[::1"]), REFUSED),
    "so is one that is nested too deeply": (partial(mail, to=["(" * 900 + "a@example.com"]), REFUSED),
    "so is one that the envelope would read otherwise": (partial(mail, to=["b(c)ob@example.com"]), REFUSED),
    "so is one that no envelope can hold": (partial(mail, to=[f"{'a' * 330}@example.com"]), REFUSED),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_differences(both, name):
    make, verdict = DIFFERENCES[name]
    stock, ours = both(make)
    if stock.told == ours.told:
        assert stock.error is not None or is_right(stock.got[0].content)
    elif verdict is REFUSED:
        assert ours.told is ValueError
        assert not ours.got
    else:
        assert is_right(ours.got[0].content)


def test_an_injected_header_is_refused_where_python_lets_it_happen(both):
    stock, ours = both(partial(mail, subject=INJECTION))
    injected = re.search(rb"[\r\n]X-Injected", stock.got[0].content)
    assert ours.told is ValueError if injected else ours.told == stock.told


def test_eight_bits_are_announced(both):
    stock, ours = both(partial(mail, body="Grüße\n"))
    assert not [each for each in stock.got[0].parameters if each.upper().startswith("BODY")]
    assert "BODY=8BITMIME" in ours.got[0].parameters
