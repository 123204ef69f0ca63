"""The content of a message in pieces, and how it is sent: line ends, dots, and what must not go by BDAT.

Files, and texts that several messages have in common, are separate pieces. The messages of a mailing share them: they
are not copied on their way to the socket, and are searched only once.
"""

from __future__ import annotations

import re
from typing import Any

from ..once import once

# Commands that would start a message, if a server read the content as commands.
_BEGINS_CONTENT = (b"data", b"bdat", b"burl")
_RECIPIENT = b"rcpt"
_WINDOW = 65536  # octets to search at a time, so that a large message is not copied
_LINE = 78  # octets of a line of base64, with its line end

_BARE_LINE_END = re.compile(rb"\r(?!\n)|(?<!\r)\n")


class Shared:
    """A text that messages have in common.

    Arguments:
        octets: whole lines with CRLF.
    """

    def __init__(self, octets: bytes) -> None:
        self.octets = octets

    @once
    def is_ascii(self) -> bool:
        """Whether there are no octets above 127."""
        return self.octets.isascii()

    @once
    def begins_content(self) -> bool:
        """Whether there is a word that would start a message, if a server read its line as a command."""
        return _begins_content(self.octets)

    @once
    def names_recipient(self) -> bool:
        """Whether there could be a recipient, if a server read a line as a command."""
        return _names_recipient(self.octets)


class Base64(Shared):
    """A file in base64: lines of 76 octets and CRLF; the last line may be shorter."""

    is_ascii = True

    @once
    def begins_content(self) -> bool:
        """Whether a line ends with a word that would start a message.

        A command ends with a space or its line (RFC 5321 §4.1.1). Base64 has no spaces.
        """
        return _begins_content(_last_words(self.octets))


class Content:
    """The header and the body of a message.

    Arguments:
        pieces: whole lines with CRLF, in order: octets that only this message has, and those that it shares.
    """

    __slots__ = ("_own", "_pieces", "_shared", "is_ascii", "octets", "size")

    def __init__(self, *pieces: bytes | Shared) -> None:
        self._pieces = pieces
        own = [piece for piece in pieces if type(piece) is bytes]
        self._shared: list[Any] = [piece for piece in pieces if type(piece) is not bytes]
        self.octets: tuple[bytes, ...] = tuple(
            [piece if type(piece) is bytes else piece.octets for piece in pieces]  # type: ignore[union-attr]
        )
        self.size = sum(map(len, self.octets))
        # To be searched at once, unless the copy would be large.
        self._own = own if self.size > _WINDOW else [b"".join(own)]
        self.is_ascii = False not in [*map(bytes.isascii, self._own), *[piece.is_ascii for piece in self._shared]]

    @classmethod
    def of(cls, octets: bytes) -> Content:
        """Return octets as content, with CRLF line ends."""
        return cls(with_crlf(bytes(octets)))

    def __bytes__(self) -> bytes:
        return b"".join(self.octets)

    @property
    def may_be_chunk(self) -> bool:
        """Whether the content may be sent with BDAT.

        A server that refuses BDAT may read the chunk as commands, starting at any octet. If the chunk has a line with
        DATA, BDAT or BURL, the server takes what follows for a message, which an attacker may have written. So text
        before the word on its line is ignored here. With DATA, no content is sent before the server asks for it.
        """
        return True not in [*map(_begins_content, self._own), *[piece.begins_content for piece in self._shared]]

    @property
    def names_recipient(self) -> bool:
        """Whether the content could name a recipient if it is read as commands; then it must not go in one shot."""
        return True in [*map(_names_recipient, self._own), *[piece.names_recipient for piece in self._shared]]

    def stuffed(self) -> tuple[bytes, ...]:
        """Return the octets for DATA: a line that begins with a dot gets a second one (RFC 5321 §4.5.2)."""
        pairs = zip(self._pieces, self.octets, strict=True)
        return tuple([octets if isinstance(piece, Base64) else _stuffed(octets) for piece, octets in pairs])


def with_crlf(octets: bytes) -> bytes:
    """Return octets with CRLF line ends, also at their end; bare CR and bare LF count as line ends."""
    if not octets.count(b"\r\n") == octets.count(b"\n") == octets.count(b"\r"):
        octets = _BARE_LINE_END.sub(b"\r\n", octets)
    return octets if octets.endswith(b"\r\n") or not octets else octets + b"\r\n"


def _begins_content(octets: bytes) -> bool:
    for at in range(0, len(octets), _WINDOW):
        window = octets[at : at + _WINDOW + 5].lower()  # including a word at the end, and what follows it
        for word in _BEGINS_CONTENT:
            found = window.find(word, 0, _WINDOW + 4)
            while found >= 0:
                if not window[found + 4 : found + 5].isalnum():
                    return True
                found = window.find(word, found + 4, _WINDOW + 4)
    return False


def _names_recipient(octets: bytes) -> bool:
    return _RECIPIENT in octets.lower()


def _stuffed(octets: bytes) -> bytes:
    if b"\r\n." in octets:
        octets = octets.replace(b"\r\n.", b"\r\n..")
    return b"." + octets if octets.startswith(b".") else octets


def _last_words(lines: bytes) -> bytes:
    """Return the last four octets of each line of base64, and the whole last line."""
    count = len(lines) // _LINE
    words = bytearray(b"\n") * (5 * count)
    for place in range(4):
        words[place::5] = lines[72 + place : count * _LINE : _LINE]
    return bytes(words) + lines[count * _LINE :]
