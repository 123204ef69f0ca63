"""Time as an argument: no other module imports `time`, so tests can control the clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

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
