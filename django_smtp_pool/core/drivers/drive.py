"""Drivers: they run dialogues to their end, one or many at once, in the calling thread.

Selectors are looked up when they are needed: gevent replaces them.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections.abc import Iterable
from typing import Any, TypeVar

from ..clock import Clock
from ..errors import Outcome
from ..interrupts import as_failure
from ..net.outlook import HasFileno
from ..net.transport import track, untrack
from ..net.trouble import Trouble, attempt
from .run import Run

T = TypeVar("T")


def one(run: Run[T], clock: Clock) -> T:
    """Run one dialogue to its end and return its result; blocks the calling thread, never past a deadline."""
    try:
        with Watch() as watch:  # first: where no descriptor is left for it, nothing has been said
            run.start()
            while not run.done:
                watch.wait([run], max(0.0, run.outlook.wake_at - clock.monotonic()), clock)
                run.look()
        return run.result()
    except BaseException as interrupt:
        # A task queue's time limit is an Exception, and may come wherever Ctrl-C may.
        if not run.done:
            run.abandon()
        if run.left_in_doubt:
            interrupt.outcome = Outcome.UNKNOWN  # type: ignore[attr-defined]
        raise


def many(runs: Iterable[Run[Any]], clock: Clock) -> None:
    """Run dialogues side by side until each has ended; ask each for its `result` afterwards.

    Raises only an interrupt that one of them met.
    """
    runs = waiting = list(runs)
    for run in waiting:
        run.start()
    with Watch() as watch:
        while waiting := [run for run in waiting if not run.done]:
            patience = max(0.0, min(run.outlook.wake_at for run in waiting) - clock.monotonic())
            watch.wait(waiting, patience, clock)
            for run in waiting:
                run.look()
    for run in runs:
        run.raise_interrupt()


class Watch:
    """Waits for the sockets of dialogues; the kernel is told only what has changed since it was told last."""

    def __init__(self, alarm: socket.socket | None = None) -> None:
        self._selector = _selector()
        self._told: dict[HasFileno, int] = {}
        self._alarm = alarm
        self.has_rung = False  # when we waited last
        if alarm is not None:
            self._selector.register(alarm, selectors.EVENT_READ)

    def wait(self, runs: Iterable[Run[Any]], patience: float, clock: Clock) -> set[Run[Any]]:
        """Wait for a dialogue that can go on, or the alarm, so many seconds at most; return those that can."""
        owners: dict[HasFileno, Run[Any]] = {}
        wanted: dict[HasFileno, int] = {}
        for run in runs:
            for sock, events in run.outlook.watched:
                owners[sock], wanted[sock] = run, events
        if wanted != self._told:
            self._tell(wanted)
        ready = [key.fileobj for key, _ in clock.wait(self._selector.select, patience)]
        self.has_rung = self._alarm in ready
        return {owners[sock] for sock in ready if sock in owners}

    def _tell(self, wanted: dict[HasFileno, int]) -> None:
        # First those that are over: a new socket may have got the descriptor of one that was closed.
        for sock in self._told.keys() - wanted.keys():
            self._selector.unregister(sock)
        for sock, events in wanted.items():
            if sock not in self._told:
                self._selector.register(sock, events)
            elif self._told[sock] != events:
                self._selector.modify(sock, events)
        self._told = wanted

    def close(self) -> None:
        """Stop watching."""
        self._selector.close()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _selector() -> selectors.BaseSelector:
    try:
        return attempt(selectors.DefaultSelector)
    except Trouble as trouble:  # no descriptor is left
        error = as_failure(trouble.error)
    raise error


class Wakeup:
    """Lets other threads wake one that waits for sockets."""

    def __init__(self) -> None:
        self._alarm, self._bell = socket.socketpair()
        for end in (self._alarm, self._bell):
            end.setblocking(False)
            track(end)
        self._watch = Watch(self._alarm)

    def wake(self) -> None:
        """Wake the waiting thread, or keep it from falling asleep; callable from any thread."""
        with contextlib.suppress(Trouble):  # full: it is ringing already; closed: nobody waits any more
            attempt(self._bell.send, b"!")

    def wait(self, runs: Iterable[Run[Any]], patience: float, clock: Clock) -> set[Run[Any]]:
        """Wait for the dialogues or for `wake`, so many seconds at most; return the dialogues that can go on."""
        ready = self._watch.wait(runs, patience, clock)
        if self._watch.has_rung:
            with contextlib.suppress(Trouble):
                attempt(self._alarm.recv, 4096)
        return ready

    def close(self) -> None:
        """Close both ends."""
        self._watch.close()
        for end in (self._alarm, self._bell):
            untrack(end)
            end.close()
