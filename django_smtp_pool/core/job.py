"""One message on its way: what is known of it, and how far the tries have come."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .delivery import Receipt
from .envelope import Envelope
from .errors import Outcome, outcome_of
from .judgement import Attempt, Done, Raise, Retry, judge
from .options import PoolOptions


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """What became of one message.

    Arguments:
        receipt: what the server said, for an accepted message.
        error: what is to be raised, for any other.
        attempts: how many connections it was tried on.
        reused: whether the last of them had carried messages before.
        waited, connected, sent: seconds spent waiting for a connection, opening one, and delivering.
    """

    outcome: Outcome
    receipt: Receipt | None = None
    error: BaseException | None = None
    attempts: int = 0
    reused: bool = False
    waited: float = 0.0
    connected: float = 0.0
    sent: float = 0.0

    @property
    def summary(self) -> str:
        """Say it in a few words, for the log."""
        if self.receipt is not None:
            without = ", no DSN, which the server does not offer" if self.receipt.dsn is False else ""
            numbers = f"{len(self.receipt.accepted)} accepted, {len(self.receipt.refused)} refused"
            return f"{numbers}{without}: {self.receipt.reply}"
        return str(self.error)


@dataclass(frozen=True, kw_only=True)
class Try:
    """One try to deliver a message, seconds spent in each part.

    Arguments:
        receipt, error: how it ended; one of them is given.
    """

    receipt: Receipt | None = None
    error: BaseException | None = None
    reused: bool = False
    waited: float = 0.0
    connected: float = 0.0
    sent: float = 0.0


class Job:
    """A message under way. `deadline` is the instant (monotonic) at which `delivery_timeout` ends."""

    def __init__(self, envelope: Envelope, options: PoolOptions, now: float) -> None:
        self.envelope = envelope
        self.delivery = Delivery(outcome=Outcome.NOT_SENT)
        self.deadline = now + options.delivery_timeout
        self._attempt = Attempt(max_requeues=options.max_requeues, time_left=options.delivery_timeout)

    def postpone(self, seconds: float) -> None:
        """Move the deadline: waiting for the rate limit is not waiting for the server."""
        self.deadline += seconds

    def give_up(self, error: BaseException, outcome: Outcome = Outcome.NOT_SENT) -> None:
        """Let the message end without another try."""
        self.delivery = replace(self.delivery, error=error, outcome=outcome)

    def ended(self, this: Try, *, now: float, jitter: float) -> Done | Retry | Raise:
        """Take note of a try and judge what follows."""
        before = self.delivery
        self.delivery = Delivery(
            outcome=Outcome.ACCEPTED if this.error is None else outcome_of(this.error),
            receipt=this.receipt,
            error=this.error,
            attempts=before.attempts + 1,
            reused=this.reused,
            waited=before.waited + this.waited,
            connected=before.connected + this.connected,
            sent=before.sent + this.sent,
        )
        self._attempt = replace(self._attempt, reused=this.reused, time_left=self.deadline - now, jitter=jitter)
        verdict = judge(this.error, self._attempt)
        if isinstance(verdict, Retry):
            self._spend(verdict)
        return verdict

    def _spend(self, verdict: Retry) -> None:
        if verdict.is_free:
            self._attempt = replace(self._attempt, free_retry_spent=True)
        else:
            self._attempt = replace(self._attempt, requeues=self._attempt.requeues + 1)
