"""Mask secrets in replies of servers that repeat the client's AUTH data, for logs and errors. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import replace

from ..replies import MalformedReply, Reply

SHORTEST = 4  # octets: shorter texts also occur by chance


def forms_of(said: bytes) -> tuple[bytes, ...]:
    """Return the forms in which a server may repeat a secret: as it is, and as it was sent."""
    encoded = base64.b64encode(said)
    return tuple(form for form in (said, encoded, encoded.rstrip(b"=")) if len(form) >= SHORTEST)


def in_order(hidden: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return the secrets, each once, the longest first: one may be a part of another."""
    return tuple(sorted(set(hidden), key=len, reverse=True))


def masked_reply(reply: Reply, hidden: Iterable[bytes]) -> Reply:
    """Return a reply without the secrets."""
    lines = tuple(masked_in(line, hidden) for line in reply.lines)
    return reply if lines == reply.lines else replace(reply, lines=lines)


def masked_in(text: bytes, hidden: Iterable[bytes]) -> bytes:
    """Return a text without the secrets."""
    for secret in hidden:
        text = text.replace(secret, b"***")
    return text


def masked_error(error: MalformedReply, hidden: Iterable[bytes]) -> str:
    """Return the text for a malformed reply, without the excerpt if it may contain a part of a secret."""
    if any(secret in error.line for secret in hidden):
        return "the server sent something that is not an SMTP reply, and it repeats what was said at AUTH"
    return str(error)
