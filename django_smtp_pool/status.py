"""`message.smtp_pool_status`: what became of a message and of each of its recipients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .core.envelope import Envelope
from .core.errors import Outcome, RecipientsRefused
from .core.replies import Reply
from .core.sender import Delivery


@dataclass(frozen=True, kw_only=True)
class SmtpPoolStatus:
    """What became of one message, the last time it was sent.

    Arguments:
        outcome: "accepted", "refused", "not_sent" or "unknown".
        accepted: addresses that the server took responsibility for.
        refused: refused addresses, each with the server's reply.
        reply: the reply that decided, None where none was read.
        error: what was raised (or swallowed by `fail_silently`), None for a message that was accepted.
        attempts: how many connections it was tried on.
        reused: whether the last of them had carried messages before.
        waited, connected, sent: seconds spent waiting for a connection, opening one, and delivering.
    """

    outcome: str
    accepted: tuple[str, ...] = ()
    refused: Mapping[str, Reply] = field(default_factory=dict)
    reply: Reply | None = None
    error: BaseException | None = None
    attempts: int = 0
    reused: bool = False
    waited: float = 0.0
    connected: float = 0.0
    sent: float = 0.0


def status_of(envelope: Envelope, delivery: Delivery) -> SmtpPoolStatus:
    """Return the status that tells of a delivery."""
    receipt, error = delivery.receipt, delivery.error
    return SmtpPoolStatus(
        outcome=delivery.outcome.value,
        accepted=receipt.accepted if receipt else (),
        refused=receipt.refused if receipt else _refused(envelope, error),
        reply=receipt.reply if receipt else getattr(error, "reply", None),
        error=error,
        attempts=delivery.attempts,
        reused=delivery.reused,
        waited=delivery.waited,
        connected=delivery.connected,
        sent=delivery.sent,
    )


def _refused(envelope: Envelope, error: BaseException | None) -> Mapping[str, Reply]:
    """Return each recipient's reply: its own, or that to the whole message."""
    if isinstance(error, RecipientsRefused) and error.refused:
        return error.refused
    reply = getattr(error, "reply", None)
    if reply is None or getattr(error, "outcome", None) is not Outcome.REFUSED:
        return {}
    return dict.fromkeys(envelope.recipients, reply)


def record(message: Any, status: SmtpPoolStatus | None) -> None:
    """Put a status on a message."""
    message.smtp_pool_status = status
