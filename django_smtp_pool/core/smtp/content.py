"""The content of a message in pieces, and how it is sent: line ends, dots, and what must not go by BDAT.

A file in base64 is a separate piece. The pieces are handed to the socket as they are, so a file is not copied, and
the messages of a mailing share it. There is less to search in it, too, and only once for all messages.
"""

from __future__ import annotations

import re
from functools import cached_property

# Commands that would start a message, if a server read the content as commands.
_BEGINS_CONTENT = (b"data", b"bdat", b"burl")
_BEGINS_RECIPIENT = b"rcpt"
_WINDOW = 65536  # octets to search at a time, so that a large message is not copied
_LINE = 78  # octets of a line of base64, with its line end

_BARE_LINE_END = re.compile(rb"\r(?!\n)|(?<!\r)\n")


class Base64:
    """A file in base64: lines of 76 octets and CRLF; the last line may be shorter.

    Arguments:
        lines: all of them. It is one object, because an allocator keeps many smaller ones when they are freed.
    """

    def __init__(self, lines: bytes) -> None:
        self.lines = lines

    def __len__(self) -> int:
        return len(self.lines)

    def isascii(self) -> bool:
        """Return True, as `bytes` does for a piece without octets above 127."""
        return True

    @cached_property
    def begins_content(self) -> bool:
        """Whether a line ends with a word that would start a message, if a server read it as a command."""
        return _begins_content(_last_words(self.lines))


class Content:
    """The header and the body of a message.

    Arguments:
        pieces: texts and files, in order; each begins a line.
    """

    __slots__ = ("is_ascii", "pieces", "size")

    def __init__(self, *pieces: bytes | Base64) -> None:
        self.pieces = pieces
        self.size = sum(map(len, pieces))
        self.is_ascii = False not in [piece.isascii() for piece in pieces]

    def __bytes__(self) -> bytes:
        return b"".join(self.octets)

    @property
    def octets(self) -> tuple[bytes, ...]:
        """The octets of all pieces, which are not copied."""
        return tuple([piece.lines if isinstance(piece, Base64) else piece for piece in self.pieces])

    def with_crlf(self) -> Content:
        """Return the content with CRLF line ends, also at the end of each piece."""
        pieces = tuple([piece if isinstance(piece, Base64) else with_crlf(piece) for piece in self.pieces])
        return self if pieces == self.pieces else Content(*pieces)

    def may_be_chunk(self) -> bool:
        """Return whether the content may be sent with BDAT.

        A server that refuses BDAT may read the chunk as commands, starting at any octet. If the chunk has a line with
        DATA, BDAT or BURL, the server takes what follows for a message, which an attacker may have written. So text
        before the word on its line is ignored here. With DATA, no content is sent before the server asks for it.
        """
        return True not in [
            piece.begins_content if isinstance(piece, Base64) else _begins_content(piece) for piece in self.pieces
        ]

    def names_recipients(self) -> bool:
        """Return whether the content could name a recipient if it is read as commands; it must not go in one shot."""
        return True in [_BEGINS_RECIPIENT in octets.lower() for octets in self.octets]

    def dot_stuffed(self) -> tuple[bytes, ...]:
        """Return the octets for DATA: a line that begins with a dot gets a second one (RFC 5321 §4.5.2).

        The content must have CRLF line ends. Base64 has no dots.
        """
        return tuple([piece.lines if isinstance(piece, Base64) else _dot_stuffed(piece) for piece in self.pieces])


def with_crlf(octets: bytes) -> bytes:
    """Return octets with CRLF line ends, also at their end; bare CR and bare LF count as line ends."""
    if not octets.count(b"\r\n") == octets.count(b"\n") == octets.count(b"\r"):
        octets = _BARE_LINE_END.sub(b"\r\n", octets)
    return octets if octets.endswith(b"\r\n") or not octets else octets + b"\r\n"


def _begins_content(text: bytes) -> bool:
    for at in range(0, len(text), _WINDOW):
        window = text[at : at + _WINDOW + 5].lower()  # including a word at the end, and what follows it
        for word in _BEGINS_CONTENT:
            found = window.find(word, 0, _WINDOW + 4)
            while found >= 0:
                if not window[found + 4 : found + 5].isalnum():
                    return True
                found = window.find(word, found + 4, _WINDOW + 4)
    return False


def _last_words(lines: bytes) -> bytes:
    """Return the last four octets of each line of base64, and the whole last line.

    A command ends with a space or its line (RFC 5321 §4.1.1). Base64 has no spaces, so its commands end with the line.
    """
    count = len(lines) // _LINE
    words = bytearray(b"\n") * (5 * count)
    for place in range(4):
        words[place::5] = lines[72 + place : count * _LINE : _LINE]
    return bytes(words) + lines[count * _LINE :]


def _dot_stuffed(text: bytes) -> bytes:
    if b"\r\n." in text:
        text = text.replace(b"\r\n.", b"\r\n..")
    return b"." + text if text.startswith(b".") else text
