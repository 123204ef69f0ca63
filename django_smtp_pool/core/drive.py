"""Drivers: they run dialogues to their end, one or many at once, in the calling thread.

Selectors are looked up when they are needed: gevent replaces them.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections.abc import Iterable
from typing import Any, TypeVar

from .clock import Clock
from .errors import Outcome
from .run import Run
from .transport import track, untrack

T = TypeVar("T")


def one(run: Run[T], clock: Clock) -> T:
    """Run one dialogue to its end and return its result; blocks the calling thread, never past a deadline."""
    try:
        run.start()
        while not run.done:
            wait_for_any([run], max(0.0, run.deadline - clock.monotonic()), clock)
            run.look()
        return run.result()
    except Exception:
        if not run.done:
            run.abandon()
        raise
    except BaseException as interrupt:
        run.abandon()
        if run.left_in_doubt:
            interrupt.outcome = Outcome.UNKNOWN  # type: ignore[attr-defined]
        raise


def many(runs: Iterable[Run[Any]], clock: Clock) -> None:
    """Run dialogues side by side until each has ended; ask each for its `result` afterwards."""
    waiting = list(runs)
    for run in waiting:
        run.start()
    while waiting := [run for run in waiting if not run.done]:
        patience = max(0.0, min(run.deadline for run in waiting) - clock.monotonic())
        wait_for_any(waiting, patience, clock)
        for run in waiting:
            run.look()


def wait_for_any(runs: Iterable[Run[Any]], patience: float, clock: Clock, alarm: socket.socket | None = None) -> None:
    """Wait until one of the dialogues can go on, or the alarm is readable, so many seconds at most."""
    with selectors.DefaultSelector() as selector:
        for run in runs:
            selector.register(run, run.wants)
        if alarm is not None:
            selector.register(alarm, selectors.EVENT_READ)
        clock.wait(selector.select, patience)


class Wakeup:
    """Lets other threads wake one that waits for sockets."""

    def __init__(self) -> None:
        self._alarm, self._bell = socket.socketpair()
        for end in (self._alarm, self._bell):
            end.setblocking(False)
            track(end)

    def wake(self) -> None:
        """Wake the waiting thread, or keep it from falling asleep; callable from any thread."""
        with contextlib.suppress(OSError):  # full: it is ringing already; closed: nobody waits any more
            self._bell.send(b"!")

    def select(self, runs: Iterable[Run[Any]], patience: float, clock: Clock) -> None:
        """Wait for the dialogues or for `wake`, so many seconds at most."""
        wait_for_any(runs, patience, clock, self._alarm)
        with contextlib.suppress(BlockingIOError):
            self._alarm.recv(4096)

    def close(self) -> None:
        """Close both ends."""
        for end in (self._alarm, self._bell):
            untrack(end)
            end.close()
