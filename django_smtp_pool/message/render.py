"""From Django's EmailMessage to the core's Envelope: addresses and octets, as this version of Django makes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from email.message import Message
from functools import partial
from typing import Any

from ..core.smtp.envelope import Envelope, with_crlf
from .addresses import (
    RENDERS_SMTPUTF8,
    PrepareAddress,
    addr_spec,
    check_before_parsing,
    errors_of_the_parser,
    needs_smtputf8,
)
from .finishers import Finisher, finish, refuse_to_encode
from .headers import SMTP, SMTPUTF8
from .ordinary import ordinary
from .safety import check_rendered, has_long_line
from .smtp_options import asked_by
from .transfer import seven_bit, short_lined


def envelope_of(
    message: Any, prep_address: PrepareAddress | None, finishers: Sequence[Finisher | str] = ()
) -> Envelope:
    """Render a message, and check what was rendered.

    Arguments:
        message: an EmailMessage with at least one recipient.
        prep_address: the backend's own method where it has one (Django 6.0 and later).
        finishers: what has the last word on the content.

    Raises ValueError for what must not go on the wire: bad addresses, header injection, and for `smtp_options` that
    are no good.
    """
    check_before_parsing(message)
    smtputf8 = needs_smtputf8(message)
    with errors_of_the_parser():
        sender = addr_spec(message.from_email, prep_address, smtputf8=smtputf8)
        prepare = partial(addr_spec, prepare=prep_address, smtputf8=smtputf8)
        recipients = [prepare(address) for address in message.recipients()]
        asked = asked_by(message, recipients, prepare)
        content, message_id = _render(message, smtputf8=smtputf8)
    recode: Callable[[], bytes] = partial(seven_bit, content)
    if finishers:
        content, recode = finish(_ready(content, smtputf8=smtputf8), finishers), refuse_to_encode
    return Envelope(
        sender=sender,
        recipients=tuple(recipients),
        content=content,
        smtputf8=smtputf8,
        # RFC 6531 §3.1: a server with SMTPUTF8 has 8BITMIME too.
        seven_bit=None if smtputf8 or content.isascii() else recode,
        message_id=message_id,
        dsn=asked.dsn,
        require_tls=asked.require_tls,
    )


def _ready(content: bytes, *, smtputf8: bool) -> bytes:
    """Return content in the form that any server takes: after a finisher nothing is encoded again."""
    return content if smtputf8 or content.isascii() else seven_bit(content)


def _render(message: Any, *, smtputf8: bool) -> tuple[bytes, str | None]:
    """Return the checked octets and the Message-ID; what they were rendered from is not kept."""
    if RENDERS_SMTPUTF8 and not smtputf8 and (written := ordinary(message)) is not None:
        return written
    if RENDERS_SMTPUTF8:
        rendered = message.message(policy=SMTPUTF8 if smtputf8 else SMTP)
        content = with_crlf(rendered.as_bytes())
    else:
        rendered = message.message()
        content = with_crlf(rendered.as_bytes(linesep="\r\n"))
    check_rendered(rendered, content)
    if has_long_line(content):
        content = short_lined(content)
    return content, _message_id(rendered)


def _message_id(rendered: Any) -> str | None:
    value = rendered.get("Message-ID") if isinstance(rendered, Message) else None
    return None if value is None else str(value).strip()
