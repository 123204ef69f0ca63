"""What happens in the pool, as events for observers: logs, signals, metrics and traces.

An observer is called outside of every lock, in the thread in which the event occurred. An exception that it raises is
logged, so an observer cannot turn a success into a failure; only an interrupt is raised to the caller
(`core.interrupts`). An event that no observer wants is not built.
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
    """A connection is ready for messages: TLS and the login are done."""

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
    """A connection could not be opened."""

    server: str
    error: BaseException


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """The pool has learnt a limit of its server."""

    server: str
    what: str
    why: str


@dataclass(frozen=True, kw_only=True)
class RateStorageFailed:
    """The storage of the rate limit did not answer; from now on it is asked only from time to time."""

    server: str
    storage: str
    error: BaseException
    nothing_goes: bool


@dataclass(frozen=True, kw_only=True)
class RateStorageBack:
    """The storage of the rate limit answers again."""

    server: str
    storage: str


@dataclass(frozen=True, kw_only=True)
class Attempted:
    """An attempt to deliver a message failed, and another one follows.

    Arguments:
        attempts: how many attempts there were.
        retry_after: seconds until the next attempt.
        delivery: the state of the message now.
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
    """A message has its final outcome."""

    server: str
    outcome: Outcome
    delivery: Any
    envelope: Any


@dataclass(frozen=True, kw_only=True)
class LeftInDoubt(Finished):
    """A message has its final outcome, which is unknown."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the dialogue, with secrets and content masked (only with `debug=True`)."""

    connection: int
    server: str
    said: bool
    text: str


Event = Opened | Closed | DialFailed | Learnt | RateStorageFailed | RateStorageBack | Attempted | Finished | Line


class Observer:
    """The base class of observers; it does nothing."""

    def hears(self, kind: type[Event]) -> bool:  # noqa: ARG002 - subclasses use it
        """Return whether events of a kind are wanted at the moment."""
        return True

    def notice(self, event: Event) -> None:
        """Process an event."""

    def tell(self, kind: type[Event], /, **fields: Any) -> None:
        """Build an event and process it, if events of its kind are wanted."""
        if self.hears(kind):
            self.notice(kind(**fields))


class Observers(Observer):
    """Several observers as one; an exception of one affects neither the others nor the sender."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._observers = tuple(observers)

    def add(self, observer: Observer) -> None:
        """Add an observer, unless it is there already."""
        if observer not in self._observers:
            self._observers += (observer,)

    def hears(self, kind: type[Event]) -> bool:
        """Return whether one of them wants events of a kind."""
        for observer in self._observers:  # noqa: SIM110 - not a generator: this runs for each message
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
                # An observer must not affect the outcome of a message.
                records.write(logger, logging.WARNING, "An observer of %s failed", type(event).__name__, exc_info=True)
