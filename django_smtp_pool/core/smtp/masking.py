"""Servers that repeat what we said at AUTH: what they say is read, logged and raised without it. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import replace

from ..replies import MalformedReply, Reply

SHORTEST = 4  # octets: what is shorter is in every other word


def forms_of(said: bytes) -> tuple[bytes, ...]:
    """Return the forms in which a server may repeat what was said in secret: as it is, and as it went over the wire."""
    encoded = base64.b64encode(said)
    return tuple(form for form in (said, encoded, encoded.rstrip(b"=")) if len(form) >= SHORTEST)


def in_order(hidden: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return what is to be hidden, each once, and the longest first: one may be a part of another."""
    return tuple(sorted(set(hidden), key=len, reverse=True))


def masked_reply(reply: Reply, hidden: Iterable[bytes]) -> Reply:
    """Return a reply without what was said in secret."""
    lines = tuple(masked_in(line, hidden) for line in reply.lines)
    return reply if lines == reply.lines else replace(reply, lines=lines)


def masked_in(text: bytes, hidden: Iterable[bytes]) -> bytes:
    """Return a text without what was said in secret."""
    for secret in hidden:
        text = text.replace(secret, b"***")
    return text


def masked_error(error: MalformedReply, hidden: Iterable[bytes]) -> str:
    """Return what to say of something that is no reply; an excerpt of it may hold a part of what was said in secret."""
    if any(secret in error.line for secret in hidden):
        return "this is no SMTP reply, and it repeats what was said at AUTH"
    return str(error)
