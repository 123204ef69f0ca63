"""Encode rendered octets again, in a Content-Transfer-Encoding that the server accepts.

Only the bodies that need it are encoded again (RFC 2045 §6). Header fields and boundaries do not change, so it is
still the same message with the same Message-ID. Signed content is not changed.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.generator import BytesGenerator
from email.message import Message
from email.policy import Compat32
from io import BytesIO
from typing import Any, TypeAlias

from ..core.smtp.envelope import with_crlf
from .safety import has_long_line

AnyMessage: TypeAlias = "Message[Any, Any]"  # the class takes no parameters at run time
_UNENCODED = frozenset({"7bit", "8bit", "binary"})
_SIGNATURES = ("DKIM-Signature", "ARC-Message-Signature")


class _Verbatim(Compat32):
    """Writes each header field unchanged."""

    def fold_binary(self, name: str, value: Any) -> bytes:
        separator = ":" if str(value).startswith("\r\n") else ": "
        return f"{name}{separator}{value}{self.linesep}".encode("utf-8", "surrogateescape")


_POLICY = _Verbatim(linesep="\r\n", max_line_length=None)


def seven_bit(content: bytes) -> bytes:
    """Return rendered content without octets above 127, for a server without 8BITMIME (RFC 6152 §3).

    Raises ValueError if that is impossible, because non-ASCII text is signed or is in a header.
    """
    clean = _encoded(content, lambda octets: not octets.isascii(), "this server accepts only ASCII")
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
