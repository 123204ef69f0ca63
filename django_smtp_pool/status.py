"""`message.smtp_pool_status`: the outcome of a message and of each of its recipients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .core.delivery.delivery import Delivery
from .core.errors import DeliveryUnknown, Outcome, outcome_of
from .core.interrupts import from_signal_handler
from .core.replies import Reply, queue_id_of

_ACCEPTED, _REFUSED = Outcome.ACCEPTED.value, Outcome.REFUSED.value


@dataclass(frozen=True, kw_only=True)
class RecipientStatus:
    """The outcome for one recipient.

    Arguments:
        address: as it was sent to the server.
        outcome: "accepted", "refused", "not_sent" or "unknown".
        reply: the reply that decided, or None if none was read.
    """

    address: str
    outcome: str
    reply: Reply | None = None

    @property
    def code(self) -> int | None:
        """The reply's code, such as 550."""
        return self.reply.code if self.reply else None

    @property
    def enhanced(self) -> str | None:
        """The reply's enhanced status code (RFC 3463), such as "5.1.1"."""
        numbers = self.reply.enhanced if self.reply else None
        return ".".join(map(str, numbers)) if numbers else None

    @property
    def text(self) -> str:
        """The reply's text without the codes, on one line."""
        return self.reply.text.removeprefix(self.enhanced or "").strip() if self.reply else ""


@dataclass(frozen=True, kw_only=True)
class SmtpPoolStatus:
    """The outcome of one message, when it was sent last.

    Arguments:
        outcome: "accepted", "refused", "not_sent" or "unknown".
        recipients: each address with its outcome.
        reply: the reply that decided, or None if none was read.
        error: the exception that was raised (or suppressed by `fail_silently`); None for an accepted message.
        attempts: the number of connections it was tried on.
        reused: whether the last of them had carried messages before.
        waited, connected, sent: seconds spent waiting for a connection, opening one, and delivering.
        dsn: for an accepted message that requests notifications, whether they were requested from the server; False if
            the server does not offer DSN. Otherwise None.
    """

    outcome: str
    recipients: Mapping[str, RecipientStatus] = field(default_factory=dict)
    reply: Reply | None = None
    error: BaseException | None = None
    attempts: int = 0
    reused: bool = False
    waited: float = 0.0
    connected: float = 0.0
    sent: float = 0.0
    dsn: bool | None = None

    @property
    def accepted(self) -> tuple[str, ...]:
        """The addresses that the server took responsibility for."""
        return tuple(each.address for each in self.recipients.values() if each.outcome == _ACCEPTED)

    @property
    def refused(self) -> Mapping[str, Reply]:
        """The refused addresses, each with the server's reply."""
        refused = (each for each in self.recipients.values() if each.outcome == _REFUSED)
        return {each.address: each.reply for each in refused if each.reply is not None}

    @property
    def queue_id(self) -> str | None:
        """The server's name for the message, if it was accepted and the reply has one."""
        if self.outcome != _ACCEPTED or self.reply is None:
            return None
        return queue_id_of(self.reply.text)


def status_of(message: Any) -> SmtpPoolStatus | None:
    """Return the outcome of a message; see `django_smtp_pool.status_of`."""
    status = getattr(message, "smtp_pool_status", None)
    return status if isinstance(status, SmtpPoolStatus) else None


def status_after(delivery: Delivery) -> SmtpPoolStatus:
    """Return the status after a delivery."""
    receipt, error = delivery.receipt, delivery.error
    reply = receipt.reply if receipt else getattr(error, "reply", None)
    refused = receipt.refused if receipt else getattr(error, "refused", {})
    accepted = receipt.replies if receipt else _accepted_by(error)
    outcome = delivery.outcome
    if outcome is Outcome.NOT_SENT:
        refused = {}  # the reply to one of its recipients is not final
    recipients: dict[str, RecipientStatus] = {}
    decided: str
    said: Reply | None
    for address in delivery.envelope.recipients:
        if address in accepted:
            decided, said = _ACCEPTED, accepted[address]
        elif address in refused:
            decided, said = _REFUSED, refused[address]
        else:
            decided, said = outcome.value, reply
        recipients[address] = RecipientStatus(address=address, outcome=decided, reply=said)
    return SmtpPoolStatus(
        outcome=outcome.value,
        recipients=recipients,
        reply=reply,
        error=error,
        attempts=delivery.attempts,
        reused=delivery.reused,
        waited=delivery.waited,
        connected=delivery.connected,
        sent=delivery.sent,
        dsn=receipt.dsn if receipt else None,
    )


def _accepted_by(error: BaseException | None) -> Mapping[str, Reply]:
    """Return the recipients that have certainly received a message in doubt (LMTP), each with its reply."""
    return error.accepted if isinstance(error, DeliveryUnknown) else {}


def status_without_delivery(message: Any, error: BaseException | None) -> SmtpPoolStatus:
    """Return the status of a message without a delivery: it could not be rendered, or was interrupted."""
    outcome = (outcome_of(error) if error else Outcome.NOT_SENT).value
    recipients = {address: RecipientStatus(address=address, outcome=outcome) for address in _addresses(message)}
    return SmtpPoolStatus(outcome=outcome, recipients=recipients, error=error)


def _addresses(message: Any) -> list[str]:
    """Return the recipients, or an empty list if they are what is wrong with the message."""
    try:
        return [*map(str, message.recipients())]
    except Exception as error:
        if from_signal_handler(error):
            raise
        return []
