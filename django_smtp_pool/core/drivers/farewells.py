"""Close connections with QUIT, many at once, without delaying the threads that send."""

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
    """A connection that is being closed with QUIT."""

    def __init__(self, connection: Any, left: Callable[[], None]) -> None:
        self.connection = connection
        self.left = left
        self.need: Wait | None = None  # None: QUIT was not sent yet, or the connection may be closed
        self._life: Life[None] | None = None

    def begin(self, clock: Clock) -> None:
        """Send QUIT."""
        self._life = self.connection.leave(clock, clock.monotonic() + FAREWELL)
        self.go_on()

    def go_on(self) -> None:
        """Read the reply, if it has arrived."""
        try:
            need = next(self._life) if self._life is not None else None
            self.need = need if isinstance(need, Wait) else None
        except (StopIteration, Failure):
            self.need = None  # the server has replied, or the connection is lost
        except Exception as error:
            self.need = None
            if not is_defect(error):
                raise


class Farewells:
    """Sends QUIT on connections and closes them. One thread at a time waits; any may call `add`, `sever` and `wake`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.after_fork()

    def after_fork(self) -> None:
        """Forget all of them, in a forked child, where the sockets are closed already."""
        self._coming: deque[_Farewell] = deque()
        self._severed: deque[Any] = deque()
        self._turn = threading.Lock()
        self._under_way: list[_Farewell] = []  # guarded by: _turn
        self._wakeup: Wakeup | None = None
        self._is_awake = False

    @property
    def are_due(self) -> bool:
        """Whether there is a connection that is not closed yet."""
        return bool(self._coming or self._under_way)

    def add(self, connection: Any, left: Callable[[], None]) -> None:
        """Close a connection with QUIT, and call `left` when it is closed."""
        self._coming.append(_Farewell(connection, left))
        self.wake()

    def sever(self, connection: Any) -> None:
        """Close a connection now, without waiting for the reply to QUIT."""
        self._severed.append(connection)
        self.wake()

    def wake(self) -> None:
        """End the current wait, or the next one."""
        self._is_awake = True
        wakeup = self._wakeup
        if wakeup is not None:
            wakeup.ring()

    def wait(self, until: float) -> None:
        """Send QUIT and wait for replies, until an instant (monotonic) or `wake`."""
        with self._turn:
            self._take_turn(until)

    def _take_turn(self, until: float) -> None:
        try:
            self._begin()
            self._wait(until)
        except Exception as error:
            if not is_defect(error):
                raise
            # For example, no descriptor is left to wait with. The connections are closed anyway.
            text, number = "%s closed without QUIT", records.counted(len(self._under_way), "connection")
            records.write(logger, logging.WARNING, text, number, exc_info=True)
            self._close(list(self._under_way))

    def finish(self, seconds: float) -> None:
        """Send QUIT on all of them, wait at most `seconds` for the replies, and close them."""
        until = self._clock.monotonic() + seconds
        self.wake()
        held: list[bool] = []
        try:
            # One step: an interrupt cannot come in between.
            held.extend(map(self._turn.acquire, (True,), (max(seconds, 0.1),)))
            if not held[0]:  # for example in a signal handler that interrupted `wait`
                return
            while self.are_due and self._clock.monotonic() < until:
                self._take_turn(until)
            self._begin()
            self._close(list(self._under_way))
        finally:
            if any(held):
                self._turn.release()

    def _begin(self) -> None:
        """Send QUIT on all connections that were added since, and close those that are severed or finished."""
        while self._coming:
            farewell = self._coming.popleft()
            if not any(each.connection is farewell.connection for each in self._under_way):  # once, after an interrupt
                self._under_way.append(farewell)
                farewell.begin(self._clock)
        while self._severed:
            connection = self._severed.popleft()
            self._close([farewell for farewell in self._under_way if farewell.connection is connection])
            connection.close()
        self._close([farewell for farewell in self._under_way if farewell.need is None])

    def _wait(self, until: float) -> None:
        owners: dict[int, _Farewell] = {}
        poller = Poller()
        for farewell in self._under_way:
            if farewell.need is not None:
                until = min(until, farewell.need.until)
                for sock, events in farewell.need.watched:
                    if (descriptor := sock.fileno()) < 0:  # another thread has closed it
                        farewell.need = None
                        break
                    owners[descriptor] = farewell
                    poller.watch(descriptor, events)
        self._close([farewell for farewell in self._under_way if farewell.need is None])
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
            farewell.connection.close()
            self._under_way.remove(farewell)
            farewell.left()
        if self._wakeup is not None and not self.are_due:
            wakeup, self._wakeup = self._wakeup, None
            wakeup.close()
