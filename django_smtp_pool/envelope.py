"""From Django's EmailMessage to the core's Envelope: addresses and octets, as this version of Django makes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import django
from django.conf import settings

from .core.envelope import Envelope

RENDERS_BY_POLICY = django.VERSION >= (6, 0)


def envelope_of(message: Any, prep_address: Callable[[str], str] | None) -> Envelope:
    """Render a message.

    Arguments:
        message: an EmailMessage with at least one recipient.
        prep_address: the backend's own method where it has one (Django 6.0 and later).

    Raises ValueError for what must not go on the wire: bad addresses, header injection.
    """
    prepare = prep_address or _sanitizer(message)
    content = _render(message)
    return Envelope(
        sender=prepare(message.from_email),
        recipients=tuple(prepare(address) for address in message.recipients()),
        content=content,
    )


def _render(message: Any) -> bytes:
    content: bytes
    if RENDERS_BY_POLICY:
        from email import policy

        content = message.message(policy=policy.SMTP).as_bytes()
    else:
        content = message.message().as_bytes(linesep="\r\n")
    return content


def _sanitizer(message: Any) -> Callable[[str], str]:
    from django.core.mail.message import sanitize_address  # gone after Django 6.x, where nobody comes here

    encoding = message.encoding or settings.DEFAULT_CHARSET
    return lambda address: str(sanitize_address(address, encoding))
