"""What happens in the pool, for whoever wants to know: logs, signals, metrics and traces hang here.

An observer is called outside every lock, in the thread in which the thing happened. What it raises is logged
and forgotten: nobody who watches can turn a success into a failure.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import Outcome, Stage
from . import records

logger = logging.getLogger("django_smtp_pool.pool")


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A connection is ready: greeted, secured, logged in."""

    connection: int
    server: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Closed:
    """A connection has left the pool."""

    connection: int
    server: str
    reason: str
    messages: int


@dataclass(frozen=True, kw_only=True)
class DialFailed:
    """A connection could not be had."""

    server: str
    error: BaseException


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """The pool has found out about a limit of its server."""

    server: str
    what: str
    why: str


@dataclass(frozen=True, kw_only=True)
class RateStorageFailed:
    """The store of the rate limit gave no answer; from now on it is asked only now and then."""

    server: str
    storage: str
    error: BaseException
    nothing_goes: bool


@dataclass(frozen=True, kw_only=True)
class RateStorageBack:
    """The store of the rate limit answers again."""

    server: str
    storage: str


@dataclass(frozen=True, kw_only=True)
class Attempted:
    """One attempt to deliver a message ended without an acceptance, and another one follows."""

    server: str
    stage: Stage | None
    error: BaseException
    retry_after: float
    reused: bool


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A message has found its outcome."""

    server: str
    outcome: Outcome
    delivery: Any
    envelope: Any


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the dialogue, secrets and bodies masked (`debug=True` only)."""

    connection: int
    server: str
    said: bool
    text: str


Event = Opened | Closed | DialFailed | Learnt | RateStorageFailed | RateStorageBack | Attempted | Finished | Line


class Observer:
    """Somebody who watches; this one does nothing."""

    def notice(self, event: Event) -> None:
        """Take note of an event."""


class Observers(Observer):
    """Several observers as one; none can disturb another, or the sender."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._observers = tuple(observers)

    def notice(self, event: Event) -> None:
        """Pass an event to each observer."""
        for observer in self._observers:
            try:
                observer.notice(event)
            except Exception:  # noqa: BLE001 - nobody who watches decides what becomes of a message
                records.write(logger, logging.WARNING, "An observer of %s failed", type(event).__name__, exc_info=True)
