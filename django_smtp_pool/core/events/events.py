"""What happens in the pool, for whoever wants to know: logs, signals, metrics and traces hang here.

An observer is called outside every lock, in the thread in which the thing happened. What it raises is logged
and forgotten: nobody who watches can turn a success into a failure. Only an interrupt that strikes there passes
(`core.interrupts`). Nothing is built that nobody hears.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import Outcome, Stage
from ..interrupts import from_signal_handler
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
    """One attempt to deliver a message ended without an acceptance, and another one follows.

    Arguments:
        attempts: how many there have been.
        retry_after: seconds until the next one.
        delivery: what is known of the message by now.
    """

    server: str
    stage: Stage | None
    error: BaseException
    attempts: int
    retry_after: float
    reused: bool
    delivery: Any


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A message has found its outcome."""

    server: str
    outcome: Outcome
    delivery: Any
    envelope: Any


@dataclass(frozen=True, kw_only=True)
class LeftInDoubt(Finished):
    """A message has found its outcome, and it is unknown."""


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

    def hears(self, kind: type[Event]) -> bool:  # noqa: ARG002 - whoever listens to some kinds only says so
        """Tell whether anybody wants to know of events of a kind, at the moment."""
        return True

    def notice(self, event: Event) -> None:
        """Take note of an event."""

    def tell(self, kind: type[Event], /, **fields: Any) -> None:
        """Build an event and take note of it, if anybody hears it."""
        if self.hears(kind):
            self.notice(kind(**fields))


class Observers(Observer):
    """Several observers as one; none can disturb another, or the sender."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._observers = tuple(observers)

    def add(self, observer: Observer) -> None:
        """Let one more observer watch, from now on."""
        self._observers += (observer,)

    def hears(self, kind: type[Event]) -> bool:
        """Tell whether one of them does."""
        for observer in self._observers:  # noqa: SIM110 - no generator: this is asked for each message
            if observer.hears(kind):
                return True
        return False

    def notice(self, event: Event) -> None:
        """Pass an event to each observer."""
        for observer in self._observers:
            try:
                observer.notice(event)
            except Exception as error:
                if from_signal_handler(error):
                    raise
                # Nobody who watches decides what becomes of a message.
                records.write(logger, logging.WARNING, "An observer of %s failed", type(event).__name__, exc_info=True)
