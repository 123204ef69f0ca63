"""One message on its way: what is known of it at any moment."""

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
    """What has become of one message so far; true at any moment, wherever an interrupt strikes.

    Arguments:
        token: what the caller knows the message by.
        deadline: instant (monotonic) at which `delivery_timeout` ends.
        receipt: what the server said, once it has accepted the message.
        error: how the last attempt failed; what is to be raised in the end.
        attempts: on how many connections the message was tried.
        reused: whether the last of them had carried messages before.
        waited, connected, sent: seconds spent waiting for a connection, opening one, and delivering.
        round_trips: how often the server was waited for while delivering.
        begun: instant (monotonic) at which this began, None for a message that nobody has tried.
        asked_at, ended: instants of the driver's clock: the first attempt began, the last one ended.
        is_counted, is_told: the pool has counted it; its outcome is on the message.
        fate: the outcome at the moment of an interrupt.
        suspect: a refusal that may be about the connection, until a fresh one has confirmed it.
        channel: the connection that the message is on, or was on last.
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
    fate: Outcome | None = None
    channel: Channel | None = field(default=None, repr=False)

    @property
    def outcome(self) -> Outcome:
        """What has become of the message: accepted, refused, unknown, or not sent."""
        if self.receipt is not None:
            return Outcome.ACCEPTED
        if self.fate is not None:
            return self.fate
        if self.error is not None:
            return outcome_of(self.error)
        if self.channel is not None and self.channel.in_doubt:
            return Outcome.UNKNOWN
        return Outcome.NOT_SENT

    def cut_short(self, interrupt: BaseException) -> None:
        """Take note of an interrupt, and mark it with what is known of the message."""
        self.fate = self.outcome  # of its own: an interrupt may cut short many messages, with an outcome each
        if self.receipt is None and self.error is None:
            self.error = interrupt
        with contextlib.suppress(AttributeError):  # an exception without a dict
            interrupt.outcome = self.fate  # type: ignore[attr-defined]

    @property
    def summary(self) -> str:
        """Say it in a few words, for the log."""
        if self.receipt is not None:
            without = ", no DSN, which the server does not offer" if self.receipt.dsn is False else ""
            numbers = f"{len(self.receipt.accepted)} accepted, {len(self.receipt.refused)} refused"
            return f"{numbers}{without}: {self.receipt.reply}"
        return str(self.error)
