"""One daemon thread for all pools: it looks when there is something to decide, and says QUIT. It never dials.

It is started when there is something to look after and ends when there is nothing left. What it is asked for goes
through a queue, since it is asked at any moment, also by finalisers under its own locks; so it has none. It runs nobody
else's code: receivers of signals, which may take their time, are called in a thread of their own.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from ..clock import Clock
from ..events import records
from ..interrupts import is_defect
from .contracts import PooledConnection, Tidiable

logger = logging.getLogger("django_smtp_pool.pool")

END_OF_THREAD = 0.5  # seconds that a fork or an exit waits for the thread, which ends at once unless it is being killed


class Farewells(Protocol):
    """Says QUIT on many connections at once; in one thread at a time."""

    @property
    def are_due(self) -> bool:
        """Whether a connection has not left yet."""
        ...

    def add(self, connection: PooledConnection, left: Callable[[], None]) -> None:
        """Let a connection say QUIT, and call `left` when the server has let go; from any thread."""
        ...

    def sever(self, connection: PooledConnection) -> None:
        """Spend no more time on a connection; from any thread."""
        ...

    def wait(self, until: float) -> None:
        """Say QUIT and wait for answers, until an instant (monotonic), or `wake`; raise nothing."""
        ...

    def wake(self) -> None:
        """End a wait; from any thread."""
        ...

    def finish(self, seconds: float) -> None:
        """Say QUIT on all connections, wait so many seconds for the answers, and close them."""
        ...

    def after_fork(self) -> None:
        """Forget them, in a forked child."""
        ...


class Housekeeper:
    """Looks after pools and sees connections off."""

    def __init__(self, clock: Clock, farewells: Farewells) -> None:
        self._clock = clock
        self._farewells = farewells
        self._start_over()

    def _start_over(self) -> None:
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()  # may be rung by a finaliser under its own lock
        self._asked: deque[tuple[Tidiable, float]] = deque()
        self._due: dict[Tidiable, float] = {}  # only the thread changes it
        self._baton = threading.Lock()  # held by the one thread that works
        self._threads: list[threading.Thread] = []  # one, or for a moment more
        self._is_working = False
        self._is_paused = False

    # -- what pools ask for ----------------------------------------------------------------------------

    def watch(self, pool: Tidiable, due: float | None) -> None:
        """Call `pool.tidy()` at the instant `due`, and again as it says."""
        if due is None or (self._is_working and self._due.get(pool, float("inf")) <= due):
            return
        self._asked.append((pool, due))
        self._stir()

    def see_off(self, connection: PooledConnection, left: Callable[[], None]) -> None:
        """Say QUIT and close, without making the caller wait; call `left` when the server has let go."""
        self._farewells.add(connection, left)
        self._stir()

    def sever(self, connection: PooledConnection) -> None:
        """Close a connection that is still saying QUIT."""
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
        # Where two come at once there are two threads for a moment, and one of them finds nothing to do.
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
                return  # whoever asks from now on finds that nobody works

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
            del self._due[pool]  # first: whoever wants another look from now on has to ask
            due = self._tidy(pool)
            if due is not None:
                self._due[pool] = due

    def _tidy(self, pool: Tidiable) -> float | None:
        try:
            due = pool.tidy()
            if pool.has_news:
                _started("django-smtp-pool-news", pool.tell)
        except Exception:  # noqa: BLE001 - nobody else would hear of it, and the other pools want looking after
            records.write(logger, logging.WARNING, "Looking after %r failed", pool, exc_info=True)
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

    # -- what the registry asks for --------------------------------------------------------------------

    def pause(self) -> None:
        """End the thread and wait for it: a live thread makes `os.fork()` warn. No server can delay this."""
        self._is_paused = True
        self._bell.put(None)
        self._farewells.wake()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(END_OF_THREAD)

    def resume(self) -> None:
        """Let the thread go on with what it was about."""
        self._is_paused = False
        if self.has_work:
            self._stir()

    @property
    def has_work(self) -> bool:
        """Whether there is something to look after."""
        return bool(self._is_working or self._due or self._asked or self._farewells.are_due)

    def after_fork(self) -> None:
        """Start over in a forked child, where the thread does not exist."""
        self._farewells.after_fork()
        self._start_over()

    def finish(self, seconds: float) -> None:
        """Say the farewells that are due, in the calling thread, all at once; for the end of the process."""
        self.pause()
        self._farewells.finish(seconds)


def _started(name: str, work: Callable[[], None]) -> list[threading.Thread]:
    """Start a thread; return nothing where that cannot be, for want of memory, say: a message must not fail for it."""
    try:
        thread = threading.Thread(target=work, name=name, daemon=True)
        thread.start()
    except Exception as error:
        if not is_defect(error):
            raise
        return []  # the next one who asks tries again, and those that wait look for themselves
    return [thread]
