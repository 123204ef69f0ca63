"""Write a whole message directly: Python's email package takes ten to fifty times as long.

Given the same boundary, date and Message-ID, the octets are those that Django writes: on Django 6 those of its modern
rendering, on 5.2 those of its older one. Unknown cases, such as a class that renders itself, are left to Django.
"""

from __future__ import annotations

import random
from email.message import EmailMessage as ModernMessage
from email.message import Message
from email.mime.multipart import MIMEMultipart
from email.utils import format_datetime
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

from django.conf import settings
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.core.mail import message as djangos  # the clock and Message-ID are looked up where Django looks them up

from ..core.smtp.content import Content, Shared
from .addresses import is_written_in
from .fields import MODERN, SMTP, CannotWrite, as_text, check_name, header_field
from .parts import Batch, Part, file_part, head_of

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
_MIME_VERSION = b"MIME-Version: 1.0\r\n"
_LONGEST_ID = 66  # characters of a Message-ID that fits on the line of its name


class Rendered(NamedTuple):
    """A message as it is sent. It is a tuple because that is cheap: there is one for each message.

    Arguments:
        content: header and body with CRLF line ends.
    """

    content: Content
    message_id: str | None


def write(message: Any, batch: Batch) -> Rendered | None:
    """Return a message as it is sent, or None if Django must render it.

    Raises ValueError for content that must not be sent.
    """
    if not _is_known(message):
        return None
    try:
        charset = message.encoding or settings.DEFAULT_CHARSET
        if type(charset) is not str:
            return None
        parts = _parts(message, charset, batch)
        message_id, fields = _fields(message, charset)
    except CannotWrite:
        return None
    head, body = _composed(message, *parts)
    return Rendered(_content((head + fields + b"\r\n", *body)), message_id)


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
    return all(method is None or is_written_in(djangos, method) for method in methods)


# -- the header ------------------------------------------------------------------------------------------


def _fields(message: Any, charset: str) -> tuple[str, bytes]:
    """Return the Message-ID and the fields of the message, in Django's order."""
    extra = message.extra_headers
    names = _names(extra) if extra else {}
    written = [
        header_field("Subject", message.subject, charset),
        header_field("From", extra.get("From", message.from_email), charset),
    ]
    for name, values in (("To", message.to), ("Cc", message.cc), ("Reply-To", message.reply_to)):
        if name in extra:
            written.append(header_field(name, extra[name], charset))
        elif values:
            texts = values if {*map(type, values)} == {str} else map(as_text, values)
            written.append(header_field(name, ", ".join(texts), charset))
    if "date" not in names:
        written.append(f"Date: {_now()}\r\n")
    if "message-id" in names:
        message_id = as_text(extra[names["message-id"]]).strip()
    else:
        message_id = djangos.make_msgid(domain=djangos.DNS_NAME)  # type: ignore[attr-defined]
        if len(message_id) <= _LONGEST_ID and message_id.isascii() and message_id.isprintable():
            written.append(f"Message-ID: {message_id}\r\n")
        else:
            written.append(header_field("Message-ID", message_id, charset))
    written += [header_field(name, extra[name], charset) for kind, name in names.items() if kind not in _INSTEAD]
    return message_id, "".join(written).encode("ascii", "surrogateescape")


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


# -- the body --------------------------------------------------------------------------------------------


def _parts(message: Any, charset: str, batch: Batch) -> tuple[list[Part], list[Part], list[Part]]:
    """Return the body (none, if there are only other parts), the alternatives and the attachments."""
    alternatives: Any = message.alternatives if isinstance(message, EmailMultiAlternatives) else ()
    body: list[Part] = []
    if message.body or not (alternatives or message.attachments):
        body.append(batch.text("body", message.body or "", message.content_subtype, charset))
    alternatives = [_alternative(each, charset, batch) for each in alternatives or ()]
    return body, alternatives, [_attachment(each, charset, batch) for each in message.attachments or ()]


def _composed(
    message: Any, body: list[Part], alternatives: list[Part], attachments: list[Part]
) -> tuple[bytes, tuple[bytes | Shared, ...]]:
    """Return the header fields that describe the content, and the content."""
    parts = body
    if alternatives:
        parts = [_multipart("alternative" if MODERN else message.alternative_subtype, [*parts, *alternatives])]
    if attachments:
        parts = [_multipart("mixed" if MODERN else message.mixed_subtype, [*parts, *attachments])]
    root = parts[0]
    version = _MIME_VERSION if MODERN and body else b""  # Django 6.1 adds none if there is no body
    return (version + root.head if alternatives or attachments else root.head + version), root.body


def _content(pieces: tuple[bytes | Shared, ...]) -> Content:
    """Return pieces as content: texts that follow each other are joined, and the last one ends its line."""
    joined: list[Any] = []
    for kind, group in groupby(pieces, type):
        if kind is bytes:
            joined.append(b"".join(group))  # type: ignore[arg-type]
        else:
            joined.extend(group)
    if type(joined[-1]) is bytes and not joined[-1].endswith(b"\r\n"):
        joined[-1] += b"\r\n"
    return Content(*joined)


def _alternative(alternative: Any, charset: str, batch: Batch) -> Part:
    if not isinstance(alternative, tuple) or type(getattr(alternative, "mimetype", None)) is not str:
        raise CannotWrite
    return _part("alternative", alternative.content, alternative.mimetype, charset, None, batch)  # type: ignore[attr-defined]


def _attachment(attachment: Any, charset: str, batch: Batch) -> Part:
    if isinstance(attachment, Message):
        return batch.foreign(attachment)
    if not isinstance(attachment, tuple) or len(attachment) != 3:
        raise CannotWrite
    filename, content, mimetype = attachment
    if type(mimetype) is not str or not (filename is None or type(filename) is str):
        raise CannotWrite
    return _part("attachment", content, mimetype, charset, filename, batch)


def _part(role: str, content: Any, mimetype: str, charset: str, filename: str | None, batch: Batch) -> Part:
    maintype, slash, subtype = mimetype.partition("/")
    if not slash or maintype in {"message", "multipart"}:
        raise CannotWrite
    if maintype == "text":
        if MODERN and type(content) is bytes:
            content = _decoded(content)
        return batch.text(role, content, subtype, charset, filename)
    if type(content) is str and (content.isascii() or (MODERN and (role == "attachment" or charset == "utf-8"))):
        content = content.encode()
    if type(content) is not bytes:
        raise CannotWrite
    return file_part(role, batch.base64(content), mimetype, filename)


def _decoded(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise CannotWrite from None


def _multipart(subtype: str, parts: list[Part]) -> Part:
    """Return several parts in one, with a boundary that none of them contains, as Python chooses it."""
    texts: list[bytes] = []
    for part in parts:
        texts += part.texts
    drawn = boundary = drawn_boundary().encode()
    number = 0
    while [text for text in texts if boundary in text]:
        boundary = b"%b.%d" % (drawn, number)
        number += 1
    body: list[Any] = []
    before = b""
    for part in parts:
        body.append(b"%b--%b\r\n%b\r\n" % (before, boundary, part.head))
        body += part.body
        before = b"\r\n"
    body.append(b"\r\n--%b--\r\n" % boundary)
    return Part(boundary.join(_multipart_head(subtype, len(boundary))), tuple(body), tuple(texts))


def drawn_boundary() -> str:
    """Return a random boundary, as Python creates it: `getrandbits` is what its `randrange(sys.maxsize)` calls."""
    return f"{'=' * 15}{random.getrandbits(63):019d}=="


@lru_cache(maxsize=16)
def _multipart_head(subtype: str, length: int) -> list[bytes]:
    """Return the header field of a multipart: what is before its boundary, and what is after it."""
    sample = f"{'=' * 15}{'0' * (length - 17)}=="
    part: Message[Any, Any]
    if MODERN:
        part = ModernMessage(policy=SMTP)
        part["Content-Type"] = f"multipart/{subtype}"
        part.set_boundary(sample)
    else:
        part = MIMEMultipart(subtype)
        part.set_boundary(sample)
    return head_of(part).split(sample.encode())
