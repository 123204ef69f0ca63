"""Content-Transfer-Encodings (RFC 2045 §6): the one of a text, and another one if the server does not accept it.

Python's email package encodes a text in quoted-printable in several passes. `encoded_text` needs one, for the same
octets.

In rendered octets, only the bodies that need it are encoded again. Header fields and boundaries do not change, so it
is still the same message with the same Message-ID. Signed content is not changed.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.generator import BytesGenerator
from email.message import Message
from email.policy import Compat32
from io import BytesIO
from typing import Any, TypeAlias

from ..core.smtp.content import Content, with_crlf
from .base64_lines import in_base64
from .safety import has_long_line
from .words import FULL_LINE

AnyMessage: TypeAlias = "Message[Any, Any]"  # the class takes no parameters at run time
_UNENCODED = frozenset({"7bit", "8bit", "binary"})
_SIGNATURES = ("DKIM-Signature", "ARC-Message-Signature")

_SAMPLE = 10  # lines of a text that Python looks at, to choose its encoding
# Line ends and printable characters except for "=" stay as they are.
_QUOTED = [chr(octet) if octet in b"\t\r\n" or 32 <= octet < 127 else f"={octet:02X}" for octet in range(256)]
_QUOTED[ord("=")] = "=3D"
_BLANKS = {" ": "=20", "\t": "=09"}
# A line is broken as late as possible, but not inside of "=3D"; what is left fits on a line without a break.
_PIECES = re.compile(rf"(?=.{{{FULL_LINE + 1}}}).{{{FULL_LINE - 3},{FULL_LINE - 1}}}(?<!=)(?<!=.)|.+")


def encoded_text(octets: bytes) -> tuple[str, bytes]:
    """Return the encoding of a text that has a long line, and its octets with CRLF, both as Python chooses them."""
    lines = octets.splitlines()
    sample = b"\r\n".join((*lines[:_SAMPLE], b""))
    quoted = _quoted_printable(sample)
    # Python counts the line ends of the quoted text as one octet each, and then one for base64.
    if len(quoted) - quoted.count(b"\r") > (len(sample) + 2) // 3 * 4 + 1:
        return "base64", in_base64(b"\r\n".join((*lines, b"")))
    if len(lines) > _SAMPLE:
        quoted = _quoted_printable(octets)
    return "quoted-printable", quoted


def _quoted_printable(octets: bytes) -> bytes:
    lines = octets.decode("latin-1").translate(_QUOTED).splitlines()
    written = [_broken(line) if len(line) > FULL_LINE or line[-1:] in _BLANKS else line for line in lines]
    return "\r\n".join((*written, "")).encode("ascii")


def _broken(line: str) -> str:
    """Return a line in pieces with soft line breaks; a blank at its end is quoted, or followed by a break."""
    pieces = _PIECES.findall(line)
    if line[-1] in _BLANKS:
        *pieces, last = pieces
        blank = _BLANKS[last[-1]]
        if len(last) < FULL_LINE - 1:
            pieces.append(last[:-1] + blank)
        elif len(last) == FULL_LINE - 1:
            pieces += (last, "")
        else:
            pieces += (last[:-1], blank)
    return "=\r\n".join(pieces)


class _Verbatim(Compat32):
    """Writes each header field unchanged."""

    def fold_binary(self, name: str, value: Any) -> bytes:
        separator = ":" if str(value).startswith("\r\n") else ": "
        return f"{name}{separator}{value}{self.linesep}".encode("utf-8", "surrogateescape")


_POLICY = _Verbatim(linesep="\r\n", max_line_length=None)


def seven_bit(content: bytes | Content) -> bytes:
    """Return rendered content without octets above 127, for a server without 8BITMIME (RFC 6152 §3).

    Raises ValueError if that is impossible, because non-ASCII text is signed or is in a header.
    """
    clean = _encoded(bytes(content), lambda octets: not octets.isascii(), "this server accepts only ASCII")
    if not clean.isascii():
        raise ValueError("the message cannot be made 7-bit for a server without 8BITMIME: its header is not ASCII")
    return clean


def short_lined(content: bytes) -> bytes:
    """Return rendered content without lines of more than 998 octets (RFC 5322 §2.1.1).

    Raises ValueError if that is impossible, because the long line is signed or is in a header.
    """
    clean = _encoded(content, lambda octets: has_long_line(with_crlf(octets)), "it has a line of more than 998 octets")
    if has_long_line(clean):
        raise ValueError("the message has a header line of more than 998 octets")
    return clean


@dataclass(frozen=True, kw_only=True)
class _Body:
    """The body of one part, encoded as it is sent."""

    part: AnyMessage
    octets: bytes
    signed: bool


def _encoded(content: bytes, is_unfit: Callable[[bytes], bool], why: str) -> bytes:
    message: AnyMessage = message_from_bytes(content, policy=_POLICY)
    signed = any(name in message for name in _SIGNATURES)
    for body in _bodies(message, signed=signed):
        if is_unfit(body.octets):
            _encode(body, why)
    return with_crlf(_written(message))


def _bodies(part: AnyMessage, *, signed: bool) -> Iterator[_Body]:
    """Yield each body that is not in base64 or quoted-printable, and whether it is inside a signature."""
    signed = signed or part.get_content_type() == "multipart/signed"
    if part.is_multipart():
        for child in part.get_payload():
            yield from _bodies(child, signed=signed)  # type: ignore[arg-type]
        if not signed and _encoding(part) != "7bit":
            _label(part, "7bit")  # all of its parts are 7-bit now
    elif _encoding(part) in _UNENCODED:
        yield _Body(part=part, octets=bytes(part.get_payload(decode=True) or b""), signed=signed)


def _encoding(part: AnyMessage) -> str:
    return str(part.get("Content-Transfer-Encoding", "7bit")).strip().lower()


def _encode(body: _Body, why: str) -> None:
    part = body.part
    if body.signed:
        raise ValueError(
            f"the message is signed, and has to be encoded again, which breaks the signature ({why}): "
            "sign it with a 7-bit Content-Transfer-Encoding and lines of at most 998 octets"
        )
    if part.get_content_maintype() == "text":
        encoding, text = "quoted-printable", binascii.b2a_qp(body.octets, istext=True)
    else:
        encoding, text = "base64", base64.encodebytes(body.octets)
    part.set_payload(text.decode("ascii"))
    _label(part, encoding)


def _label(part: AnyMessage, encoding: str) -> None:
    if "Content-Transfer-Encoding" in part:
        part.replace_header("Content-Transfer-Encoding", encoding)
    else:
        part["Content-Transfer-Encoding"] = encoding


def _written(message: AnyMessage) -> bytes:
    file = BytesIO()
    BytesGenerator(file, mangle_from_=False, policy=_POLICY).flatten(message, linesep="\r\n")
    return file.getvalue()
