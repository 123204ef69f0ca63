"""What follows a failed attempt: whether a message is tried again, when, and who else is concerned. Pure."""

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
MOST_LOGINS = 2  # of one message that are refused, or end without an answer: each may count towards a lock


@dataclass(frozen=True)
class Retry:
    """The message was certainly not sent, and another try may help.

    Arguments:
        after: seconds to wait before it.
        is_free: whether it costs none of `max_requeues`.
        fresh: whether it must go over a connection that has carried no message.
    """

    after: float
    is_free: bool
    fresh: bool = False


def judge(
    error: BaseException, delivery: Delivery, max_requeues: int, *, time_left: float, jitter: float = 1.0
) -> Retry | None:
    """Decide what follows a failed attempt: another one, or None if the caller is told. Pure.

    Only what was certainly not sent is tried again. A failure on a reused connection costs nothing, once: the
    server may have closed it while it was idle. One on a fresh connection costs one of `max_requeues`. What may be the
    connection's fault, a refusal too, gets one try on a fresh one.

    Arguments:
        delivery: how far the attempts have come.
        time_left: seconds until `delivery_timeout`.
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
    """Tell whether the same try may succeed a moment later.

    Not: a refused connection, an unknown host, a certificate, a 5xx before the session is ready, a server that
    was silent until then (the caller has waited for it once), and what we found out ourselves.
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
    # What happened to the dial; an OSError without a stage is no network error (a file, say).
    is_final = getattr(error, "is_final", False)
    return isinstance(error, OSError) and getattr(error, "stage", None) is Stage.CONNECT and not is_final


def concerns_all(error: BaseException) -> bool:
    """Tell whether the next message would fail the same way: no connection can be had, or no place in the window."""
    if isinstance(error, (PoolTimeout, PoolFull, PoolClosed, RateStorageUnavailable)):
        return True
    if isinstance(error, RateLimited):
        return not math.isinf(error.retry_after)  # else the message is too large for the limit, and others are not
    return isinstance(error, OSError) and getattr(error, "stage", None) in SETUP_STAGES


def tells_of_idling(error: BaseException) -> bool:
    """Tell whether a reused connection failed because its server had given it up while it was idle."""
    if outcome_of(error) is not Outcome.NOT_SENT or not isinstance(error, Failure) or error.session_survives:
        return False
    is_first_word = error.stage in {Stage.RSET, Stage.MAIL}
    says_so = error.reply is not None and error.reply.enhanced == (4, 4, 2)
    return is_first_word and (isinstance(error, ConnectionLost) or says_so)
