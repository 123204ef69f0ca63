"""The rate limit: no window of so many seconds, wherever it starts, holds more than so many messages."""

from __future__ import annotations

import threading
from collections import deque


class RateLimit:
    """A sliding window over the messages of one pool in this process, exact with any number of connections.

    Arguments:
        limit: messages in a window.
        window: its length in seconds.
    """

    def __init__(self, limit: int, window: float) -> None:
        self._limit = limit
        self._window = window
        self._lock = threading.Lock()
        self._taken: deque[float] = deque(maxlen=limit)  # guarded by: _lock; instants of the last messages

    def take(self, now: float) -> float:
        """Take a message's place in the window and return 0, or return the seconds until there may be one.

        It is asked with the connection in hand, right before MAIL: a place taken earlier would let messages
        that were held up meanwhile go out together.
        """
        with self._lock:
            if len(self._taken) < self._limit:
                self._taken.append(now)
                return 0.0
            free_at = self._taken[0] + self._window
            if now < free_at:
                return free_at - now
            self._taken.append(now)  # and the oldest falls out
            return 0.0

    def after_fork(self) -> None:
        """Start over in a forked child: another process, another window."""
        self._lock = threading.Lock()
        self._taken.clear()
