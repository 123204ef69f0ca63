"""Goodbyes: QUIT on many connections at once, off the path of those who send."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..clock import Clock
from ..events import records
from ..interrupts import is_interrupt
from .drive import Wakeup
from .run import Run

logger = logging.getLogger("django_smtp_pool.pool")

FAREWELL = 2.0  # seconds for the server to answer QUIT


@dataclass(eq=False)
class _Farewell:
    connection: Any
    left: Callable[[], None]
    run: Run[None] | None = None


class Farewells:
    """Says QUIT on connections and closes them. One thread at a time waits; `add`, `sever` and `wake` are for any."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.after_fork()

    def after_fork(self) -> None:
        """Forget all of them; in a forked child, where the sockets are closed already."""
        self._coming: deque[_Farewell] = deque()
        self._severed: deque[Any] = deque()
        self._turn = threading.Lock()
        self._under_way: list[_Farewell] = []  # guarded by: _turn
        self._wakeup: Wakeup | None = None
        self._is_awake = False

    @property
    def are_due(self) -> bool:
        """Whether a connection has not left yet."""
        return bool(self._coming or self._under_way)

    def add(self, connection: Any, left: Callable[[], None]) -> None:
        """Let a connection say QUIT, and call `left` when the server has let go."""
        self._coming.append(_Farewell(connection, left))

    def sever(self, connection: Any) -> None:
        """Spend no more time on a connection."""
        self._severed.append(connection)

    def wake(self) -> None:
        """End the wait, or the next one."""
        self._is_awake = True
        wakeup = self._wakeup
        if wakeup is not None:
            wakeup.wake()

    def wait(self, until: float) -> None:
        """Say QUIT and wait for answers, until an instant (monotonic), or `wake`."""
        with self._turn:
            self._take_turn(until)

    def _take_turn(self, until: float) -> None:
        try:
            self._begin()
            self._wait(until)
        except Exception as error:
            if is_interrupt(error):
                raise
            # No descriptor is left to wait with, say. They are closed all the same.
            text = "%d connections were closed without QUIT"
            records.write(logger, logging.WARNING, text, len(self._under_way), exc_info=True)
            self._close(list(self._under_way))

    def finish(self, seconds: float) -> None:
        """Say QUIT on all of them, wait so many seconds for the answers, and close them."""
        until = self._clock.monotonic() + seconds
        self.wake()
        if not self._turn.acquire(timeout=max(seconds, 0.1)):  # a signal handler, say, in the middle of this
            return
        try:
            while self.are_due and self._clock.monotonic() < until:
                self._take_turn(until)
            self._begin()
            self._close(list(self._under_way))
        finally:
            self._turn.release()

    def _begin(self) -> None:
        """Say QUIT to those that have just come; as many at once as there are."""
        while self._coming:
            farewell = self._coming.popleft()
            self._under_way.append(farewell)
            try:
                farewell.run = farewell.connection.leaving(FAREWELL)
                farewell.run.start()
            except Exception:  # noqa: BLE001 - it has gone, then
                farewell.run = None
        while self._severed:
            connection = self._severed.popleft()
            self._close([farewell for farewell in self._under_way if farewell.connection is connection])
        self._close([farewell for farewell in self._under_way if farewell.run is None or farewell.run.done])

    def _wait(self, until: float) -> None:
        runs = [farewell.run for farewell in self._under_way if farewell.run is not None]
        if not runs:
            return
        if self._wakeup is None:
            self._wakeup = Wakeup()
        now = self._clock.monotonic()
        patience = 0.0 if self._is_awake else max(0.0, min(until, *(run.outlook.wake_at for run in runs)) - now)
        ready = self._wakeup.wait(runs, patience, self._clock)
        self._is_awake = False
        now = self._clock.monotonic()
        for run in runs:
            if run in ready or now >= run.outlook.wake_at:
                run.look()
        self._close([farewell for farewell in self._under_way if farewell.run is None or farewell.run.done])

    def _close(self, farewells: list[_Farewell]) -> None:
        for farewell in farewells:
            self._under_way.remove(farewell)
            farewell.connection.close()
            farewell.left()
        if self._wakeup is not None and not self.are_due:
            wakeup, self._wakeup = self._wakeup, None
            wakeup.close()
