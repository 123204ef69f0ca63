"""Pass events to a metrics library, without letting its locks block a message or a forked child.

Such libraries protect each value with a plain lock. A signal handler or a finaliser that sends mail may have
interrupted its own thread inside such a lock, and a forked child may inherit one that is never released. So an event is
put into a queue, and the thread that gets the lock of this module without waiting passes on what is in the queue. So
only one thread at a time uses the library, and `os.fork()` waits until none does.
"""

from __future__ import annotations

import os
import threading
import weakref
from abc import abstractmethod
from collections import deque
from typing import Any

from ..core.events.events import Event, Observer
from .figures import KINDS, Measurement, measured, zeros

AT_ONCE = 50  # events that one message passes on at most
BACKLOG = 10_000  # events; if the library is slower than the mail, the oldest are dropped
LONGEST_HOLD = 0.1  # seconds for which a fork waits for the library


class Intake(Observer):
    """An observer that passes events to a library, one at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._queue: deque[Any] = deque(maxlen=BACKLOG)
        self._servers: set[str] = set()
        _intakes.add(self)

    def hears(self, kind: type[Event]) -> bool:
        """Return whether events of a kind are measured."""
        return kind in KINDS

    def notice(self, event: Event) -> None:
        """Record an event, now or as soon as the library is free."""
        self._queue.append(self._seen(event))
        if len(self._queue) == BACKLOG:  # an interrupt may have occurred just before the lock was released
            self.lock = threading.Lock()
        self.pass_on()

    def pass_on(self) -> None:
        """Pass on what is in the queue, unless another thread does, which then passes on these events too."""
        passed_on, lock = 0, self.lock
        while self._queue and passed_on < AT_ONCE and lock.acquire(blocking=False):
            try:
                while self._queue and passed_on < AT_ONCE:
                    passed_on += 1
                    self._take(self._queue.popleft())
            finally:
                lock.release()

    def measured(self, event: Event) -> list[Measurement]:
        """Return what an event adds; for the first event of a server, also the zeros of its counters."""
        if event.server in self._servers:
            return measured(event)
        self._servers.add(event.server)
        return [*zeros(event.server), *measured(event)]

    @abstractmethod
    def _seen(self, event: Event) -> Any:
        """Return the data to record. The event may still change, and another thread may pass this on later."""

    @abstractmethod
    def _take(self, seen: Any) -> None:
        """Pass the data to the library; called in one thread at a time."""

    def start_over(self) -> None:
        """Forget the events that the parent passes on, in a forked child."""
        self.lock = threading.Lock()
        self._queue.clear()


_intakes: weakref.WeakSet[Intake] = weakref.WeakSet()
_held: dict[int, list[tuple[Intake, threading.Lock]]] = {}  # by the thread that forks


def _hold() -> None:
    held = _held[threading.get_ident()] = []
    locks = [(intake, intake.lock) for intake in list(_intakes)]
    held.extend((intake, lock) for intake, lock in locks if lock.acquire(timeout=LONGEST_HOLD))


def _let_go() -> None:
    for intake, lock in _held.pop(threading.get_ident(), ()):
        lock.release()
        intake.pass_on()


def _start_over() -> None:
    _held.clear()
    for intake in list(_intakes):
        intake.start_over()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_start_over)
