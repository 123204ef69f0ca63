"""One message on its way: what is known about it at any moment."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import Outcome, outcome_of
from ..smtp.delivery import Receipt
from ..smtp.envelope import Envelope

if TYPE_CHECKING:
    from .channel import Channel


@dataclass(eq=False, kw_only=True)
class Delivery:
    """The state of one message so far. It is true at any moment, even if an interrupt occurs between two lines.

    Arguments:
        token: what the caller identifies the message by.
        deadline: instant (monotonic) at which `delivery_timeout` ends.
        receipt: the server's replies, once it has accepted the message.
        error: the failure of the last attempt; in the end, the error to raise.
        attempts: on how many connections the message was tried.
        reused: whether the last of them had carried messages before.
        waited, connected, sent: seconds spent waiting for a connection, opening one, and delivering.
        round_trips: how often the client waited for the server while delivering.
        begun: instant (monotonic) at which the first attempt began; None for a message that was never tried.
        asked_at, ended: instants of the driver's clock at which the first attempt began and the last one ended.
        is_counted, is_told: whether the pool has counted it, and whether its outcome is on the message.
        outcome_at_interrupt: the outcome at the moment of an interrupt.
        suspect: a refusal that may be about the connection, until a fresh connection has confirmed it.
        channel: the connection of the current attempt, or of the last one.
    """

    envelope: Envelope
    token: Any = None
    deadline: float = float("inf")
    receipt: Receipt | None = None
    error: BaseException | None = None
    attempts: int = 0
    requeues: int = 0
    free_retry_spent: bool = False
    fresh_try_spent: bool = False
    wants_fresh: bool = False
    suspect: BaseException | None = None
    logins: int = 0
    reused: bool = False
    is_counted: bool = False
    is_told: bool = False
    waited: float = 0.0
    connected: float = 0.0
    sent: float = 0.0
    round_trips: int = 0
    begun: float | None = None
    asked_at: float | None = None
    ended: float | None = None
    outcome_at_interrupt: Outcome | None = None
    channel: Channel | None = field(default=None, repr=False)

    @property
    def outcome(self) -> Outcome:
        """The outcome of the message so far: accepted, refused, unknown, or not sent."""
        if self.receipt is not None:
            return Outcome.ACCEPTED
        if self.outcome_at_interrupt is not None:
            return self.outcome_at_interrupt
        if self.error is not None:
            return outcome_of(self.error)
        if self.channel is not None and self.channel.in_doubt:
            return Outcome.UNKNOWN
        return Outcome.NOT_SENT

    def cut_short(self, interrupt: BaseException) -> None:
        """Record an interrupt, and set the outcome of the message on it."""
        # Kept here as well: one interrupt may end many messages, each with its own outcome.
        self.outcome_at_interrupt = self.outcome
        if self.receipt is None and self.error is None:
            self.error = interrupt
        with contextlib.suppress(AttributeError):  # an exception without a dict
            interrupt.outcome = self.outcome_at_interrupt  # type: ignore[attr-defined]

    @property
    def summary(self) -> str:
        """The result in a few words, for the log."""
        if self.receipt is not None:
            without = ", no DSN, which the server does not offer" if self.receipt.dsn is False else ""
            numbers = f"{len(self.receipt.accepted)} accepted, {len(self.receipt.refused)} refused"
            return f"{numbers}{without}: {self.receipt.reply}"
        return str(self.error)
