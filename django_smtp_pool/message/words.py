"""Text in a header: encoded words (RFC 2047) and folding (RFC 5322).

Python's email package writes most headers well. `folded` writes the others.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

LONGEST_WORD = 75  # octets, the limit for an encoded word (RFC 2047 section 2)
FULL_LINE = 78  # octets, the recommended limit for a line (RFC 5322 section 2.1.1)

_ENCODED = r"=\?([!->@-~]+)\?([bBqQ])\?([!->@-~]*)\?="
_ANYWHERE = re.compile(_ENCODED)
_ALONE = re.compile(rf"(?<![^\s(]){_ENCODED}(?![^\s)])")  # strictly: with spaces around it
_UNFOLD = re.compile(r"\r?\n(?=[ \t])")
_TOKEN = re.compile(r"([ \t]*)([^ \t]+)")
_Q = {
    octet: chr(octet) if chr(octet).isalnum() or chr(octet) in "-!*+/" else f"={octet:02X}" for octet in range(128)
} | {octet: f"={octet:02X}" for octet in range(128, 256)}
_Q[ord(" ")] = "_"


def unfolded(text: str) -> str:
    """Return the value of a field without its folds."""
    return _UNFOLD.sub("", text)


def decoded(text: str, *, strictly: bool = True) -> str:
    """Return a text as a reader displays it: words decoded, and the spaces between two encoded words dropped.

    Arguments:
        strictly: whether an encoded word needs spaces around it, as RFC 2047 says.
    """
    read, at, after_word = [], 0, False
    for match in (_ALONE if strictly else _ANYWHERE).finditer(text):
        word = _read(*match.groups())
        between = text[at : match.start()]
        if word is None:
            continue
        if not (after_word and between.isspace()):
            read.append(between)
        read.append(word)
        at, after_word = match.end(), True
    return "".join([*read, text[at:]])


def _read(charset: str, way: str, text: str) -> str | None:
    try:
        if way in "bB":
            octets = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        else:
            octets = re.sub(
                rb"=([0-9A-Fa-f]{2})",
                lambda match: bytes((int(match[1], 16),)),
                text.encode("ascii").replace(b"_", b" "),
            )
        return octets.decode(charset.partition("*")[0])
    except (ValueError, LookupError):
        return None


def has_long_word(text: str) -> bool:
    """Return whether a text has an encoded word that is longer than RFC 2047 allows."""
    return any(match.end() - match.start() > LONGEST_WORD for match in _ANYWHERE.finditer(text))


def encoded(text: str) -> str:
    """Return a text as one encoded word of any length, in the shorter of the two encodings, as Python does."""
    octets = text.encode("utf-8")
    quoted = "".join(map(_Q.__getitem__, octets))
    if len(quoted) - (len(octets) + 2) // 3 * 4 < 5:
        return f"=?utf-8?q?{quoted}?="
    return f"=?utf-8?b?{base64.b64encode(octets).decode('ascii')}?="


def encoded_words(text: str, room: int) -> Iterator[str]:
    """Split a text into encoded words.

    Arguments:
        room: octets available for the first word.
    """
    while text:
        size = min(len(text), room)
        while size > 1 and len(word := encoded(text[:size])) > room:
            size -= max(1, (len(word) - room) // 12)  # a character takes at most twelve octets
        yield encoded(text[:size])
        text, room = text[size:], LONGEST_WORD


class Lines:
    """A header field that is written piece by piece, and folded before a piece that does not fit on the line."""

    def __init__(self, name: str) -> None:
        self._lines = [f"{name}:"]
        self._is_fresh = True  # some readers treat a field that is folded right after its name as empty

    def add(self, gap: str, piece: str) -> None:
        """Add a piece after a gap of spaces."""
        if not self._is_fresh and len(self._lines[-1]) + len(gap) + len(piece) > FULL_LINE:
            self._lines.append("")
        self._lines[-1] += gap + piece
        self._is_fresh = False

    def add_encoded(self, gap: str, text: str, end: str = "") -> None:
        """Add a text as encoded words.

        Arguments:
            end: text that follows the last word without a space.
        """
        room = FULL_LINE - len(self._lines[-1]) - len(gap)
        if len(encoded(text)) > room and (room < LONGEST_WORD // 2):
            room = LONGEST_WORD
        words = [*encoded_words(text, min(room, LONGEST_WORD))]
        words[-1] += end
        for word in words:
            self.add(gap, word)
            gap = " "

    def __str__(self) -> str:
        return "\r\n".join([*self._lines, ""])


def folded(name: str, text: str, *, is_prose: bool) -> str:
    """Return a field of text.

    Arguments:
        is_prose: whether it is text for people. Then a word too long for a line is encoded. A value for programs, such
            as a URL or an identifier, is left as it is, since programs do not decode it (cpython#79986).
    """
    lines = Lines(name)
    for gap, chunk, is_encoded in _chunks(text.strip(" \t"), is_prose=is_prose):
        (lines.add_encoded if is_encoded else lines.add)(gap or " ", chunk)
    return str(lines)


def _chunks(text: str, *, is_prose: bool) -> Iterator[tuple[str, str, bool]]:
    """Yield the gap before a chunk, the chunk, and whether to encode it; neighbouring words are encoded together."""
    run: list[str] = []
    before = ""
    for gap, word in _TOKEN.findall(text):
        if _must_be_encoded(word, is_prose=is_prose) or len(gap) > LONGEST_WORD // 2:
            if not run:
                before, gap = (gap, "") if len(gap) <= LONGEST_WORD // 2 else (" ", gap[1:])
            run += [gap, word]
            continue
        if run:
            yield before, "".join(run), True
            run = []
        yield gap, word, False
    if run:
        yield before, "".join(run), True


def _must_be_encoded(word: str, *, is_prose: bool) -> bool:
    return not word.isascii() or "=?" in word or not word.isprintable() or (is_prose and len(word) > FULL_LINE - 1)
