"""Record the last minutes for the page, in memory: messages second by second, and the last failures.

There is no lock, because an observer may run in a signal handler or a finaliser. Under free threading, two threads may
count only one of two messages; `pool.stats()` has the exact counters.
"""

from __future__ import annotations

import os
import platform
import re
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from django.utils import timezone

from ..core.clock import Clock, SystemClock
from ..core.errors import Outcome
from ..core.events.events import Attempted, DialFailed, Event, Finished, LeftInDoubt, Observer
from ..core.replies import printable
from ..remembered import PoolKey
from ..verify.verification import Report

WINDOW = 120  # seconds that the charts show
MOST_FAILURES = 20  # for each pool
MOST_WORDS = 500  # characters for each failure

_HEARD = frozenset({Finished, LeftInDoubt, DialFailed, Attempted})
_ADDRESS = re.compile(r"[^\s<>\"',;:]+@[^\s<>\"',;:]+")
_numbers = count(1)


@dataclass(kw_only=True)
class Second:
    """The messages that got their final outcome within one second.

    Arguments:
        at: instant (monotonic).
        waited, longest: seconds that they waited for a connection: the sum, and the maximum.
    """

    at: int
    accepted: int = 0
    failed: int = 0
    waited: float = 0.0
    longest: float = 0.0

    @property
    def messages(self) -> int:
        """The number of messages."""
        return self.accepted + self.failed

    def add(self, *, accepted: bool, waited: float) -> None:
        """Count a message."""
        if accepted:
            self.accepted += 1
        else:
            self.failed += 1
        self.waited += waited
        self.longest = max(self.longest, waited)


@dataclass(kw_only=True)
class FailureSeen:
    """A failure, and how often it has occurred with the same text."""

    kind: str
    words: str
    first_at: Any
    last_at: Any
    times: int = 1


@dataclass(kw_only=True)
class Verified:
    """The result of a verification, and its time."""

    report: Report
    at: Any


@dataclass(kw_only=True, eq=False)
class History(Observer):
    """The last minutes of one pool."""

    clock: Clock
    number: int = field(default_factory=lambda: next(_numbers))  # identifies the pool in the addresses of the page
    verified: Verified | None = None
    _seconds: deque[Second] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _failures: deque[FailureSeen] = field(default_factory=lambda: deque(maxlen=MOST_FAILURES))

    def hears(self, kind: type[Event]) -> bool:
        """Return whether events of a kind are recorded."""
        return kind in _HEARD

    def notice(self, event: Event) -> None:
        """Record an event."""
        if isinstance(event, Finished):
            self._finished(event)
        elif isinstance(event, DialFailed):
            self._add_failure("no connection", words_of(event.error))
        elif isinstance(event, Attempted):
            self._add_failure("another attempt", words_of(event.error))

    def _finished(self, event: Finished) -> None:
        delivery, accepted = event.delivery, event.outcome is Outcome.ACCEPTED
        self._second().add(accepted=accepted, waited=delivery.waited)
        if not accepted:
            self._add_failure(event.outcome.value.replace("_", " "), words_of(delivery.error))
        elif delivery.receipt.refused:
            self._add_failure("partly refused", _distinct(delivery.receipt.refused.values()))

    def _second(self) -> Second:
        now = int(self.clock.monotonic())
        last = self._seconds[-1] if self._seconds else None
        if last is None or last.at != now:
            last = Second(at=now)
            self._seconds.append(last)
        return last

    def _add_failure(self, kind: str, words: str) -> None:
        now = timezone.now()
        for each in list(self._failures):
            if (each.kind, each.words) == (kind, words):
                each.times, each.last_at = each.times + 1, now
                return
        self._failures.append(FailureSeen(kind=kind, words=words, first_at=now, last_at=now))

    def seconds(self) -> list[Second]:
        """Return the last `WINDOW` seconds, also those without messages; the last one is not over yet."""
        now = int(self.clock.monotonic())
        found = {at: Second(at=at) for at in range(now - WINDOW + 1, now + 1)}
        for each in list(self._seconds):
            if each.at in found:  # two threads may have begun the same second
                total = found[each.at]
                total.accepted += each.accepted
                total.failed += each.failed
                total.waited += each.waited
                total.longest = max(total.longest, each.longest)
        return list(found.values())

    def failures(self) -> Sequence[FailureSeen]:
        """Return the failures, the latest first."""
        return sorted(self._failures, key=lambda each: each.last_at, reverse=True)

    def forget(self) -> None:
        """Start over."""
        self._seconds.clear()
        self._failures.clear()
        self.verified = None


class Recorder:
    """The histories of this process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # The key is the object that the registry keeps as long as the pool is in use.
        self._histories: weakref.WeakKeyDictionary[PoolKey, History] = weakref.WeakKeyDictionary()
        self.start_over()

    def start_over(self) -> None:
        """Start recording in this process; called again in a forked child."""
        self.started_at = timezone.now()
        self.pid, self.host = os.getpid(), platform.node()
        self.process = f"{self.pid}-{round(self._clock.wall() * 1000):x}"  # unique, although process IDs are reused
        for history in list(self._histories.values()):
            history.forget()

    def watch(self, key: PoolKey) -> History:
        """Return the history of a pool, which is its observer."""
        history = self._histories.get(key)
        if history is None:
            history = self._histories[key] = History(clock=self._clock)
        return history


def words_of(error: BaseException | None) -> str:
    """Return the server's reply; if there is none, the text of the error, with addresses masked."""
    refused, reply = getattr(error, "refused", None), getattr(error, "reply", None)
    if refused:
        return _distinct(refused.values())
    if reply is not None:
        return str(reply)[:MOST_WORDS]
    # Cut before, because the search is slow in a long text, and after, so that no address is cut in two and not masked.
    words = _ADDRESS.sub("***@***", (str(error) or type(error).__name__)[: 2 * MOST_WORDS])
    return printable(words)[:MOST_WORDS]


def _distinct(replies: Any) -> str:
    return "; ".join(dict.fromkeys(map(str, replies)))[:MOST_WORDS]


recorder = Recorder(SystemClock())
