"""Servers that repeat what we said at AUTH: what they say is read, logged and raised without it. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import replace

from ..replies import Reply
from .steps import Say, Step

SHORTEST = 4  # octets: what is shorter is in every other word


def masked_reply(reply: Reply, step: Step | None) -> Reply:
    """Return a refusal without the secret that it answers, encoded or not."""
    if not isinstance(step, Say) or step.masked is None or not reply.is_refusal:
        return reply
    secrets = _secrets(step)
    return replace(reply, lines=tuple(_masked(line, secrets) for line in reply.lines)) if secrets else reply


def masked_text(text: str, step: Step | None) -> str:
    """Return what was made of a server's answer without the secret that it answers."""
    return _masked(text.encode(), _secrets(step)).decode()


def _masked(text: bytes, secrets: list[bytes]) -> bytes:
    for secret in secrets:
        text = text.replace(secret, b"***")
    return text


def _secrets(step: Step | None) -> list[bytes]:
    """Return what was said in secret at a step of AUTH: as it went over the wire, and what it means."""
    if not isinstance(step, Say) or step.masked is None:
        return []
    encoded = b"".join(step.pieces).rstrip(b"\r\n").rpartition(b" ")[2]
    try:
        decoded = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        decoded = b""
    # The last of PLAIN's three parts, a token without its scheme; the name may be shown.
    parts = [part.removeprefix(b"auth=Bearer ") for part in re.split(rb"[\0\1]", decoded)]
    secret = next((part for part in reversed(parts) if part), b"")
    return [each for each in (encoded, encoded.rstrip(b"="), decoded, secret) if len(each) >= SHORTEST]
