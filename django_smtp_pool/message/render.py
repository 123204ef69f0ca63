"""Render Django's EmailMessage into an Envelope of the core: addresses and bytes, as this Django version does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from email.message import Message
from functools import partial
from typing import Any

from django.core.mail import EmailMessage

from ..core.interrupts import foreign
from ..core.smtp.content import Content, with_crlf
from ..core.smtp.envelope import Envelope
from .addresses import (
    RENDERS_SMTPUTF8,
    PrepareAddress,
    addr_spec,
    envelope_addresses,
    explain,
)
from .fields import SMTP, SMTPUTF8
from .finishers import Finisher, finish, refuse_to_encode
from .parts import ALONE, Batch
from .safety import check_rendered, has_long_line
from .smtp_options import asked_by
from .transfer import seven_bit, short_lined
from .writer import Rendered, drawn_boundary, write

LARGE = 65536  # bytes; from this size on, an event loop renders in a thread
_A_RECIPIENT = 100  # bytes of text whose rendering takes as long as that of one address


def envelope_of(
    message: Any,
    prep_address: PrepareAddress | None,
    finishers: Sequence[Finisher | str] = (),
    batch: Batch = ALONE,
) -> Envelope:
    """Render a message, and check the result.

    Arguments:
        message: an EmailMessage with at least one recipient.
        prep_address: the backend's own method if it has one (Django 6.0 and later).
        finishers: functions that change the content last.
        batch: the cache that the messages of one call share.

    Raises ValueError for content that must not be sent, such as invalid addresses and header injection, and for invalid
    `smtp_options`.
    """
    dsn, require_tls = None, False
    try:
        sender, recipients, smtputf8 = envelope_addresses(message, prep_address)
        if getattr(message, "smtp_options", None) is not None:
            dsn, require_tls = asked_by(
                message, recipients, partial(addr_spec, prepare=prep_address, smtputf8=smtputf8)
            )
        written = None if smtputf8 else write(message, batch)
        content, message_id = _by_django(message, smtputf8=smtputf8) if written is None else written
    except Exception as error:
        explain(error)
        raise
    recode: Callable[[], bytes] = partial(seven_bit, content)
    if finishers:
        content, recode = Content.of(finish(_ready(content, smtputf8=smtputf8), finishers)), refuse_to_encode
    return Envelope(
        sender=sender,
        recipients=tuple(recipients),
        content=content,
        smtputf8=smtputf8,
        # RFC 6531 §3.1: a server with SMTPUTF8 has 8BITMIME too.
        seven_bit=None if smtputf8 or content.is_ascii else recode,
        message_id=message_id,
        dsn=dsn,
        require_tls=require_tls,
    )


def takes_long(message: Any) -> bool:
    """Return whether an event loop should render a message in a thread.

    That is so if the message is large, or if code of the project renders it.
    """
    if getattr(type(message), "message", None) is not EmailMessage.message or "message" in vars(message):
        return True
    size = _A_RECIPIENT * sum(1 for _ in message.recipients()) + _size(message.body)
    size += sum(_size(each[0]) for each in getattr(message, "alternatives", None) or ())
    size += sum(LARGE if isinstance(each, Message) else _size(each[1]) for each in message.attachments or ())
    return size >= LARGE


def _size(content: Any) -> int:
    # Anything else may be a message or a file.
    return len(content) if isinstance(content, (str, bytes)) else 0 if content is None else LARGE


def _ready(content: Content, *, smtputf8: bool) -> bytes:
    """Return content that every server accepts, because nothing may be encoded again after a finisher."""
    return bytes(content) if smtputf8 or content.is_ascii else seven_bit(content)


def _by_django(message: Any, *, smtputf8: bool) -> Rendered:
    """Return the checked octets of a message that Django renders, and free what they were rendered from."""
    if RENDERS_SMTPUTF8:
        rendered = foreign(partial(message.message, policy=SMTPUTF8 if smtputf8 else SMTP))
        _set_boundaries(rendered)
        content = with_crlf(bytes(foreign(rendered.as_bytes)))
    else:
        rendered = foreign(message.message)
        _set_boundaries(rendered)
        content = with_crlf(bytes(foreign(partial(rendered.as_bytes, linesep="\r\n"))))
    check_rendered(rendered, content)
    if has_long_line(content):
        content = short_lined(content)
    return Rendered(Content(content), _message_id(rendered))


def _set_boundaries(rendered: Any) -> None:
    """Set the boundary of every multipart, the inner ones first: Python would compile a regular expression for each."""
    if not (isinstance(rendered, Message) and rendered.is_multipart()):
        return
    parts: Any = rendered.get_payload()
    for part in parts:
        _set_boundaries(part)
    if rendered.get_content_maintype() == "multipart" and rendered.get_boundary() is None:
        rendered.set_boundary(drawn_boundary())


def _message_id(rendered: Any) -> str | None:
    value = rendered.get("Message-ID") if isinstance(rendered, Message) else None
    return None if value is None else str(value).strip()
