"""Drivers: they run dialogues to their end, one or many at once, in the calling thread.

Selectors are looked up when they are needed: gevent replaces them.
"""

from __future__ import annotations

import selectors
from collections.abc import Iterable
from typing import Any, TypeVar

from .clock import Clock
from .errors import Outcome
from .run import Run

T = TypeVar("T")


def one(run: Run[T], clock: Clock) -> T:
    """Run one dialogue to its end and return its result; blocks the calling thread, never past a deadline."""
    try:
        run.start()
        while not run.done:
            with selectors.DefaultSelector() as selector:
                selector.register(run, run.wants)
                clock.wait(selector.select, max(0.0, run.deadline - clock.monotonic()))
            run.advance()
            if not run.done and clock.monotonic() >= run.deadline:
                run.expire()
    except BaseException as interrupt:
        run.abandon()
        if run.left_in_doubt:
            interrupt.outcome = Outcome.UNKNOWN  # type: ignore[attr-defined]
        raise
    return run.result()


def many(runs: Iterable[Run[Any]], clock: Clock) -> None:
    """Run dialogues side by side until each has ended; ask each for its `result` afterwards."""
    waiting = list(runs)
    for run in waiting:
        run.start()
    while waiting := [run for run in waiting if not run.done]:
        with selectors.DefaultSelector() as selector:
            for run in waiting:
                selector.register(run, run.wants, run)
            clock.wait(selector.select, max(0.0, min(run.deadline for run in waiting) - clock.monotonic()))
        for run in waiting:
            run.advance()
            if not run.done and clock.monotonic() >= run.deadline:
                run.expire()
