"""A rate limit that all processes share, and what happens while its storage does not answer."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import Protocol

from ..clock import Clock
from ..errors import RateStorageUnavailable
from ..events.events import Event, Observer, RateStorageBack, RateStorageFailed
from .limit import RateLimit, Ticket, reentered
from .redis import PATIENCE, StorageFailed

FIRST_BREAK = 5.0  # seconds without asking a storage that has failed; doubles
LONGEST_BREAK = 30.0


class Window(Protocol):
    """A window that several processes share."""

    place: str
    left: dict[str, int]  # for each quota, what may still be used, as of the last answer

    def take(self, recipients: int) -> float:
        """Use a message's units and return 0, or return the seconds until it may go; raises StorageFailed."""
        ...

    def after_fork(self) -> None:
        """Start over in a forked child."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...


class SharedRateLimit:
    """A window in a storage that all processes share.

    Arguments:
        alone: the same limit for this process alone.
        server: the name of the server in errors and events.
        closed: if True, no message is sent while the storage does not answer; otherwise `alone` applies then.
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
        # One thread asks at a time, and the others use its answer: the storage knows only processes, not threads.
        self._asking = threading.Lock()
        self._askers: set[int] = set()  # threads that hold it, or are about to
        self._failure: StorageFailed | None = None  # guarded by: _asking; the last one, until the storage is back
        self._ask_at = float("-inf")  # guarded by: _asking; instant (monotonic) before which the storage is not asked
        self._break = FIRST_BREAK  # guarded by: _asking
        self._answered_at = float("-inf")  # guarded by: _asking; instant (monotonic) of the last answer
        self._news: deque[Event] = deque()

    def after_fork(self) -> None:
        """Start over in a forked child."""
        self._start_over()
        self._window.after_fork()
        self._alone.after_fork()

    def close(self) -> None:
        """Close what is open; the limit may still be used afterwards."""
        held: list[bool] = []
        try:
            held.extend(map(self._asking.acquire, (False,)))  # one step: an interrupt cannot come in between
            if held[0]:  # otherwise a thread uses the connection now, perhaps for long
                self._window.close()
        finally:
            if any(held):
                self._asking.release()

    def take(self, ticket: Ticket, now: float) -> float:
        """Use a message's units and return 0, or return the seconds after which its ticket should ask again.

        Raises RateStorageUnavailable if the storage does not answer and `closed` is set.
        """
        # If this process alone has used the limit up, the storage need not be asked.
        return self._alone.look(ticket, now) or self._take(ticket)

    def leave(self, ticket: Ticket) -> None:
        """Give up a ticket's position in the line of this process; the storage is updated by the next ticket."""
        self._alone.leave(ticket)

    def left(self, now: float) -> Mapping[str, int]:
        """Return how much of each quota may still be used, as of the last answer of the storage."""
        left = dict(self._alone.left(now))
        for quota in self._alone.quotas:
            if now - self._answered_at < quota.seconds:
                left[str(quota)] = min(left[str(quota)], self._window.left.get(str(quota), quota.limit))
        return left

    def is_idle(self, now: float) -> bool:
        """Return whether no state would be lost if this limit were discarded."""
        return self._alone.is_idle(now)

    def _take(self, ticket: Ticket) -> float:
        failure, pause = self._failure, 0.0
        me = threading.get_ident()
        if me in self._askers:
            raise reentered()
        held: list[bool] = []
        try:
            self._askers.add(me)
            # After a failure, one thread finds out whether the storage is back, and the others do not wait for it.
            held.extend(map(self._asking.acquire, (failure is None,)))  # one step, as in `close`
            if held[0]:
                pause = self._ask(ticket)
                failure = self._failure
        finally:
            self._askers.discard(me)
            if any(held):
                self._asking.release()
        if any(held):
            self._tell()
        return pause if failure is None else self._go_without(ticket, failure)

    def _ask(self, ticket: Ticket) -> float:
        now = self._clock.monotonic()
        if now < self._ask_at:
            return 0.0 if self._failure else self._wait(ticket, self._ask_at - now)
        if pause := self._alone.look(ticket, now):  # another message has used the quota meanwhile
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
        """Put a ticket in line, because the storage allows no message for a while."""
        now = self._clock.monotonic()
        again_after = self._alone.look(ticket, now, held=pause)
        self._ask_at = max(self._ask_at, now + min(pause, PATIENCE))
        return min(again_after, PATIENCE)

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
                f"the rate limit of {self._server} cannot be checked: {self._window.place} did not answer ({failure}). "
                "Nothing was sent: repair the storage or correct rate_storage, and send again; with "
                "on_rate_storage_failure='open', each process goes on with the limit for itself"
            )
        return self._alone.take(ticket, self._clock.monotonic())
