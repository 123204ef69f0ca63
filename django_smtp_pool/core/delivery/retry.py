"""Decide what follows a failed attempt: whether and when to try again, and whether others would fail too. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import (
    SETUP_STAGES,
    ConnectionLost,
    Failure,
    Outcome,
    PoolClosed,
    PoolFull,
    PoolTimeout,
    RateLimited,
    RateStorageUnavailable,
    Stage,
    outcome_of,
)
from .delivery import Delivery

FIRST_PAUSE = 0.05  # seconds before the second try on a fresh connection; doubles
LONGEST_PAUSE = 2.0
MOST_LOGINS = 2  # failed or unanswered logins for one message: each may count towards locking the account


@dataclass(frozen=True)
class Retry:
    """The next attempt at a message that was certainly not sent.

    Arguments:
        after: seconds to wait before the attempt.
        is_free: whether the attempt does not count towards `max_requeues`.
        fresh: whether it needs a connection that has carried no message.
    """

    after: float
    is_free: bool
    fresh: bool = False


def judge(
    error: BaseException, delivery: Delivery, max_requeues: int, *, time_left: float, jitter: float = 1.0
) -> Retry | None:
    """Return the next attempt, or None if the error is final for the message.

    Only what was certainly not sent is tried again. After a failure on a reused connection, one retry is free: the
    server may have closed the connection while it was idle. After a failure that may be due to the connection, even a
    refusal, one retry on a fresh connection is free. Every other retry counts towards `max_requeues`.

    Arguments:
        delivery: the attempts so far.
        time_left: seconds until `delivery_timeout` ends.
        jitter: factor for the back-off, from 0.5 to 1.
    """
    if time_left <= 0:
        return None
    if isinstance(error, Failure):
        if error.try_fresh and not delivery.fresh_try_spent:
            return Retry(0.0, is_free=True, fresh=True)
        if error.is_last_resort or delivery.logins + error.logins >= MOST_LOGINS:
            return None
    if outcome_of(error) is not Outcome.NOT_SENT or not may_pass(error):
        return None
    if delivery.reused and not delivery.free_retry_spent:
        return Retry(0.0, is_free=True)
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**delivery.requeues) * jitter
    if delivery.requeues >= max_requeues or pause >= time_left:
        return None
    return Retry(pause, is_free=False)


def may_pass(error: BaseException) -> bool:
    """Return whether the same attempt may succeed a moment later.

    It may not after a refused connection, an unknown host, a rejected certificate, a 5xx before the session is ready,
    a timeout before the session is ready (the caller has waited once already), or an error that this client detected.
    """
    if isinstance(error, (PoolTimeout, PoolFull, PoolClosed)):
        return False
    if isinstance(error, TimeoutError) and getattr(error, "stage", None) in SETUP_STAGES:
        return False
    if isinstance(error, Failure):
        refused_for_good = (
            error.reply is not None
            and error.reply.is_permanent
            and error.stage in SETUP_STAGES
            and not isinstance(error, ConnectionLost)
        )
        return not (error.is_final or refused_for_good)
    # An error while connecting; an OSError without a stage is not a network error (for example of a file).
    is_final = getattr(error, "is_final", False)
    return isinstance(error, OSError) and getattr(error, "stage", None) is Stage.CONNECT and not is_final


def concerns_all(error: BaseException) -> bool:
    """Return whether the next message would fail in the same way: there is no connection, or the rate limit is used."""
    if isinstance(error, (PoolTimeout, PoolFull, PoolClosed, RateStorageUnavailable)):
        return True
    if isinstance(error, RateLimited):
        return not math.isinf(error.retry_after)  # infinite: this message exceeds the limit, others may not
    return isinstance(error, OSError) and getattr(error, "stage", None) in SETUP_STAGES


def was_closed_while_idle(error: BaseException) -> bool:
    """Return whether a reused connection failed because its server had closed it while it was idle."""
    if outcome_of(error) is not Outcome.NOT_SENT or not isinstance(error, Failure) or error.session_survives:
        return False
    is_first_word = error.stage in {Stage.RSET, Stage.MAIL}
    says_so = error.reply is not None and error.reply.enhanced == (4, 4, 2)
    return is_first_word and (isinstance(error, ConnectionLost) or says_so)
