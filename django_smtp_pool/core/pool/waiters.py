"""Waiting in line for a connection."""

from __future__ import annotations

import threading

from ..clock import Clock
from ..errors import PoolClosed, PoolFull, PoolTimeout
from .policy import State
from .slots import Slot
from .stats import gauges


class ThreadWaiter:
    """A thread that waits for a slot."""

    def __init__(self, *, fresh: bool = False) -> None:
        self.fresh = fresh
        self.blocks: int | None = threading.get_ident()
        self.holder: int | None = None
        self._lock = threading.Lock()
        self._served = threading.Event()
        self._slot: Slot | None = None  # guarded by: _lock
        self._error: BaseException | None = None  # guarded by: _lock
        self._gone = False  # guarded by: _lock

    def grant(self, slot: Slot) -> bool:
        """Take the slot, unless the thread has gone: a grant that races with a time-out loses no slot."""
        with self._lock:
            if self._gone:
                return False
            self._slot = slot
        self._served.set()
        return True

    def refuse(self, error: BaseException) -> None:
        """Wake the thread with an error."""
        with self._lock:
            self._error = error
        self._served.set()

    def wait(self, clock: Clock, deadline: float) -> None:
        """Wait until served, or until the deadline (monotonic)."""
        if not self._served.is_set():
            clock.wait(self._served.wait, max(0.0, deadline - clock.monotonic()))

    def leave(self) -> Slot | None:
        """Go, and return the slot that came in time, once; raise where the pool refused."""
        with self._lock:
            self._gone = True
            if self._error is not None:
                raise self._error
            slot, self._slot = self._slot, None
            return slot

    def withdraw(self) -> Slot | None:
        """Go because of an interrupt, and return the slot that came all the same."""
        try:
            return self.leave()
        except (PoolClosed, PoolTimeout):
            return None


def turned_away(name: str, state: State, limit: int) -> PoolFull:
    """Return the error of one for whom the line is too long."""
    return PoolFull(
        f"no connection to {name} is free and {limit} others wait already ({gauges(state)}): "
        "raise max_connections or max_waiting, or send less at once"
    )


def timed_out(name: str, state: State, waited: float, cause: BaseException | None) -> PoolTimeout:
    """Return the error of one who waited in vain: it answers whether the pool is too small or the server down."""
    advice = (
        f"the last attempt to connect failed: {cause}"
        if cause is not None
        else "raise max_connections if the server allows more, or find out why it is slow"
    )
    error = PoolTimeout(
        f"no connection to {name} became free within {waited:.1f} s "
        f"({gauges(state)}, {len(state.waiting)} others waiting): {advice}"
    )
    error.__cause__ = cause
    return error
