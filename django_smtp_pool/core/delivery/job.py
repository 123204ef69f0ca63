"""One message on its way: what is known of it, and how far the tries have come."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import Any

from ..drivers.run import Run
from ..errors import Outcome, outcome_of
from ..options.options import PoolOptions
from ..pool.lease import Lease
from ..smtp.delivery import Receipt
from ..smtp.envelope import Envelope
from .retry import Attempt, Done, Raise, Retry, judge


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
        self.run: Run[Receipt] | None = None  # of a try that has not been judged yet
        self.lease: Lease[Any] | None = None  # the last one
        self.wants_fresh = False  # the next try must go over a connection that has carried no message
        self._refusal: BaseException | None = None  # that a fresh connection is to confirm
        self._attempt = Attempt(max_requeues=options.max_requeues, time_left=options.delivery_timeout)

    def postpone(self, seconds: float) -> None:
        """Move the deadline: waiting for the rate limit is not waiting for the server."""
        self.deadline += seconds

    def give_up(self, error: BaseException, outcome: Outcome = Outcome.NOT_SENT) -> None:
        """Let the message end without another try."""
        self.delivery = replace(self.delivery, error=error, outcome=outcome)

    def cut_short(self, interrupt: BaseException) -> Delivery:
        """Return what is known of the message where an interrupt came, and mark the interrupt with it."""
        if self.run is not None:
            receipt, error = _ending(self.run, interrupt)
            self.delivery = replace(
                self.delivery,
                outcome=self.run.fate,
                receipt=receipt,
                error=error,
                attempts=self.delivery.attempts + 1,
            )
            self.run = None
        elif self.delivery.outcome is Outcome.NOT_SENT:
            self.delivery = replace(self.delivery, error=interrupt)
        with contextlib.suppress(AttributeError):
            interrupt.outcome = self.delivery.outcome  # type: ignore[attr-defined]
        return self.delivery

    def ended(self, this: Try, *, now: float, jitter: float) -> Done | Retry | Raise:
        """Take note of a try and judge what follows."""
        before = self.delivery
        self.delivery = Delivery(
            outcome=self._outcome(this),
            receipt=this.receipt,
            error=this.error,
            attempts=before.attempts + 1,
            reused=this.reused,
            waited=before.waited + this.waited,
            connected=before.connected + this.connected,
            sent=before.sent + this.sent,
        )
        self.run = None
        self._attempt = replace(self._attempt, reused=this.reused, time_left=self.deadline - now, jitter=jitter)
        verdict = judge(this.error, self._attempt)
        self.wants_fresh = isinstance(verdict, Retry) and verdict.fresh
        if isinstance(verdict, Retry):
            self._spend(verdict)
        elif isinstance(verdict, Raise) and self._refusal and self.delivery.outcome is Outcome.NOT_SENT:
            self.give_up(self._refusal, Outcome.REFUSED)  # nobody has contradicted it
        return verdict

    def _outcome(self, this: Try) -> Outcome:
        if this.error is None:
            return Outcome.ACCEPTED
        # An error that is none of ours (a task queue's time limit, say) tells nothing of what the run has seen.
        return outcome_of(this.error) if self.run is None else self.run.fate

    def _spend(self, verdict: Retry) -> None:
        error = self.delivery.error
        self._attempt = replace(self._attempt, logins=self._attempt.logins + getattr(error, "logins", 0))
        if verdict.fresh:
            self._attempt = replace(self._attempt, fresh_try_spent=True)
            self._refusal = error if self.delivery.outcome is Outcome.REFUSED else None
        elif verdict.is_free:
            self._attempt = replace(self._attempt, free_retry_spent=True)
        else:
            self._attempt = replace(self._attempt, requeues=self._attempt.requeues + 1)


def _ending(run: Run[Receipt], interrupt: BaseException) -> tuple[Receipt | None, BaseException | None]:
    """Return how a run ended before nobody could look, or the interrupt that broke it off."""
    try:
        receipt = run.result()
    except BaseException as error:  # noqa: BLE001 - it was not raised before
        return None, error
    return receipt, interrupt if receipt is None else None
