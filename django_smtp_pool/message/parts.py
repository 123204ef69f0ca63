"""The parts of a message: texts, files and MIME parts, each with its header fields and its encoded body.

Bodies are encoded as in Django: 7bit, 8bit, quoted-printable or base64. Django itself writes the header fields of a
part, once for each kind of part, and the result is cached.
"""

from __future__ import annotations

import re
from email.charset import QP
from email.encoders import encode_base64
from email.generator import BytesGenerator
from email.message import EmailMessage, Message
from email.mime.base import MIMEBase
from functools import lru_cache
from io import BytesIO
from typing import Any, NamedTuple

from django.core.mail import message as djangos

from ..core.smtp.content import Base64, Shared
from .base64_lines import in_base64
from .fields import COMPAT32, MODERN, SMTP, CannotWrite, as_text
from .safety import LONGEST_LINE, check_field, check_part, has_long_line
from .transfer import encoded_text
from .words import FULL_LINE

_LINE_END = re.compile(r"\r\n|\r|\n")
_PLAIN_FILENAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,34}")
_SAMPLE_FILENAME = "file.name"
_UNENCODED = {"7bit", "8bit"}


class Part(NamedTuple):
    """A part of a message, or the whole message. It is a tuple because that is cheap: a message has several.

    Arguments:
        head: its header fields, with line ends.
        body: the content after the blank line, in pieces: a file, or a text that messages share, is `Shared`.
        texts: what may contain a boundary by chance or on purpose.
    """

    head: bytes
    body: tuple[bytes | Shared, ...]
    texts: tuple[bytes, ...] = ()


def text_part(role: str, content: str, subtype: str, charset: str, filename: str | None = None) -> Part:
    """Return a text.

    Arguments:
        role: "body", "alternative" or "attachment".
    """
    if not _has_ascii_line_ends(charset):
        raise CannotWrite
    encoding, octets = (_encoded_by_6 if MODERN else _encoded_by_5)(content, subtype, charset)
    if b"\0" in octets:
        raise ValueError("the message contains a NUL character, which email does not allow")
    head = (_head if filename is None else _head_with_name)(role, "text", subtype, charset, encoding, filename)
    return Part(head, (octets,), (octets,) if encoding in _UNENCODED else ())


def file_part(role: str, content: Base64, mimetype: str, filename: str | None = None) -> Part:
    """Return a file."""
    maintype, subtype = mimetype.split("/", 1)
    return Part(_head_with_name(role, maintype, subtype, "", "base64", filename), (content,))


@lru_cache(maxsize=32)
def _has_ascii_line_ends(charset: str) -> bool:
    try:
        return "a\r\n".encode(charset) == b"a\r\n"  # false for UTF-16
    except (LookupError, ValueError):
        return False


# -- texts -------------------------------------------------------------------------------------------------


def _encoded_by_6(text: str, _subtype: str, charset: str) -> tuple[str, bytes]:
    """Return encoding and octets as Django 6.0 and later do."""
    octets = _octets(text, charset)
    lines = octets.splitlines()
    if max(map(len, lines), default=0) > FULL_LINE:
        return encoded_text(octets)
    return ("7bit" if octets.isascii() else "8bit"), b"\r\n".join((*lines, b"")) if lines else b"\r\n"


def _encoded_by_5(text: str, subtype: str, charset: str) -> tuple[str, bytes]:
    """Return encoding and octets as Django 5.2 does."""
    plain = djangos.utf8_charset  # a project may have changed it: that used to be the way to get base64
    if charset == "utf-8" and plain.body_encoding is None and djangos.utf8_charset_qp.body_encoding == QP:
        octets = _octets(text, charset)
        if not any(len(line.encode()) > LONGEST_LINE for line in _long(text)):
            return ("7bit" if octets.isascii() else "8bit"), _octets_with_crlf(octets)
    part: Any = djangos.SafeMIMEText(text, subtype, charset)
    payload = part.get_payload()
    if not payload.isascii():
        raise CannotWrite
    octets = _octets_with_crlf(payload.encode("ascii"))
    if has_long_line(octets):
        raise CannotWrite
    return str(part["Content-Transfer-Encoding"]), octets


def _long(text: str) -> list[str]:
    return [line for line in text.splitlines() if len(line) > LONGEST_LINE // 4]


def _octets(text: str, charset: str) -> bytes:
    try:
        return text.encode(charset)
    except UnicodeEncodeError as error:
        error.reason += f" (in the text {text[:40]!r}...)"
        raise


def _octets_with_crlf(octets: bytes) -> bytes:
    if b"\r" in octets:
        octets = octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return octets.replace(b"\n", b"\r\n")


# -- header fields of parts --------------------------------------------------------------------------------


def _head_with_name(role: str, maintype: str, subtype: str, charset: str, encoding: str, filename: str | None) -> bytes:
    if filename is not None and _PLAIN_FILENAME.fullmatch(filename):  # names differ, so cache what they have in common
        head = _head(role, maintype, subtype, charset, encoding, _SAMPLE_FILENAME)
        return head.replace(b'filename="%b"' % _SAMPLE_FILENAME.encode(), b'filename="%b"' % filename.encode())
    return _head(role, maintype, subtype, charset, encoding, filename)


@lru_cache(maxsize=128)
def _head(role: str, maintype: str, subtype: str, charset: str, encoding: str, filename: str | None) -> bytes:
    if MODERN:
        return head_of(_part_by_6(role, maintype, subtype, charset, encoding, filename))
    return head_of(_part_by_5(maintype, subtype, charset, encoding, filename))


def head_of(part: Message[Any, Any]) -> bytes:
    """Return the header fields of a part as Django writes them."""
    rules: Any = SMTP if MODERN else COMPAT32
    written = []
    for name, value in part.raw_items():
        octets: bytes = rules.fold_binary(name, value)
        check_field(name, octets.decode("ascii"))
        if has_long_line(octets):
            raise ValueError(f"the header {name} of a part has a line of more than {LONGEST_LINE} octets")
        written.append(octets)
    return b"".join(written)


def _part_by_6(
    role: str, maintype: str, subtype: str, charset: str, encoding: str, filename: str | None
) -> Message[Any, Any]:
    message = EmailMessage(policy=SMTP)
    content: Any = ""
    how: dict[str, Any] = {"subtype": subtype, "charset": charset, "cte": encoding}
    if maintype != "text":
        content, how = b"", {"maintype": maintype, "subtype": subtype}
    if role == "body":
        message.set_content(content, **how)
        del message["MIME-Version"]  # the message itself has this header
        return message
    if role == "alternative":
        message.add_alternative(content, **how)
    else:
        message.add_attachment(content, filename=filename, **how)
    made: Message[Any, Any] = next(message.iter_parts())
    return made


def _part_by_5(maintype: str, subtype: str, charset: str, encoding: str, filename: str | None) -> Message[Any, Any]:
    if maintype == "text":
        part: Any = djangos.SafeMIMEText("", subtype, charset)
        part.replace_header("Content-Transfer-Encoding", encoding)
    else:
        part = MIMEBase(maintype, subtype)
        part.set_payload(b"")
        encode_base64(part)
    if filename:
        named: Any = filename if filename.isascii() else ("utf-8", "", filename)
        part.add_header("Content-Disposition", "attachment", filename=named)
    made: Message[Any, Any] = part
    return made


# -- MIME parts that people bring along --------------------------------------------------------------------


def foreign_part(part: Message[Any, Any]) -> Part:
    """Return a MIME part as Python writes it."""
    rules: Any = SMTP if MODERN else COMPAT32
    file = BytesIO()
    BytesGenerator(file, mangle_from_=False, policy=rules).flatten(part, linesep="\r\n")
    content = file.getvalue()
    start = check_part(part, content)
    if b"\0" in content or has_long_line(content) or re.search(rb"\r(?!\n)|(?<!\r)\n", content):
        raise CannotWrite
    body = content[start:]
    encoding = str(part.get("Content-Transfer-Encoding", "")).strip().lower()
    return Part(content[: start - 2], (body,), () if encoding == "base64" and not part.is_multipart() else (body,))


class Batch:
    """What the messages of one call share: texts, files and MIME parts that are encoded once.

    Arguments:
        is_alone: whether there is only one message, so that nothing needs to be cached.
    """

    LARGEST = 1 << 25  # octets of files and MIME parts to cache
    TEXTS = 4  # to cache: a mailing has one or two in common, and personal texts need not be kept
    LONGEST_TEXT = 1 << 18  # characters

    def __init__(self, *, is_alone: bool = True) -> None:
        self._keeps = not is_alone
        self._files: dict[int, tuple[bytes, Base64]] = {}
        self._parts: dict[int, tuple[Message[Any, Any], Any, Part]] = {}
        self._texts: dict[tuple[str | None, ...], Part] = {}
        self._room = self.LARGEST

    def text(self, role: str, content: Any, subtype: str, charset: str, filename: str | None = None) -> Part:
        """Return what `text_part` returns; the same text is encoded once. It may be a safe or lazy string."""
        if type(content) is not str:
            content = as_text(content)
        what = (role, content, subtype, charset, filename)
        if not self._keeps or len(content) > self.LONGEST_TEXT:
            return text_part(*what)
        known = self._texts.pop(what, None)
        part = text_part(*what) if known is None else _shared(known)
        if len(self._texts) >= self.TEXTS:
            del self._texts[next(iter(self._texts))]
        self._texts[what] = part  # the last one is the one that was used last
        return part

    def base64(self, content: bytes) -> Base64:
        """Return a file in base64; the same object is encoded once."""
        if not self._keeps or type(content) is not bytes or len(content) > self.LARGEST:
            return Base64(in_base64(content))
        known = self._files.get(id(content))
        if known is None:
            self._make_room(len(content))
            known = self._files[id(content)] = (content, Base64(in_base64(content)))
        return known[1]

    def foreign(self, part: Message[Any, Any]) -> Part:
        """Return a MIME part; the same unchanged part is written once."""
        payload: Any = part.get_payload()
        if not self._keeps or not isinstance(payload, str):
            return foreign_part(part)
        state = (tuple(part.raw_items()), payload)
        known = self._parts.get(id(part))
        if known is None or known[1] != state:
            self._make_room(len(payload))
            known = self._parts[id(part)] = (part, state, _shared(foreign_part(part)))
        return known[2]

    def _make_room(self, size: int) -> None:
        if size > self._room:
            self._files.clear()
            self._parts.clear()
            self._room = self.LARGEST
        self._room -= size


def _shared(part: Part) -> Part:
    """Return a text as a separate piece of content, which then is searched once for all messages."""
    octets = part.body[0]
    if type(octets) is not bytes or not octets.endswith(b"\r\n"):
        return part
    return part._replace(body=(Shared(octets),))


ALONE = Batch()
