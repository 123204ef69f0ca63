"""One daemon thread for all pools: it calls `tidy` at the right instants, and sends QUIT. It never dials.

The thread starts when there is work, and ends when there is none. Requests may come at any moment, also from
finalisers that have interrupted the thread itself, so they go through a queue and need no lock. The thread runs no
foreign code: receivers of signals may be slow, and are called in a separate thread.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

from ..clock import Clock
from ..events import records
from ..interrupts import is_defect
from .slots import PooledConnection

logger = logging.getLogger("django_smtp_pool.pool")

END_OF_THREAD = 0.5  # seconds that a fork or an exit waits for the thread, which normally ends at once


class Tidiable(Protocol):
    """A pool, as the housekeeper knows it."""

    def tidy(self) -> float | None:
        """Do what is due, and return the instant (monotonic) to call this again."""
        ...

    def tell(self) -> None:
        """Pass events to observers, which may be slow."""
        ...

    @property
    def has_news(self) -> bool:
        """Whether there are events that observers have not received."""
        ...


class Farewells(Protocol):
    """Closes many connections at once with QUIT; in one thread at a time."""

    @property
    def are_due(self) -> bool:
        """Whether there is a connection that is not closed yet."""
        ...

    def add(self, connection: PooledConnection, left: Callable[[], None]) -> None:
        """Close a connection with QUIT, and call `left` when it is closed; from any thread."""
        ...

    def sever(self, connection: PooledConnection) -> None:
        """Close a connection now, without waiting for the reply to QUIT; from any thread."""
        ...

    def wait(self, until: float) -> None:
        """Send QUIT and wait for replies, until an instant (monotonic) or `wake`; raise nothing."""
        ...

    def wake(self) -> None:
        """End a wait; from any thread."""
        ...

    def finish(self, seconds: float) -> None:
        """Send QUIT on all connections, wait at most `seconds` for the replies, and close them."""
        ...

    def after_fork(self) -> None:
        """Forget them, in a forked child."""
        ...


class Housekeeper:
    """Tidies pools at the right instants, and closes connections with QUIT."""

    def __init__(self, clock: Clock, farewells: Farewells) -> None:
        self._clock = clock
        self._farewells = farewells
        # Lets the next request start the thread. Not Python code, so that no interrupt can occur in it.
        self.end_pause = partial(setattr, self, "_is_paused", False)
        self._start_over()

    def _start_over(self, *, is_paused: bool = False) -> None:
        self._is_paused = is_paused
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()  # reentrant: a finaliser may interrupt `put`
        self._asked: deque[tuple[Tidiable, float]] = deque()
        self._due: dict[Tidiable, float] = {}  # only the thread changes it
        self._baton = threading.Lock()  # held by the one thread that works
        self._threads: list[threading.Thread] = []  # one, or for a moment more
        self._is_working = False

    # -- what pools ask for ----------------------------------------------------------------------------

    def watch(self, pool: Tidiable, due: float | None) -> None:
        """Call `pool.tidy()` at the instant `due`, and again at the instants that it returns."""
        if due is None or (self._is_working and self._due.get(pool, float("inf")) <= due):
            return
        self._asked.append((pool, due))
        self._stir()

    def see_off(self, connection: PooledConnection, left: Callable[[], None]) -> None:
        """Close a connection with QUIT, without making the caller wait; call `left` when it is closed."""
        self._farewells.add(connection, left)
        self._stir()

    def sever(self, connection: PooledConnection) -> None:
        """Close a connection that still waits for the reply to QUIT."""
        self._farewells.sever(connection)
        self._stir()

    def _stir(self) -> None:
        """Wake the thread, or start it."""
        if self._is_paused:
            return
        if self._is_working:
            self._bell.put(None)
            self._farewells.wake()
            return
        # Two callers at once start two threads; one of them finds no work and ends.
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        self._threads += _started("django-smtp-pool-housekeeper", self._run)

    # -- the thread ------------------------------------------------------------------------------------

    def _run(self) -> None:
        while self._baton.acquire(blocking=False):
            try:
                self._is_working = True
                self._work()
            finally:
                self._is_working = False
                self._baton.release()
            if self._is_paused or not (self._asked or self._farewells.are_due):
                return  # a request from now on finds `_is_working` False, and starts a thread

    def _work(self) -> None:
        while not self._is_paused:
            self._take_requests()
            self._tidy_pools()
            if not (self._due or self._asked or self._farewells.are_due):
                return
            self._sleep()

    def _take_requests(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._bell.get_nowait()
        while self._asked:
            pool, due = self._asked.popleft()
            self._due[pool] = min(due, self._due.get(pool, due))

    def _tidy_pools(self) -> None:
        now = self._clock.monotonic()
        for pool in [pool for pool, due in self._due.items() if due <= now]:
            del self._due[pool]  # before the call, so that requests during the call are not lost
            due = self._tidy(pool)
            if due is not None:
                self._due[pool] = due

    def _tidy(self, pool: Tidiable) -> float | None:
        try:
            due = pool.tidy()
            if pool.has_news:
                _started("django-smtp-pool-news", pool.tell)
        except Exception:  # noqa: BLE001 - there is no caller to raise it to, and the other pools need the thread
            records.write(logger, logging.WARNING, "Tidying %r failed", pool, exc_info=True)
            return None
        return due

    def _sleep(self) -> None:
        until = min(self._due.values(), default=float("inf"))
        if self._farewells.are_due:
            if not self._asked:
                self._farewells.wait(until)
        else:
            self._clock.wait(self._listen, None if until == float("inf") else max(0.0, until - self._clock.monotonic()))

    def _listen(self, seconds: float | None) -> bool:
        try:
            self._bell.get(timeout=seconds)
        except queue.Empty:
            return False
        return True

    def say_quit_without_thread(self, seconds: float) -> None:
        """Send QUIT in the calling thread and wait for the replies, if no thread could be started for that."""
        if not self._is_paused and not any(thread.is_alive() for thread in self._threads):
            self._farewells.finish(seconds)

    # -- what the registry asks for --------------------------------------------------------------------

    def begin_pause(self) -> None:
        """Start no thread until `end_pause`; requests wait."""
        self._is_paused = True

    def pause(self) -> None:
        """End the thread and wait for it, because `os.fork()` warns about live threads. No server can delay this."""
        self.begin_pause()
        self._bell.put(None)
        self._farewells.wake()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(END_OF_THREAD)

    def resume(self) -> None:
        """Start the thread again if there is work left."""
        self.end_pause()
        if self.has_work:
            self._stir()

    @property
    def has_work(self) -> bool:
        """Whether there is something to do, now or later."""
        return bool(self._is_working or self._due or self._asked or self._farewells.are_due)

    def after_fork(self) -> None:
        """Start over in a forked child, which does not have the thread; it starts after `end_pause`."""
        self._farewells.after_fork()
        self._start_over(is_paused=True)

    def finish(self, seconds: float) -> None:
        """Close the remaining connections with QUIT, all at once, in the calling thread; at the end of the process."""
        self.pause()
        self._farewells.finish(seconds)


def _started(name: str, work: Callable[[], None]) -> list[threading.Thread]:
    """Start a thread; return an empty list if that fails, for example without memory, so that no message fails."""
    try:
        thread = threading.Thread(target=work, name=name, daemon=True)
        thread.start()
    except Exception as error:
        if not is_defect(error):
            raise
        return []  # the next request tries again, and waiters call `tidy` themselves
    return [thread]
