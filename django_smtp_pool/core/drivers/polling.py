"""Wait for descriptors with `select.poll`, or with `select.select` if the system has no poll.

Both are looked up at each use, because gevent replaces them.
"""

from __future__ import annotations

import select
import selectors
from typing import Any

from ..needs import Watched


class _Select:
    """`select.select` with the methods of `select.poll`, for Windows."""

    def __init__(self) -> None:
        self._masks: dict[int, int] = {}

    def register(self, descriptor: int, mask: int) -> None:
        """Watch a descriptor, or change the events to watch for."""
        self._masks[descriptor] = mask

    def unregister(self, descriptor: int) -> None:
        """Stop watching."""
        del self._masks[descriptor]

    def poll(self, milliseconds: float) -> list[tuple[int, int]]:
        """Wait, and return what is ready."""
        readers = [each for each, mask in self._masks.items() if mask & READ]
        writers = [each for each, mask in self._masks.items() if mask & WRITE]
        readable, writable, failed = select.select(readers, writers, writers, milliseconds / 1000)
        return [(each, READ) for each in {*readable, *writable, *failed}]


READ = getattr(select, "POLLIN", selectors.EVENT_READ)
WRITE = getattr(select, "POLLOUT", selectors.EVENT_WRITE)
_MASKS = {
    selectors.EVENT_READ: READ,
    selectors.EVENT_WRITE: WRITE,
    selectors.EVENT_READ | selectors.EVENT_WRITE: READ | WRITE,
}


class Poller:
    """Waits for any of several descriptors; `watched` are those that are never forgotten."""

    def __init__(self, watched: Watched = ()) -> None:
        self._poll: Any = select.poll() if hasattr(select, "poll") else _Select()
        self._registered: dict[int, int] = {}
        for sock, events in watched:
            self._poll.register(sock.fileno(), _MASKS[events])

    def watch(self, descriptor: int, events: int) -> None:
        """Watch a descriptor for selectors events; only changes are registered."""
        if self._registered.get(descriptor) != events:
            self._registered[descriptor] = events
            self._poll.register(descriptor, _MASKS[events])

    def forget(self, descriptor: int) -> None:
        """Stop watching a descriptor."""
        if self._registered.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def wait(self, seconds: float | None) -> list[int]:
        """Return the descriptors that are ready, after at most `seconds`."""
        milliseconds = None if seconds is None else max(0.0, seconds * 1000)
        return [descriptor for descriptor, _ in self._poll.poll(milliseconds)]
