"""Wait for descriptors: `select.poll` where the system has it, else `select.select`.

Both are looked up when they are needed: gevent replaces them.
"""

from __future__ import annotations

import select
import selectors
from typing import Any


class _Select:
    """`select.select` with the methods of `select.poll`, for Windows."""

    def __init__(self) -> None:
        self._masks: dict[int, int] = {}

    def register(self, descriptor: int, mask: int) -> None:
        """Watch a descriptor, or change what is watched for."""
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
    """Some descriptors, and a wait for any of them."""

    def __init__(self) -> None:
        self._poll: Any = select.poll() if hasattr(select, "poll") else _Select()
        self._told: dict[int, int] = {}

    def watch(self, descriptor: int, events: int) -> None:
        """Watch a descriptor for selectors events. The kernel is told only what changes."""
        if self._told.get(descriptor) != events:
            self._told[descriptor] = events
            self._poll.register(descriptor, _MASKS[events])

    def forget(self, descriptor: int) -> None:
        """Stop watching a descriptor."""
        if self._told.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def wait(self, seconds: float | None) -> list[int]:
        """Return the descriptors that are ready, after so many seconds at most."""
        milliseconds = None if seconds is None else max(0.0, seconds * 1000)
        return [descriptor for descriptor, _ in self._poll.poll(milliseconds)]
