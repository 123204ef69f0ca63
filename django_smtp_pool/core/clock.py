"""Time as an argument: no other module imports `time`, so tests can control the clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from .interrupts import ignoring

T = TypeVar("T")

LONGEST_WAIT = 86400.0  # seconds at a time


class Clock(Protocol):
    """The interface of a clock."""

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        ...

    def wall(self) -> float:
        """Return seconds since the epoch, by the system's clock, which may jump."""
        ...

    def wait(self, block: Callable[[float | None], T], timeout: float | None) -> T:
        """Call `block(timeout)`, which waits for at most that many seconds, and return its result."""
        ...


class SystemClock:
    """The system's clock."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)

    def wait(self, block: Callable[[float | None], T], timeout: float | None) -> T:
        """Wait for at most a day; then the caller checks again, since epoll cannot wait for more than 24 days."""
        return block(timeout if timeout is None else min(timeout, LONGEST_WAIT))


class Alarm:
    """Wakes one thread: a lock that is held until `wake` releases it, so `wake` may be called under any other lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wake(self) -> None:
        """Wake the thread, or make its next wait return at once."""
        with ignoring(RuntimeError):  # it was woken already
            self._lock.release()

    def wait(self, clock: Clock, seconds: float) -> bool:
        """Wait until `wake` is called, for at most `seconds`; return whether it was."""
        return clock.wait(lambda left: self._lock.acquire(timeout=-1 if left is None else left), max(0.0, seconds))
