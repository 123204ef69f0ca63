"""A message as the core sees it: sender, recipients and content (RFC 5321 §2.3.1)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

from .dsn import DSN

LONGEST_ADDRESS = 320  # octets: 64 for the local part, 255 for the domain (RFC 5321 §4.5.3.1)

_BREAKS_OUT = re.compile(r"[<>\x00-\x20\x7f]")
_ORDINARY = re.compile(r"[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9.-]{1,255}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Commands that would start a message, if a server read the content as commands.
_BEGINS_CONTENT = (b"data", b"bdat", b"burl")
_BEGINS_RECIPIENT = b"rcpt"
_WINDOW = 65536  # octets to search at a time, so that a large message is not copied
_LINE = 78  # octets of a line of base64, with its line end

Ranges = Sequence[tuple[int, int]]

_BARE_LINE_END = re.compile(rb"\r(?!\n)|(?<!\r)\n")


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """One message, rendered and ready for the wire.

    Arguments:
        sender: address for MAIL; "" for the null reverse-path.
        recipients: addresses for RCPT, at least one.
        content: header and body, with any line ends; `fit` converts them to CRLF.
        smtputf8: whether an address needs SMTPUTF8 (RFC 6531).
        seven_bit: returns the content without octets above 127, for a server without 8BITMIME (RFC 6152); raises
            ValueError if that is impossible.
        message_id: the Message-ID of the content, to find it in logs.
        dsn: the requested notifications (RFC 3461).
        require_tls: whether every server on the way must use TLS (RFC 8689).
        base64: (start, end) of each part of the content that has lines of base64 only, of 76 octets and CRLF except for
            the last one. There is less to search in them, which is most of the work for a message with large files.
    """

    sender: str
    recipients: tuple[str, ...]
    content: bytes = field(repr=False)
    smtputf8: bool = False
    seven_bit: Callable[[], bytes] | None = field(default=None, repr=False, compare=False)
    message_id: str | None = None
    dsn: DSN | None = None
    require_tls: bool = False
    base64: Ranges = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        if not all(self.recipients or ("",)):
            raise ValueError("an envelope needs at least one recipient, and every recipient needs an address")
        for address in (self.sender, *self.recipients):
            if not _ORDINARY.fullmatch(address):
                check_address(address, smtputf8=self.smtputf8)
        if self.dsn is not None and (strangers := sorted(self.dsn.addresses.difference(self.recipients))):
            raise ValueError(f"dsn names {strangers[0]!r}, which is not a recipient of the message")

    @cached_property
    def is_eight_bit(self) -> bool:
        """Whether the content has octets above 127."""
        return not self.content.isascii()


def check_address(address: str, *, smtputf8: bool = False) -> None:
    """Raise ValueError for an address that could break out of its command."""
    if _ORDINARY.fullmatch(address):
        return
    if len(address.encode("utf-8", "surrogatepass")) > LONGEST_ADDRESS:
        raise ValueError(f"Invalid address, it is longer than {LONGEST_ADDRESS} octets: {address[:80]!r}...")
    if _BREAKS_OUT.search(_outside_quotes(address)):
        raise ValueError(f"Invalid address: {address!r}")
    if _CONTROL.search(address):
        raise ValueError(f"Invalid address, it has control characters: {address!r}")
    if not smtputf8 and not address.isascii():
        raise ValueError(f"Invalid address, it has non-ASCII characters: {address!r}")


def _outside_quotes(address: str) -> str:
    return re.sub(r'"(?:[^"\\]|\\.)*"', "", address)


def _outside(base64: Ranges, content: bytes) -> Iterable[tuple[int, int]]:
    """Return (start, end) of each part of the content that is not base64."""
    if not base64:
        return ((0, len(content)),)
    edges = [0, *chain.from_iterable(base64), len(content)]
    return zip(edges[::2], edges[1::2], strict=True)


def with_crlf(content: bytes, base64: Ranges = ()) -> bytes:
    """Return the content with CRLF line ends, also at its end; bare CR and bare LF count as line ends."""
    for part in _outside(base64, content):
        if not content.count(b"\r\n", *part) == content.count(b"\n", *part) == content.count(b"\r", *part):
            content = _BARE_LINE_END.sub(b"\r\n", content)
            break
    return content if content.endswith(b"\r\n") or not content else content + b"\r\n"


def may_be_chunk(content: bytes, base64: Ranges = ()) -> bool:
    """Return whether content may be sent with BDAT.

    A server that refuses BDAT may read the chunk as commands, starting at any octet. If the chunk has a line with DATA,
    BDAT or BURL, the server takes what follows for a message, which an attacker may have written. So text before the
    word on its line is ignored here. With DATA, no content is sent before the server asks for it.
    """
    if any(_begins_content(content, *part) for part in _outside(base64, content)):
        return False
    words = b"".join([_last_words(content, start, end) for start, end in base64])
    return not _begins_content(words, 0, len(words))


def _begins_content(text: bytes, start: int, end: int) -> bool:
    for at in range(start, end, _WINDOW):
        window = text[at : min(at + _WINDOW + 5, end)].lower()  # including a word at the end, and what follows it
        for word in _BEGINS_CONTENT:
            found = window.find(word, 0, _WINDOW + 4)
            while found >= 0:
                if not window[found + 4 : found + 5].isalnum():
                    return True
                found = window.find(word, found + 4, _WINDOW + 4)
    return False


def _last_words(content: bytes, start: int, end: int) -> bytes:
    """Return the last four octets of each line of base64, and the whole last line.

    A command ends with a space or its line (RFC 5321 §4.1.1). Base64 has no spaces, so its commands end with the line.
    """
    count = (end - start) // _LINE
    words = bytearray(b"\n") * (5 * count)
    for place in range(4):
        words[place::5] = content[start + 72 + place : start + count * _LINE : _LINE]
    return bytes(words) + content[start + count * _LINE : end]


def names_recipients(content: bytes) -> bool:
    """Return whether content could name a recipient if it is read as commands; then it must not go in one shot."""
    return _BEGINS_RECIPIENT in content.lower()


def dot_stuffed(content: bytes, base64: Ranges = ()) -> bytes:
    """Return CRLF content for DATA: a line that begins with a dot gets a second one (RFC 5321 §4.5.2)."""
    for start, end in _outside(base64, content):
        if content.find(b"\r\n.", max(0, start - 2), end) >= 0:
            content = content.replace(b"\r\n.", b"\r\n..")
            break
    return b"." + content if content.startswith(b".") else content
