"""Time as an argument: nobody else in the package imports `time`, so tests own it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")

LONGEST_WAIT = 86400.0  # seconds at a time


class Clock(Protocol):
    """What the pool needs to know of time."""

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        ...

    def wall(self) -> float:
        """Return seconds since the epoch, as the system's clock says; may jump."""
        ...

    def wait(self, block: Callable[[float | None], T], timeout: float | None) -> T:
        """Call `block(timeout)`, which waits for at most that many seconds, and return its answer."""
        ...


class SystemClock:
    """The real time."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)

    def wait(self, block: Callable[[float | None], T], timeout: float | None) -> T:
        """Block for real; those who wait for longer than a day look in between (epoll can wait for 24 days)."""
        return block(timeout if timeout is None else min(timeout, LONGEST_WAIT))
