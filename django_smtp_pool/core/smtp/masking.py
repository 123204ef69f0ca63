"""Mask secrets in replies of servers that repeat the client's AUTH data, for logs and errors. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import replace

from ..replies import Reply
from .steps import Say, Step

SHORTEST = 4  # octets: shorter texts also occur by chance


def masked_reply(reply: Reply, step: Step | None) -> Reply:
    """Return a refusal without the secret that it answers, encoded or decoded."""
    if not isinstance(step, Say) or step.masked is None or not reply.is_refusal:
        return reply
    secrets = _secrets(step)
    return replace(reply, lines=tuple(_masked(line, secrets) for line in reply.lines)) if secrets else reply


def masked_text(text: str, step: Step | None) -> str:
    """Return a text about a server's reply, without the secret that the reply answers."""
    return _masked(text.encode(), _secrets(step)).decode()


def _masked(text: bytes, secrets: list[bytes]) -> bytes:
    for secret in secrets:
        text = text.replace(secret, b"***")
    return text


def _secrets(step: Step | None) -> list[bytes]:
    """Return the secret octets of an AUTH step, encoded and decoded."""
    if not isinstance(step, Say) or step.masked is None:
        return []
    encoded = b"".join(step.pieces).rstrip(b"\r\n").rpartition(b" ")[2]
    try:
        decoded = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        decoded = b""
    # The last of PLAIN's three parts, or a token without its scheme; the username may be shown.
    parts = [part.removeprefix(b"auth=Bearer ") for part in re.split(rb"[\0\1]", decoded)]
    secret = next((part for part in reversed(parts) if part), b"")
    return [each for each in (encoded, encoded.rstrip(b"="), decoded, secret) if len(each) >= SHORTEST]
