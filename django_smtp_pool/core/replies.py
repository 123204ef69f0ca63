"""Server replies: parse octets into `Reply`, and interpret it (RFC 5321 §4.2, RFC 3463).

This module does no I/O, and no decision depends on the English text of a reply. A reply that is incomplete or not
well formed raises `MalformedReply`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .once import once

MAX_LINE = 8192  # octets, as in smtplib; RFC 5321 §4.5.3.1.5 says 512, but servers put URLs into refusals
MAX_LINES = 128
MAX_REPLY = 65536  # octets of all lines of one reply

TIMED_OUT = (4, 4, 2)
PASSWORD_WANTED = (4, 7, 12)
STATE = frozenset({503, 530})  # the session is not in the expected state
_ABOUT_SESSION = frozenset({421, 432, 451, *STATE})

_SEEN = 256  # short replies of one line to keep: a server says the same again and again
_SHORT = 80  # octets

_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ \t-])(.*))?", re.DOTALL)  # some servers send a tab
_ENHANCED = re.compile(rb"([245])\.([0-9]{1,3})\.([0-9]{1,3})(?=[ \t]|$)")


class MalformedReply(ValueError):
    """The server sent something that is not an SMTP reply, so client and server are out of step.

    `line` is what it sent, if the error shows it.
    """

    line: bytes = b""


def printable(text: str) -> str:
    """Return a text on one line, safe to log: control characters are escaped."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One complete reply: its code, and its lines without code and line end."""

    code: int
    lines: tuple[bytes, ...] = ()

    @property
    def message(self) -> bytes:
        """The lines joined by newlines, as in `smtp_error` of smtplib's exceptions."""
        return b"\n".join(self.lines)

    @property
    def text(self) -> str:
        """The text of the reply on one line, safe to log: control characters are escaped."""
        decoded = b" ".join(self.lines).decode("utf-8", "backslashreplace")
        return printable(decoded)[:500]

    @once
    def enhanced(self) -> tuple[int, int, int] | None:
        """The enhanced status code of the first line (RFC 3463), such as (4, 4, 2), or None."""
        match = _ENHANCED.match(self.lines[0]) if self.lines else None
        return (int(match[1]), int(match[2]), int(match[3])) if match else None

    @property
    def is_positive(self) -> bool:
        """Whether the command was carried out (2xx)."""
        return 200 <= self.code < 300

    @property
    def is_intermediate(self) -> bool:
        """Whether the server waits for more (3xx)."""
        return 300 <= self.code < 400

    @property
    def is_transient(self) -> bool:
        """Whether the refusal is temporary (4xx). The basic code decides, not the enhanced one."""
        return 400 <= self.code < 500

    @property
    def is_permanent(self) -> bool:
        """Whether the refusal is permanent (5xx)."""
        return 500 <= self.code < 600

    @property
    def is_refusal(self) -> bool:
        """Whether the server refuses (4xx or 5xx)."""
        return self.code >= 400

    @property
    def closes_connection(self) -> bool:
        """Whether the server ends the session with this reply (421)."""
        return self.code == 421

    @property
    def is_about_connection(self) -> bool:
        """Whether the refusal is about connections, even if this one is new (421; 432, Exchange's limit).

        432 4.7.12 is different: the account must log in with its password once (RFC 4954 §6).
        """
        return self.code == 421 or (self.code == 432 and self.enhanced != PASSWORD_WANTED)

    def is_about_session(self, *, carried: bool) -> bool:
        """Return whether the refusal is about the session and not about the message.

        SES replies `451 4.4.2 Timeout waiting for data from client` after it has ended the session. A 530 or 503 means
        that the server has lost the login, or is in another transaction, so another connection may help; but only on a
        connection that has carried a message, since otherwise the next connection would get the same reply.
        """
        if self.code not in _ABOUT_SESSION:
            return False
        if self.code in STATE:
            return carried
        return self.enhanced == TIMED_OUT if self.code == 451 else self.is_about_connection

    def __str__(self) -> str:
        return f"{self.code} {self.text}".rstrip()


@dataclass(kw_only=True)
class ReplyParser:
    """Splits the server's octets into replies, in whatever pieces they arrive.

    Memory is bounded: `feed` raises `MalformedReply` as soon as a line, the number of lines or a whole reply exceeds
    its limit.
    """

    is_empty: bool = True  # whether all octets so far belong to complete replies
    _buffer: bytes = b""
    _code: int = 0
    _lines: list[bytes] = field(default_factory=list)
    _size: int = 0
    _malformed: MalformedReply | None = None

    def feed(self, data: bytes) -> list[Reply]:
        """Add octets and return the replies that are complete now.

        If complete replies precede a malformed one, they are returned, and the next call raises the error. After an
        error, every call raises it.
        """
        if self._malformed is not None:
            raise self._malformed
        if not data:
            return []
        self.is_empty = False
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        replies: list[Reply] = []
        try:
            for line in lines:
                if not self._lines and (seen := _seen.get(line)) is not None:
                    replies.append(seen)
                else:
                    self._take_line(line, replies)
            if self._buffer:
                _check_length(self._buffer)
        except MalformedReply as error:
            self._malformed = error
            if not replies:
                raise
        else:
            self.is_empty = not (self._buffer or self._lines)
        return replies

    def _take_line(self, raw: bytes, replies: list[Reply]) -> None:
        _check_length(raw)
        line = raw[:-1] if raw.endswith(b"\r") else raw
        match = _LINE.fullmatch(line)
        if match is None:
            error = MalformedReply(f"the server sent something that is not an SMTP reply: {_excerpt(line)}")
            error.line = line
            raise error
        digits, separator, text = match.groups(b"")
        code = int(digits)
        if self._lines and code != self._code:
            raise MalformedReply(f"the server sent one reply with two codes: {self._code} and {code}")
        self._code = code
        self._lines.append(text.strip(b" \t"))
        self._size += len(raw) + 1
        if len(self._lines) > MAX_LINES:
            raise MalformedReply(f"the server sent a reply of more than {MAX_LINES} lines")
        if self._size > MAX_REPLY:
            raise MalformedReply(f"the server sent a reply of more than {MAX_REPLY} octets")
        if separator != b"-":
            reply = Reply(code=code, lines=tuple(self._lines))
            replies.append(reply)
            if code == 250 and len(self._lines) == 1 and len(raw) <= _SHORT:  # not a refusal: it may repeat a secret
                _keep(raw, reply)
            self._lines, self._size = [], 0


_seen: dict[bytes, Reply] = {}  # by line


def _keep(line: bytes, reply: Reply) -> None:
    if len(_seen) >= _SEEN:
        _seen.clear()
    _seen[line] = reply


def _check_length(line: bytes) -> None:
    if len(line) > MAX_LINE:
        raise MalformedReply(f"the server sent a reply line of more than {MAX_LINE} octets")


def _excerpt(line: bytes) -> str:
    return repr(line[:80].decode("ascii", "backslashreplace")) + ("..." if len(line) > 80 else "")


# No RFC defines the place of the queue id, so these are patterns for known servers. No decision depends on it: it helps
# people to find the message in the server's log.
_ID = r"[<(]?([A-Za-z0-9][\w.@/+=$-]*)"
_QUEUE_IDS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf".*\bqueued (?:on \S+ )?as {_ID}",  # Postfix, also behind a content filter; SendGrid; Yandex
        rf".*\bInternalId={_ID}",  # Exchange, Microsoft 365
        rf".*\bid={_ID}",  # Exim, GMX, mail.ru
        rf".*\bmessage id {_ID}",  # IceWarp
        rf".*\bqueued with id {_ID}",  # Stalwart
        rf".*\bmessage queued \({_ID}\)",  # Haraka
        r".*\bok \d+ qp (\d+)",  # qmail
        rf".*\bok +\d+ {_ID} - gsmtp",  # Gmail
        rf"{_ID}:? message accepted",  # sendmail, OpenSMTPD, Kerio, CommuniGate
        r"<[^>]*> ([\w+/=-]+(?::\w+)*) saved",  # Dovecot, by LMTP: its session
        r"ok ([0-9a-f]{16}-[0-9a-f-]{20,})",  # Amazon SES
        r"ok ([0-9A-F]{2}/[0-9A-F]{2}-[0-9A-F-]+)",  # SparkPost (Momentum)
    )
)
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}:? +")


def queue_id_of(text: str) -> str | None:
    """Return the queue id in the text of a 250 reply, or None if no pattern matches."""
    text = _STATUS.sub("", text, count=1) if _STATUS.match(text) else text
    found = (wording.match(text) for wording in _QUEUE_IDS)
    return next((match[1].rstrip(".") for match in found if match), None)
