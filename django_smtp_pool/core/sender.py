"""Sends one message: acquires a connection, delivers, and judges what to do about a failure."""

from __future__ import annotations

import random
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from .clock import Clock
from .connection import Connection
from .delivery import Receipt
from .envelope import Envelope
from .errors import (
    SETUP_STAGES,
    ConnectionLost,
    Failure,
    Outcome,
    PoolClosed,
    PoolFull,
    PoolTimeout,
    Stage,
    outcome_of,
)
from .events import Attempted, Finished, Observer
from .lease import Lease
from .pool import Pool

FIRST_PAUSE = 0.05  # seconds before the second try on a fresh connection; doubles
LONGEST_PAUSE = 2.0


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
    error: Exception | None = None
    attempts: int = 0
    reused: bool = False
    waited: float = 0.0
    connected: float = 0.0
    sent: float = 0.0

    @property
    def summary(self) -> str:
        """Say it in a few words, for the log."""
        if self.receipt is not None:
            return f"{len(self.receipt.accepted)} accepted, {len(self.receipt.refused)} refused: {self.receipt.reply}"
        return str(self.error)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """How far the tries have come when one of them has failed.

    Arguments:
        reused: whether the failed try went over a reused connection.
        free_retry_spent: whether a reused connection has failed before.
        requeues: tries on fresh connections that have failed before this one.
        time_left: seconds until `delivery_timeout`.
        jitter: factor for the back-off, from 0.5 to 1.
    """

    reused: bool = False
    free_retry_spent: bool = False
    requeues: int = 0
    max_requeues: int
    time_left: float
    jitter: float = 1.0


@dataclass(frozen=True)
class Done:
    """The message was accepted."""


@dataclass(frozen=True)
class Retry:
    """The message was certainly not sent, and another try may help."""

    after: float
    is_free: bool


@dataclass(frozen=True)
class Raise:
    """The caller has to know."""


def judge(error: BaseException | None, attempt: Attempt) -> Done | Retry | Raise:
    """Decide what follows a try. Pure.

    Only what was certainly not sent is tried again. A failure on a reused connection costs nothing, once: the
    server may have closed it while it was idle. One on a fresh connection costs one of `max_requeues`.
    """
    if error is None:
        return Done()
    if outcome_of(error) is not Outcome.NOT_SENT or not may_pass(error) or attempt.time_left <= 0:
        return Raise()
    if attempt.reused and not attempt.free_retry_spent:
        return Retry(0.0, is_free=True)
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt.requeues) * attempt.jitter
    if attempt.requeues >= attempt.max_requeues or pause >= attempt.time_left:
        return Raise()
    return Retry(pause, is_free=False)


def may_pass(error: BaseException) -> bool:
    """Tell whether the same try may succeed a moment later.

    Not: a refused connection, an unknown host, a certificate, a 5xx before the session is ready, and what we
    found out ourselves.
    """
    if isinstance(error, (PoolTimeout, PoolFull, PoolClosed)):
        return False
    if isinstance(error, Failure):
        refused_for_good = (
            error.reply is not None
            and error.reply.is_permanent
            and error.stage in SETUP_STAGES
            and not isinstance(error, ConnectionLost)
        )
        return not (error.is_final or refused_for_good)
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_AGAIN
    if isinstance(error, (ssl.SSLError, ConnectionRefusedError)) or not isinstance(error, OSError):
        return False
    # Anything else that happened to the dial; an OSError without a stage is no network error (a file, say).
    return getattr(error, "stage", None) is Stage.CONNECT


class Sender:
    """Sends messages over the connections of one pool."""

    def __init__(
        self,
        pool: Pool[Connection],
        *,
        clock: Clock,
        observer: Observer,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.pool = pool
        self._clock = clock
        self._observer = observer
        self._uniform = uniform

    def send(self, envelope: Envelope) -> Delivery:
        """Deliver a message, over as many connections as it takes, and return what became of it.

        Nothing about the message is raised: `Delivery.error` is for the caller to raise. KeyboardInterrupt and
        the like pass through, with an `outcome` attribute.
        """
        options = self.pool.options
        deadline = self._clock.monotonic() + options.delivery_timeout
        attempt = Attempt(max_requeues=options.max_requeues, time_left=options.delivery_timeout)
        so_far = Delivery(outcome=Outcome.NOT_SENT)
        while True:
            so_far = self._try(envelope, deadline, so_far)
            attempt = replace(
                attempt,
                reused=so_far.reused,
                time_left=deadline - self._clock.monotonic(),
                jitter=self._uniform(0.5, 1.0),
            )
            verdict = judge(so_far.error, attempt)
            if not isinstance(verdict, Retry):
                return self._finished(envelope, so_far)
            attempt = self._prepare_retry(attempt, verdict, so_far)

    def _prepare_retry(self, attempt: Attempt, verdict: Retry, so_far: Delivery) -> Attempt:
        self.pool.count("requeues")
        error = so_far.error
        if error is None:
            raise AssertionError("only a failure is retried")
        self._observer.notice(
            Attempted(
                server=self.pool.name,
                stage=getattr(error, "stage", None),
                error=error,
                retry_after=verdict.after,
                reused=so_far.reused,
            )
        )
        if verdict.after:
            self._clock.wait(threading.Event().wait, verdict.after)
        if verdict.is_free:
            return replace(attempt, free_retry_spent=True)
        return replace(attempt, requeues=attempt.requeues + 1)

    def _try(self, envelope: Envelope, deadline: float, before: Delivery) -> Delivery:
        """Try one connection; return what is known then, times added to those of the tries before."""
        started_at = self._clock.monotonic()
        try:
            lease = self.pool.acquire(deadline)
        except Exception as error:  # noqa: BLE001 - judged, and raised to the caller in the end
            waited = before.waited + self._clock.monotonic() - started_at
            return replace(
                before,
                error=error,
                outcome=Outcome.NOT_SENT,
                attempts=before.attempts + 1,
                waited=waited,
                reused=False,
            )
        return self._deliver(envelope, deadline, lease, before)

    def _deliver(self, envelope: Envelope, deadline: float, lease: Lease[Connection], before: Delivery) -> Delivery:
        started_at = self._clock.monotonic()
        receipt, error = None, None
        try:
            receipt = lease.connection.deliver(envelope, deadline)
        except Exception as failure:  # noqa: BLE001 - judged, and raised to the caller in the end
            error = failure
        finally:
            _give_back(lease, error)
        return Delivery(
            outcome=Outcome.ACCEPTED if error is None else outcome_of(error),
            receipt=receipt,
            error=error,
            attempts=before.attempts + 1,
            reused=lease.reused,
            waited=before.waited + lease.waited,
            connected=before.connected + lease.dialled,
            sent=before.sent + self._clock.monotonic() - started_at,
        )

    def _finished(self, envelope: Envelope, delivery: Delivery) -> Delivery:
        self.pool.count(f"messages_{delivery.outcome.value}")
        self._observer.notice(
            Finished(server=self.pool.name, outcome=delivery.outcome, delivery=delivery, envelope=envelope)
        )
        return delivery


def _give_back(lease: Lease[Connection], error: Exception | None) -> None:
    """Return a connection; one that was closed while idle condemns those that were idle for as long."""
    if lease.reused and error is not None and _tells_of_idling(error):
        lease.give_back_stale()
    else:
        lease.give_back()


def _tells_of_idling(error: Exception) -> bool:
    if outcome_of(error) is not Outcome.NOT_SENT or not isinstance(error, Failure) or error.session_survives:
        return False
    is_first_word = error.stage in {Stage.RSET, Stage.MAIL}
    says_so = error.reply is not None and error.reply.enhanced == (4, 4, 2)
    return is_first_word and (isinstance(error, ConnectionLost) or says_so)
