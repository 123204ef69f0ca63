"""The rate limit: no window of so many seconds, wherever it starts, holds more than so many messages."""

from __future__ import annotations

import threading
from collections import deque
from typing import Protocol


class Limiter(Protocol):
    """What the life of a message asks before each attempt; `blocks` where the answer comes from another machine."""

    blocks: bool

    def take(self, now: float) -> float:
        """Take a message's place and return 0, or return the seconds until there may be one.

        It is asked with the connection in hand, right before MAIL: a place taken earlier would let messages
        that were held up meanwhile go out together.

        Arguments:
            now: instant (monotonic).

        May raise RateStorageUnavailable: then nothing goes.
        """
        ...

    def after_fork(self) -> None:
        """Start over in a forked child."""
        ...

    def close(self) -> None:
        """Let go of what it holds open; it may be asked again all the same."""
        ...


class RateLimit:
    """A sliding window over the messages of one pool in this process, exact with any number of connections.

    Arguments:
        limit: messages in a window.
        window: its length in seconds.
    """

    blocks = False

    def __init__(self, limit: int, window: float) -> None:
        self._limit = limit
        self._window = window
        self._lock = threading.Lock()
        self._taken: deque[float] = deque(maxlen=limit)  # guarded by: _lock; instants of the last messages

    def take(self, now: float) -> float:
        """Take a message's place in the window and return 0, or return the seconds until there may be one."""
        with self._lock:
            pause = self._pause(now)
            if not pause:
                self._taken.append(now)  # where the window is full, the oldest falls out
            return pause

    def look(self, now: float) -> float:
        """Return the seconds until there may be a place, 0 where there is one, and take none."""
        with self._lock:
            return self._pause(now)

    def note(self, now: float) -> None:
        """Take a place that somebody else has decided about."""
        with self._lock:
            self._taken.append(now)

    def _pause(self, now: float) -> float:
        return max(0.0, self._taken[0] + self._window - now) if len(self._taken) == self._limit else 0.0

    def after_fork(self) -> None:
        """Start over in a forked child: another process, another window."""
        self._lock = threading.Lock()
        self._taken.clear()

    def close(self) -> None:
        """Do nothing: nothing is open."""
