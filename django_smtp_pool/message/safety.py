"""Check rendered messages for header injection: text from a user must not become a header field.

Python's email package writes the header, and in some of its patch levels a value or name can break out of its line
(CVE-2024-6923, CVE-2026-1299). So its output is not trusted: the octets are parsed again, and the fields found must
be those of the message, in the same order, in each MIME part.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from email.message import Message
from typing import Any

LONGEST_LINE = 998  # octets without CRLF (RFC 5322 §2.1.1)

# A field with its folds (RFC 5322 §2.2); a name consists of ftext.
_FIELD = re.compile(rb"([!-9;-~]+):[^\r\n\0]*(?:\r\n[ \t][^\r\n\0]*)*\r\n")
_FIELDS = re.compile(b"(?:" + _FIELD.pattern + b")*")
# An attached message comes from elsewhere: a field without a name is allowed there, if it is unchanged.
_FOREIGN_FIELD = re.compile(_FIELD.pattern.replace(b"]+", b"]*", 1))
_AT_MOST_ONCE = frozenset(
    (b"from", b"sender", b"reply-to", b"to", b"cc", b"subject", b"date", b"message-id", b"content-type")
)
_NEVER = frozenset((b"bcc", b"resent-bcc"))


def check_rendered(message: Any, content: bytes) -> None:
    """Raise ValueError if rendered octets differ in meaning from the message they were rendered from.

    Arguments:
        message: an `email.message.Message`, or another object with `as_bytes()`.
        content: the octets, with CRLF line ends.
    """
    if b"\0" in content:
        raise ValueError("the message contains a NUL character, which email does not allow")
    names, start = _fields(content, 0, _FIELD)
    _check_names(names)
    if isinstance(message, Message):
        own = _own_names(message)
        if _renders_itself(message):  # it may put its own fields first, such as a signature
            names = names[-len(own) :] if own else []
        _compare(names, own)
        _check_parts(message, content, start, _FIELD)


def check_part(part: Message[Any, Any], content: bytes) -> int:
    """Check a rendered MIME part, and return the offset of its body; raises ValueError like `check_rendered`."""
    names, start = _fields(content, 0, _FIELD)
    _compare(names, _own_names(part))
    _check_parts(part, content, start, _FIELD)
    return start


def check_field(name: str, written: str) -> None:
    """Raise ValueError if written octets are not exactly the one field that was meant."""
    octets = written.encode("ascii", "surrogateescape")
    if b"\0" in octets:
        raise ValueError(f"the header {name} contains a NUL character, which email does not allow")
    names = [match[1] for match in _FIELD.finditer(octets)] if _FIELDS.fullmatch(octets) else []
    if names != [name.encode("ascii")]:
        _compare(names or [b"something else"], [name.encode("ascii")])


def _fields(content: bytes, at: int, field: re.Pattern[bytes]) -> tuple[list[bytes], int]:
    """Return the names of the header block at an offset, and the offset after the block."""
    names = []
    while not content.startswith(b"\r\n", at):
        match = field.match(content, at)
        if match is None:
            line = content[at : at + 80].partition(b"\r\n")[0]
            raise ValueError(f"the header of the message has a line that is not a header field: {line!r}")
        names.append(match[1])
        at = match.end()
    return names, at + 2


def _check_names(names: Sequence[bytes]) -> None:
    seen: set[bytes] = set()
    for name in map(bytes.lower, names):
        if name in _NEVER:
            raise ValueError(
                f"a {name.decode().title()} header would be seen by every recipient: use the `bcc` argument"
            )
        if name in seen and name in _AT_MOST_ONCE:
            raise ValueError(f"the message has more than one {name.decode().title()} header")
        seen.add(name)


def _own_names(message: Message[Any, Any]) -> list[bytes]:
    return [name.encode("ascii", "surrogateescape") for name in message.keys()]  # noqa: SIM118 - no mapping


def _renders_itself(message: Message[Any, Any]) -> bool:
    """Return whether the octets were rendered by code that is neither Python's nor Django's."""
    module = getattr(type(message).as_bytes, "__module__", "")
    return module != "email.message" and not module.startswith("django.core.mail.")


def _compare(names: Sequence[bytes], own: Sequence[bytes]) -> None:
    if names != own:
        strange = [name for name in names if name not in own] or names
        raise ValueError(
            "the header of the message does not have the fields it was given: part of a value became "
            f"{b', '.join(strange).decode()!r}; a subject, name or address may contain an encoded line end"
        )


def _check_parts(message: Message[Any, Any], content: bytes, at: int, field: re.Pattern[bytes]) -> int:
    """Compare every part of a message whose body begins at an offset; return the offset after the last part."""
    if not message.is_multipart():
        return at
    kind = message.get_content_maintype()
    if kind == "multipart":
        return _check_multipart(message, content, at, field)
    if kind == "message" and message.get_content_subtype() != "delivery-status":
        return _check_part(_children(message)[0], content, at, _FOREIGN_FIELD)
    return at


def _check_multipart(message: Message[Any, Any], content: bytes, at: int, field: re.Pattern[bytes]) -> int:
    # The first CRLF is the blank line before the body, or the end of the part before.
    delimiter = b"\r\n--" + str(message.get_boundary()).encode("ascii")
    for part in _children(message):
        rest, start = _next_delimiter(content, delimiter, at - 2)
        if rest != b"":
            raise ValueError(f"a part of the message is missing, its boundary was not found: {delimiter[4:]!r}")
        at = _check_part(part, content, start, field)
    if _next_delimiter(content, delimiter, at - 2)[0] != b"--":
        raise ValueError(f"a part of the message contains the message's own boundary: {delimiter[4:]!r}")
    return at


def _next_delimiter(content: bytes, delimiter: bytes, at: int) -> tuple[bytes | None, int]:
    """Return the text after the next delimiter on its line ("" or "--"), and the offset of the next line."""
    while (found := content.find(delimiter, at)) >= 0:
        at = found + len(delimiter)
        line_end = content.find(b"\r\n", at)
        rest = content[at:line_end].rstrip(b" \t")
        if rest in {b"", b"--"}:  # otherwise the line is a longer boundary that begins with this one
            return rest, line_end + 2
    return None, at


def _check_part(part: Message[Any, Any], content: bytes, at: int, field: re.Pattern[bytes]) -> int:
    names, body = _fields(content, at, field)
    _compare(names, _own_names(part))
    return _check_parts(part, content, body, field)


def _children(message: Message[Any, Any]) -> list[Message[Any, Any]]:
    payload: Any = message.get_payload()
    return payload if isinstance(payload, list) else []


def has_long_line(content: bytes, start: int = 0, end: int | None = None) -> bool:
    """Return whether CRLF content has a line of more than 998 octets, without looking at each octet."""
    end = len(content) if end is None else end
    reach = LONGEST_LINE + 2
    while end - start > reach:
        line_end = content.rfind(b"\n", start, start + reach)
        if line_end < 0:
            return True
        start = line_end + 1
    return end - start > LONGEST_LINE and content.find(b"\n", start, end) < 0
