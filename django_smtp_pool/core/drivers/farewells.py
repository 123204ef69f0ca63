"""Goodbyes: QUIT on many connections at once, off the path of those who send."""

from __future__ import annotations

import logging
import selectors
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from ..clock import Clock
from ..errors import Failure
from ..events import records
from ..interrupts import is_defect
from ..needs import Life, Wait
from .polling import Poller
from .side_by_side import Wakeup

logger = logging.getLogger("django_smtp_pool.pool")

FAREWELL = 2.0  # seconds for the server to answer QUIT


class _Farewell:
    """A connection that leaves."""

    def __init__(self, connection: Any, left: Callable[[], None]) -> None:
        self.connection = connection
        self.left = left
        self.need: Wait | None = None  # None: it has not begun, or it is over
        self._life: Life[None] | None = None

    def begin(self, clock: Clock) -> None:
        """Say QUIT."""
        self._life = self.connection.leave(clock, clock.monotonic() + FAREWELL)
        self.go_on()

    def go_on(self) -> None:
        """Look for the answer."""
        try:
            need = next(self._life) if self._life is not None else None
            self.need = need if isinstance(need, Wait) else None
        except (StopIteration, Failure):
            self.need = None  # it has gone, one way or the other
        except Exception as error:
            self.need = None
            if not is_defect(error):
                raise


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
            wakeup.ring()

    def wait(self, until: float) -> None:
        """Say QUIT and wait for answers, until an instant (monotonic), or `wake`."""
        with self._turn:
            self._take_turn(until)

    def _take_turn(self, until: float) -> None:
        try:
            self._begin()
            self._wait(until)
        except Exception as error:
            if not is_defect(error):
                raise
            # No descriptor is left to wait with, say. They are closed all the same.
            text, number = "%s closed without QUIT", records.counted(len(self._under_way), "connection")
            records.write(logger, logging.WARNING, text, number, exc_info=True)
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
            farewell.begin(self._clock)
        while self._severed:
            connection = self._severed.popleft()
            self._close([farewell for farewell in self._under_way if farewell.connection is connection])
        self._close([farewell for farewell in self._under_way if farewell.need is None])

    def _wait(self, until: float) -> None:
        owners: dict[int, _Farewell] = {}
        poller = Poller()
        for farewell in self._under_way:
            if farewell.need is not None:
                until = min(until, farewell.need.until)
                for sock, events in farewell.need.watched:
                    owners[sock.fileno()] = farewell
                    poller.watch(sock.fileno(), events)
        if not owners:
            return
        if self._wakeup is None:
            self._wakeup = Wakeup()
        poller.watch(self._wakeup.fileno(), selectors.EVENT_READ)
        patience = 0.0 if self._is_awake else max(0.0, until - self._clock.monotonic())
        ready = self._clock.wait(poller.wait, patience)
        self._wakeup.silence()
        self._is_awake = False
        now = self._clock.monotonic()
        for descriptor, farewell in owners.items():
            if descriptor in ready or (farewell.need is not None and now >= farewell.need.until):
                farewell.go_on()
        self._close([farewell for farewell in self._under_way if farewell.need is None])

    def _close(self, farewells: list[_Farewell]) -> None:
        for farewell in farewells:
            self._under_way.remove(farewell)
            farewell.connection.close()
            farewell.left()
        if self._wakeup is not None and not self.are_due:
            wakeup, self._wakeup = self._wakeup, None
            wakeup.close()
