"""Write a whole message directly: Python's email package takes ten to fifty times as long.

Given the same boundary, date and Message-ID, the octets are those that Django writes: on Django 6 those of its modern
rendering, on 5.2 those of its older one. Unknown cases, such as a class that renders itself, are left to Django.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage as Part
from email.message import Message
from email.mime.multipart import MIMEMultipart
from email.utils import format_datetime
from functools import lru_cache
from operator import attrgetter
from types import FunctionType
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.core.mail import message as djangos  # the clock and Message-ID are looked up where Django looks them up
from django.utils.functional import Promise
from django.utils.safestring import SafeString

from .base64_lines import Base64Lines
from .fields import MODERN, check_name, header_field
from .headers import SMTP
from .parts import Batch, CannotWrite, Leaf, file_leaf, head_of

# Django's methods that build the message: if one is replaced, Django renders the message.
_METHODS = (
    "message",
    "_set_list_header_if_not_empty",
    *(
        ("_add_bodies", "_add_attachments", "_add_attachment", "_idna_encode_address_header_domains")
        if MODERN
        else ("_create_message", "_create_attachments", "_create_attachment", "_create_mime_attachment")
    ),
)
_OF_ALTERNATIVES = "" if MODERN else "_create_alternatives"
_methods_of = attrgetter(*_METHODS)
_INSTEAD = frozenset(("from", "to", "cc", "reply-to"))  # extra headers that replace a field, in Django's spelling only
# Extra headers that would appear twice, or that the writer writes itself.
_UNKNOWN = frozenset(("bcc", "resent-bcc", "subject", "mime-version"))
_MIME_VERSION = "MIME-Version: 1.0\r\n"
_TEXTS = (SafeString, Promise)


@dataclass(frozen=True, kw_only=True)
class Written:
    """A message on the wire, in pieces.

    Arguments:
        pieces: texts, and files as the pieces of their base64.
    """

    pieces: Sequence[bytes | Iterable[bytes]]
    message_id: str

    @property
    def has_files(self) -> bool:
        """Whether there are files among the pieces."""
        return {*map(type, self.pieces)} != {bytes}

    @property
    def room(self) -> int:
        """The octets of all pieces."""
        return sum(map(_octets, self.pieces))


@dataclass(frozen=True, kw_only=True)
class _Multipart:
    subtype: str
    children: Sequence[_Multipart | Leaf]
    boundaries: list[str] = field(default_factory=list)  # one element, once the boundary has been chosen

    @property
    def head(self) -> str:
        """The header field with the boundary."""
        (boundary,) = self.boundaries
        sample = f"{'=' * 15}{'0' * (len(boundary) - 17)}=="
        return _multipart_head(self.subtype, sample).replace(sample, boundary)


def write(message: Any, batch: Batch) -> Written | None:
    """Return a message as it is sent, or None if Django must render it.

    Raises ValueError for content that must not be sent.
    """
    if not _is_known(message):
        return None
    try:
        charset = message.encoding or settings.DEFAULT_CHARSET
        if type(charset) is not str:
            return None
        root, has_version = _tree(message, charset, batch)
        message_id, fields = _fields(message, charset)
    except CannotWrite:
        return None
    _draw_boundaries(root)
    version = _MIME_VERSION if has_version else ""
    if isinstance(root, _Multipart) and MODERN:
        head = version + root.head
    elif MODERN:
        head = root.head + version
    else:
        head = root.head
    pieces: list[bytes | Iterable[bytes]] = []
    _collect(root, head + fields, pieces)
    return Written(pieces=pieces, message_id=message_id)


# -- what is known ---------------------------------------------------------------------------------------


def _is_known(message: Any) -> bool:
    kind = type(message)
    if not issubclass(kind, EmailMessage) or not _is_djangos(_methods_of(kind)):
        return False
    if _OF_ALTERNATIVES and not _is_djangos((getattr(kind, _OF_ALTERNATIVES, None),)):
        return False
    own = vars(message)
    if not own.keys().isdisjoint(_METHODS):
        return False
    if MODERN and (hasattr(message, "mixed_subtype") or hasattr(message, "alternative_subtype")):
        return False
    return type(message.extra_headers) is dict and type(message.content_subtype) is str


@lru_cache(maxsize=64)
def _is_djangos(methods: tuple[Any, ...]) -> bool:
    """Return whether all methods are Django's own: one may have been replaced, even before this was imported."""
    return all(
        method is None or (type(method) is FunctionType and method.__globals__ is vars(djangos)) for method in methods
    )


def _text(value: Any) -> str:
    """Return a text, which may be a safe or lazy string, as a plain str."""
    if type(value) is str:
        return value
    if isinstance(value, _TEXTS):
        return str.__str__(str(value))
    raise CannotWrite


# -- the header ------------------------------------------------------------------------------------------


def _fields(message: Any, charset: str) -> tuple[str, str]:
    """Return the Message-ID and the fields of the message, in Django's order."""
    extra = message.extra_headers
    names = _names(extra)
    written = [
        header_field("Subject", _text(message.subject), charset),
        header_field("From", _text(extra.get("From", message.from_email)), charset),
    ]
    for name, values in (("To", message.to), ("Cc", message.cc), ("Reply-To", message.reply_to)):
        if name in extra:
            written.append(header_field(name, _text(extra[name]), charset))
        elif values:
            written.append(header_field(name, ", ".join(map(_text, values)), charset))
    if "date" not in names:
        written.append(f"Date: {_now()}\r\n")
    if "message-id" in names:
        message_id = _text(extra[names["message-id"]]).strip()
    else:
        message_id = djangos.make_msgid(domain=djangos.DNS_NAME)  # type: ignore[attr-defined]
        written.append(_message_id_field(message_id, charset))
    written += [header_field(name, _text(extra[name]), charset) for kind, name in names.items() if kind not in _INSTEAD]
    return message_id, "".join(written)


def _names(headers: dict[Any, Any]) -> dict[str, Any]:
    """Return the names of extra headers, by their lower-case form."""
    for name, value in headers.items():
        check_name(name, value)
    names = {name.lower(): name for name in headers}
    if len(names) < len(headers) or not _UNKNOWN.isdisjoint(names) or any(n.startswith("content-") for n in names):
        raise CannotWrite
    return names


def _now() -> str:
    local = settings.EMAIL_USE_LOCALTIME
    if not MODERN:
        return str(djangos.formatdate(localtime=local))  # type: ignore[attr-defined]
    zone = djangos.get_current_timezone() if local else djangos.timezone.utc  # type: ignore[attr-defined]
    now = djangos.datetime.now(zone).replace(microsecond=0)  # type: ignore[attr-defined]
    return _date(now, now.utcoffset())


@lru_cache(maxsize=4)
def _date(now: Any, _offset: Any) -> str:
    """Write an instant; the messages of one second have it in common. Equal instants may have different offsets."""
    return format_datetime(now)


def _message_id_field(message_id: str, charset: str) -> str:
    if len(message_id) <= 66 and message_id.isascii() and message_id.isprintable():
        return f"Message-ID: {message_id}\r\n"
    return header_field("Message-ID", message_id, charset)


# -- the body --------------------------------------------------------------------------------------------


def _tree(message: Any, charset: str, batch: Batch) -> tuple[_Multipart | Leaf, bool]:
    """Return the parts of a message, and whether Django adds MIME-Version (6.1 does not, if there is no body)."""
    alternatives = message.alternatives if isinstance(message, EmailMultiAlternatives) else ()
    attachments = message.attachments
    body = message.body
    texts: list[_Multipart | Leaf] = []
    if body or not (alternatives or attachments):
        texts.append(batch.text("body", _text(body or ""), message.content_subtype, charset))
    has_version = bool(texts)
    if alternatives:
        texts += [_alternative(each, charset, batch) for each in alternatives]
        texts = [_Multipart(subtype="alternative" if MODERN else message.alternative_subtype, children=texts)]
    if attachments:
        texts += [_attachment(each, charset, batch) for each in attachments]
        texts = [_Multipart(subtype="mixed" if MODERN else message.mixed_subtype, children=texts)]
    return texts[0], has_version


def _alternative(alternative: Any, charset: str, batch: Batch) -> Leaf:
    if not isinstance(alternative, tuple) or type(getattr(alternative, "mimetype", None)) is not str:
        raise CannotWrite
    return _leaf("alternative", alternative.content, alternative.mimetype, charset, None, batch)  # type: ignore[attr-defined]


def _attachment(attachment: Any, charset: str, batch: Batch) -> Leaf:
    if isinstance(attachment, Message):
        return batch.foreign(attachment)
    if not isinstance(attachment, tuple) or len(attachment) != 3:
        raise CannotWrite
    filename, content, mimetype = attachment
    if type(mimetype) is not str or not (filename is None or type(filename) is str):
        raise CannotWrite
    return _leaf("attachment", content, mimetype, charset, filename, batch)


def _leaf(role: str, content: Any, mimetype: str, charset: str, filename: str | None, batch: Batch) -> Leaf:
    maintype, slash, subtype = mimetype.partition("/")
    if not slash or maintype in {"message", "multipart"}:
        raise CannotWrite
    if maintype == "text":
        if MODERN and type(content) is bytes:
            content = _decoded(content)
        return batch.text(role, _text(content), subtype, charset, filename)
    if type(content) is str and (content.isascii() or (MODERN and (role == "attachment" or charset == "utf-8"))):
        content = content.encode()
    if type(content) is not bytes:
        raise CannotWrite
    return file_leaf(role, batch.base64(content), mimetype, filename)


def _decoded(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise CannotWrite from None


def _draw_boundaries(node: _Multipart | Leaf) -> None:
    """Choose the boundaries as Python does, the inner ones first; no part contains one."""
    if isinstance(node, Leaf):
        return
    for child in node.children:
        _draw_boundaries(child)
    drawn = boundary = drawn_boundary()
    texts = [*_texts(node.children)]
    number = 0
    while any(boundary.encode() in text for text in texts):
        boundary = f"{drawn}.{number}"
        number += 1
    node.boundaries.append(boundary)


def drawn_boundary() -> str:
    """Return a random boundary, as Python creates it."""
    return f"{'=' * 15}{random.randrange(sys.maxsize):019d}=="  # noqa: S311 - not a secret


def _texts(children: Sequence[_Multipart | Leaf]) -> Iterator[bytes]:
    for child in children:
        yield from child.text if isinstance(child, Leaf) else _texts(child.children)


@lru_cache(maxsize=16)
def _multipart_head(subtype: str, boundary: str) -> str:
    part: Message[Any, Any]
    if MODERN:
        part = Part(policy=SMTP)
        part["Content-Type"] = f"multipart/{subtype}"
        part.set_boundary(boundary)
    else:
        part = MIMEMultipart(subtype)
        part.set_boundary(boundary)
    return head_of(part)


def _octets(piece: bytes | Iterable[bytes]) -> int:
    if isinstance(piece, bytes):
        return len(piece)
    return piece.octets if isinstance(piece, Base64Lines) else sum(map(len, piece))


def _collect(node: _Multipart | Leaf, head: str, pieces: list[bytes | Iterable[bytes]]) -> None:
    """Append the octets of a part, beginning with its header."""
    pieces.append(head.encode("ascii", "surrogateescape") + b"\r\n")
    if isinstance(node, Leaf):
        pieces += (node.body,) if node.is_base64 else node.body
        return
    before, boundary = b"", node.boundaries[0].encode()
    for child in node.children:
        pieces.append(before + b"--" + boundary + b"\r\n")
        _collect(child, child.head, pieces)
        before = b"\r\n"
    pieces.append(b"\r\n--" + boundary + b"--\r\n")
