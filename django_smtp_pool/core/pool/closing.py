"""Close a pool: messages under way may finish, waiters get an error, and no thread waits for itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from ..clock import Alarm
from ..errors import PoolClosed
from .shared_state import SharedState
from .waiters import Waiter


def closed() -> PoolClosed:
    """Return the error for what a closed pool no longer does."""
    return PoolClosed("the pool was closed")


class Closing(SharedState):
    """The part of a pool that knows its users, and closes it."""

    def _start_over(self) -> None:
        super()._start_over()
        self._users: dict[object, int | None] = {}  # sends and batches under way, and their threads
        self._naps: set[Waiter] = set()  # the waiters of lives that wait for time to pass
        self._closes_at: float | None = None  # instant (monotonic) until which the users may go on

    def begin(self, use: object, *, thread: int | None) -> bool:
        """Record that a send or a batch begins in a thread; `close` lets it finish.

        Return False if the pool is closed already; then the caller needs another pool.
        """
        self._users[use] = thread
        if self.is_closed:
            self.end(use)
            return False
        return True

    def end(self, use: object) -> None:
        """Record that a send or a batch has ended."""
        thread = self._users.pop(use, None)
        if self._state.spared and thread not in tuple(self._users.values()):
            self._state.spared.discard(thread)
        if self._closes_at is not None:
            self._wake_all()

    @property
    def is_in_use(self) -> bool:
        """Whether the pool has a connection, a waiter or a user."""
        return bool(self._state.own or self._state.waiting or self._users)

    def announce_close(self, timeout: float) -> None:
        """Announce that `close` follows; sends and batches under way may continue for so many seconds."""
        self._closes_at = self._clock.monotonic() + timeout

    def close(self, timeout: float = 10.0) -> None:
        """Close the pool: let messages and batches finish, also those that wait for a connection; send QUIT.

        Arguments:
            timeout: seconds to wait for them. After that, waiting messages are refused, and deliveries under way may
                still finish. Messages of the calling thread are not waited for.
        """
        if self._is_inside:
            self._late.append(partial(self.close, timeout))
            return
        self.announce_close(timeout)
        try:
            self._wait_while(self._others_use_it, timeout)
        finally:
            self.shut()
            self._tell_if_free()

    def shut(self) -> None:
        """Close the pool at once, without notifying observers yet."""
        self._change(self._shut)

    def _shut(self) -> None:
        own = threading.get_ident()
        if own in self._users.values():  # called from inside a send, which goes on after this
            self._state.spared.add(own)
        self._state.closed = True
        for waiter in tuple(self._naps):
            self._late.append(partial(waiter.refuse, closed()))

    @property
    def is_closed(self) -> bool:
        """Whether the pool is closed; the next message needs a fresh pool."""
        return self._state.closed

    def _others_use_it(self) -> bool:
        own = threading.get_ident()
        with self._lock:
            threads = [slot.thread for slot in self._state.everything_out()]
            threads += [waiter.blocks or waiter.holder for waiter in self._state.waiting]
        return any(thread != own for thread in (*threads, *tuple(self._users.values())))

    def wait_until_closed(self) -> bool:
        """Wait if the pool is about to be closed; return whether it is closed now.

        A thread that uses the pool itself does not wait: it may go on as long as the pool is open. To ask counts as
        use: the message is perhaps not rendered yet.
        """
        self._state.used_at = self._clock.monotonic()
        if self.is_about_to_close and not self._is_inside:
            self._wait_while(lambda: not self.is_closed, (self._closes_at or 0.0) - self._clock.monotonic())
        return self.is_closed

    @property
    def is_about_to_close(self) -> bool:
        """Whether the pool will be closed soon, and this thread does not use it."""
        if self._closes_at is None or self.is_closed:
            return False
        return threading.get_ident() not in tuple(self._users.values())

    def wait_for_farewells(self, seconds: float) -> None:
        """Wait until the server has answered every QUIT, at most for so many seconds.

        Code that has interrupted the pool's own code does not wait, since no answer could be recorded meanwhile.
        """
        if not self._is_inside:
            self._wait_while(lambda: any(each._state.leaving for each in tuple(self._generations)), seconds)

    def naps(self, waiter: Waiter) -> None:
        """Refuse a waiter, with PoolClosed, as soon as the pool is closed; until `wakes`."""
        self._naps.add(waiter)
        if self.is_closed:
            waiter.refuse(closed())

    def wakes(self, waiter: Waiter) -> None:
        """Forget a waiter that no longer waits for time to pass."""
        self._naps.discard(waiter)

    def _wait_while(self, condition: Callable[[], bool], seconds: float) -> None:
        until = self._clock.monotonic() + seconds
        alarm = Alarm()
        self._alarms.add(alarm)
        try:
            while (left := until - self._clock.monotonic()) > 0 and condition():
                alarm.wait(self._clock, left)
        finally:
            self._alarms.discard(alarm)
