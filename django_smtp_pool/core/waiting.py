"""Waiting in line for a connection."""

from __future__ import annotations

import threading

from .clock import Clock
from .policy import Slot


class ThreadWaiter:
    """A thread that waits for a slot."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._served = threading.Event()
        self._slot: Slot | None = None  # guarded by: _lock
        self._error: Exception | None = None  # guarded by: _lock
        self._gone = False  # guarded by: _lock

    def grant(self, slot: Slot) -> bool:
        """Take the slot, unless the thread has gone: a grant that races with a time-out loses no slot."""
        with self._lock:
            if self._gone:
                return False
            self._slot = slot
        self._served.set()
        return True

    def refuse(self, error: Exception) -> None:
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
