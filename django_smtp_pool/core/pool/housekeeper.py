"""One daemon thread for all pools: closes what is idle or old, and says QUIT. It never dials.

It is started when there is something to look after and ends when there is nothing left.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import Any, Protocol

from ..clock import Clock
from ..drivers import side_by_side
from ..errors import Failure
from ..events.records import counted, write
from ..needs import Life
from .contracts import PooledConnection, Tidiable

logger = logging.getLogger("django_smtp_pool.pool")

FAREWELL = 2.0  # seconds for the server to answer QUIT


class Leaver(PooledConnection, Protocol):
    """A connection that can say QUIT."""

    def leave(self, clock: Clock, deadline: float) -> Life[None]:
        """Say QUIT, and wait for the answer until an instant."""
        ...


class Housekeeper:
    """Looks after pools and sees connections off."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._start_over()

    def _start_over(self) -> None:
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._due: dict[Tidiable, float] = {}  # guarded by: _lock
        self._leavers: list[Leaver] = []  # guarded by: _lock
        self._thread: threading.Thread | None = None  # guarded by: _lock
        self._next_look = float("inf")  # guarded by: _lock
        self._paused = False  # guarded by: _lock

    # -- what pools ask for ----------------------------------------------------------------------------

    def watch(self, pool: Tidiable, due: float | None) -> None:
        """Call `pool.tidy()` at the instant `due`, and again as it says."""
        if due is None:
            return
        with self._lock:
            self._due[pool] = due
            if due < self._next_look:
                self._next_look = due
                self._wake.set()
            self._start_if_needed()

    def see_off(self, connection: Any) -> None:
        """Say QUIT and close, without making the caller wait."""
        with self._lock:
            self._leavers.append(connection)
            self._wake.set()
            self._start_if_needed()

    def _start_if_needed(self) -> None:
        if self._paused or (self._thread is not None and self._thread.is_alive()):
            return
        thread = threading.Thread(target=self._run, name="django-smtp-pool-housekeeper", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is ending: `finish` does the rest
            return
        self._thread = thread

    # -- the thread ------------------------------------------------------------------------------------

    def _run(self) -> None:
        while self._has_work():
            self._say_farewells()
            self._tidy_pools()
            self._sleep()

    def _has_work(self) -> bool:
        """Tell whether to go on; where not, the thread is gone from the same moment on."""
        with self._lock:
            if (self._due or self._leavers) and not self._paused:
                return True
            self._thread = None
            return False

    def _say_farewells(self) -> None:
        leavers = self._take_leavers()
        try:
            see_off(leavers, self._clock)
        except Exception:  # noqa: BLE001 - logged: this is a thread of its own
            # No descriptor left to wait with, say. They are closed all the same, and the next ones want seeing off.
            text, closed = "%s closed without QUIT", counted(len(leavers), "connection")
            write(logger, logging.WARNING, text, closed, exc_info=True)

    def _take_leavers(self) -> list[Leaver]:
        with self._lock:
            leavers, self._leavers = self._leavers, []
        return leavers

    def _tidy_pools(self) -> None:
        now = self._clock.monotonic()
        with self._lock:
            ripe = [pool for pool, due in self._due.items() if due <= now]
            for pool in ripe:
                del self._due[pool]
        for pool in ripe:
            due = self._tidy(pool)
            with self._lock:
                # A connection given back meanwhile has asked for a look of its own, and keeps it.
                if due is not None:
                    self._due[pool] = min(due, self._due.get(pool, due))

    def _tidy(self, pool: Tidiable) -> float | None:
        try:
            return pool.tidy()
        except Exception:  # noqa: BLE001 - logged: this is a thread of its own
            # Nobody else would hear of it, and the other pools want looking after.
            write(logger, logging.WARNING, "Looking after %r failed", pool, exc_info=True)
            return None

    def _sleep(self) -> None:
        with self._lock:
            self._wake.clear()
            if self._leavers or self._paused or not self._due:
                return
            self._next_look = min(self._due.values())
            delay = self._next_look - self._clock.monotonic()
        self._clock.wait(self._wake.wait, max(0.0, delay))

    # -- what the registry asks for --------------------------------------------------------------------

    def pause(self) -> None:
        """End the thread and wait for it: a live thread makes `os.fork()` warn."""
        with self._lock:
            self._paused = True
            self._wake.set()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(FAREWELL + 1)

    def resume(self) -> None:
        """Let the thread start again when there is something to do next."""
        with self._lock:
            self._paused = False

    def after_fork(self) -> None:
        """Start over in a forked child, where the thread does not exist."""
        self._start_over()

    def finish(self) -> None:
        """Say the farewells that are due, in the calling thread, all at once; for the end of the process."""
        self.pause()
        see_off(self._take_leavers(), self._clock)


def see_off(leavers: list[Leaver], clock: Clock) -> None:
    """Say QUIT on many connections at once, wait at most two seconds for all answers, and close them."""
    try:
        deadline = clock.monotonic() + FAREWELL
        side_by_side.run([_leave(each, clock, deadline) for each in leavers], side_by_side.StoppableClock(clock))
    finally:
        for connection in leavers:
            connection.close()


def _leave(connection: Leaver, clock: Clock, deadline: float) -> Life[None]:
    with contextlib.suppress(Failure):
        yield from connection.leave(clock, deadline)
