"""The rate limit that all processes keep together, and what happens while they cannot."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import Protocol

from ..clock import Clock
from ..errors import RateStorageUnavailable
from ..events.events import Event, Observer, RateStorageBack, RateStorageFailed
from .limit import RateLimit, Ticket
from .redis import PATIENCE, StorageFailed

FIRST_BREAK = 5.0  # seconds without asking a store that has failed; doubles
LONGEST_BREAK = 30.0


class Window(Protocol):
    """A window that others share."""

    place: str
    left: dict[str, int]  # of each quota, as of the last answer

    def take(self, recipients: int) -> float:
        """Take a place and return 0, or return the seconds until it is our turn; raises StorageFailed."""
        ...

    def after_fork(self) -> None:
        """Start over in a forked child."""
        ...

    def close(self) -> None:
        """Let go of what it holds open."""
        ...


class SharedRateLimit:
    """A window in a store that all processes share; without the store, this process' own, or none goes.

    Arguments:
        alone: the same limit for this process alone.
        server: what the limit is for, as messages name it.
        closed: nothing goes while the store cannot be asked; else this process' own limit holds.
    """

    blocks = True

    def __init__(
        self,
        window: Window,
        *,
        alone: RateLimit,
        clock: Clock,
        observer: Observer,
        server: str,
        closed: bool,
    ) -> None:
        self._window = window
        self._alone = alone
        self._clock = clock
        self._observer = observer
        self._server = server
        self._closed = closed
        self._start_over()

    def _start_over(self) -> None:
        # One asks at a time, and the others learn from the answer: the store knows no threads, only processes.
        self._asking = threading.Lock()
        self._failure: StorageFailed | None = None  # guarded by: _asking; the last one, until the store is back
        self._ask_at = float("-inf")  # guarded by: _asking; instant (monotonic) of the next question
        self._break = FIRST_BREAK  # guarded by: _asking
        self._answered_at = float("-inf")  # guarded by: _asking; instant (monotonic) of the last answer
        self._news: deque[Event] = deque()

    def after_fork(self) -> None:
        """Start over in a forked child."""
        self._start_over()
        self._window.after_fork()
        self._alone.after_fork()

    def close(self) -> None:
        """Let go of what it holds open; it may be asked again all the same."""
        if self._asking.acquire(blocking=False):  # whoever asks just now needs it, and may be long about it
            try:
                self._window.close()
            finally:
                self._asking.release()

    def take(self, ticket: Ticket, now: float) -> float:
        """Take a ticket's place and return 0, or return the seconds after which it is to ask again.

        Raises RateStorageUnavailable where the store cannot be asked, and nothing is to go without it.
        """
        # What this process alone has used up, the store could only confirm.
        return self._alone.look(ticket, now) or self._take(ticket)

    def leave(self, ticket: Ticket) -> None:
        """Give up a ticket's place in this process' line; the store learns of it when the next one asks."""
        self._alone.leave(ticket)

    def left(self, now: float) -> Mapping[str, int]:
        """Return what may still be taken of each quota, as of the store's last answer."""
        left = dict(self._alone.left(now))
        for quota in self._alone.quotas:
            if now - self._answered_at < quota.seconds:
                left[str(quota)] = min(left[str(quota)], self._window.left.get(str(quota), quota.limit))
        return left

    def is_idle(self, now: float) -> bool:
        """Whether nothing would be lost if it were forgotten."""
        return self._alone.is_idle(now)

    def _take(self, ticket: Ticket) -> float:
        failure = self._failure
        # While the store has failed, one finds out whether it is back, and nobody waits for that one.
        if self._asking.acquire(blocking=failure is None):
            try:
                pause = self._ask(ticket)
                failure = self._failure
            finally:
                self._asking.release()
            self._tell()
            if failure is None:
                return pause
        if failure is None:
            raise AssertionError("only a failure keeps anybody from asking")
        return self._go_without(ticket, failure)

    def _ask(self, ticket: Ticket) -> float:
        now = self._clock.monotonic()
        if now < self._ask_at:
            return 0.0 if self._failure else self._wait(ticket, self._ask_at - now)
        if pause := self._alone.look(ticket, now):  # another message has taken the place meanwhile
            return pause
        try:
            pause = self._window.take(ticket.recipients)
        except StorageFailed as failure:
            self._has_failed(failure, ticket)
            return 0.0
        self._has_answered()
        if pause:
            return self._wait(ticket, pause)
        self._alone.note(ticket, self._clock.monotonic())
        return 0.0

    def _wait(self, ticket: Ticket, pause: float) -> float:
        """Put a ticket in line where the store lets nothing go for a while."""
        now = self._clock.monotonic()
        told = self._alone.look(ticket, now, held=pause)
        self._ask_at = max(self._ask_at, now + min(pause, PATIENCE))
        return min(told, PATIENCE)

    def _has_failed(self, failure: StorageFailed, ticket: Ticket) -> None:
        if self._failure is None:
            self._break = FIRST_BREAK
            self._news.append(
                RateStorageFailed(
                    server=self._server, storage=self._window.place, error=failure, nothing_goes=self._closed
                )
            )
        self._failure = failure
        self._ask_at = self._clock.monotonic() + self._break
        self._break = min(LONGEST_BREAK, 2 * self._break)
        ticket.limiter.count("rate_storage_failures")

    def _has_answered(self) -> None:
        self._answered_at = self._clock.monotonic()
        if self._failure is not None:
            self._failure = None
            self._news.append(RateStorageBack(server=self._server, storage=self._window.place))

    def _tell(self) -> None:
        while self._news:
            try:
                event = self._news.popleft()
            except IndexError:  # another thread took the last one
                return
            self._observer.notice(event)

    def _go_without(self, ticket: Ticket, failure: StorageFailed) -> float:
        if self._closed:
            raise RateStorageUnavailable(
                f"the rate limit of {self._server} cannot be kept: {self._window.place} gave no answer ({failure}). "
                "Nothing was sent: see to the store or correct rate_storage, and send again; "
                "on_rate_storage_failure='open' goes on under the limit of each process alone"
            )
        return self._alone.take(ticket, self._clock.monotonic())
