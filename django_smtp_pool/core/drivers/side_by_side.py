"""The side-by-side driver: runs many generators in the calling thread, over one poller; used by `send_messages()`.

A generator yields a need (`core.needs`). The driver remembers it, and resumes the generator when the need is met or
when its instant has passed. Each round of the loop has two steps:

1. Wait for sockets, for other threads (a slot of the pool), or for the next instant, and resume every generator that
   can go on. One poller watches all sockets, and a socket pair (`Wakeup`) lets other threads end the wait.
2. If none could go on, make one pending `Call`: the caller's code (rendering, receivers), a token, Redis. A call may be
   slow, and while it runs, no generator does. Therefore calls are made one at a time, and not while a server waits for
   octets that only this thread can write (`Wait.hold_until`).

During a call, replies wait in the kernel, and a timeout would blame the server for the time of the caller's code. So
the generators have a clock (`StoppableClock`) that stands still during calls. Only a `Sleep` goes by the system's.
"""

from __future__ import annotations

import contextlib
import math
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from ..clock import Clock
from ..needs import NEVER, Bell, Call, Life, Need, Servable, Sleep, T, Turn, Wait
from ..net.sockets import track, untrack
from ..net.trouble import Trouble, attempt
from .polling import Poller

SHORTEST_WAIT = 1e-6  # seconds: less may be lost when it is added to the time
BRIEF = 0.01  # seconds; if resuming a generator takes longer, that time does not count


class StoppableClock:
    """A clock that its driver moves on: time spent waiting counts, time spent in the caller's code does not.

    Between two moves it stands still, so reading it is cheap.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._looked_at = self.now = clock.monotonic()
        self._left_out = 0.0

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return self.now

    def own(self, instant: float) -> float:
        """Return an instant of the system's clock as one of this clock, as long as no more time is left out."""
        return instant - self._left_out

    def wall(self) -> float:
        """Return seconds since the epoch."""
        return self._clock.wall()

    def wait(self, block: Callable[[float | None], T], timeout: float | None) -> T:
        """Block on the real clock; this time counts."""
        answer = self._clock.wait(block, timeout)
        self.move_on()
        return answer

    def move_on(self, most: float = math.inf) -> None:
        """Add the time since the last move, unless it was more than `most` seconds."""
        real = self._clock.monotonic()
        if real - self._looked_at > most:
            self._left_out += real - self._looked_at
        self._looked_at, self.now = real, real - self._left_out


def run(lives: Iterable[Life[None]], clock: StoppableClock, *, main: Life[None] | None = None) -> None:
    """Run generators until all have ended, or until the main one has ended; then the others are closed.

    An exception from one of them, or in this thread, ends all of them and is raised.
    """
    driver = _SideBySide(clock)
    everyone = list(lives)
    try:
        for life in everyone:
            driver.begin(life)
        driver.run(main)
    finally:
        driver.close()
        _close(iter(everyone))


def _close(lives: Iterator[Life[None]]) -> None:
    """Close generators; an interrupt that occurs meanwhile is raised when all are closed."""
    for life in lives:
        try:
            life.close()
        except BaseException:
            _close(lives)
            raise


class _SideBySide:
    """The state of one run."""

    def __init__(self, clock: StoppableClock) -> None:
        self._clock = clock
        self._poller = Poller()
        self._needs: dict[Life[None], Need] = {}
        self._owners: dict[int, tuple[Life[None], Wait]] = {}  # by descriptor: the generator that waits, and its need
        self._descriptors: dict[Life[None], set[int]] = {}  # watched for each generator
        self._served: deque[tuple[Life[None], Servable]] = deque()  # appended to from any thread
        self._calls: deque[tuple[Life[None], Call]] = deque()
        self._due = math.inf  # no need has an earlier instant than this
        self._asleep: set[Life[None]] = set()  # those with a `Sleep`
        self._hold_until = NEVER
        self._wakeup: Wakeup | None = None
        self._thread = threading.get_ident()
        self._is_polling = False

    def begin(self, life: Life[None]) -> None:
        """Start a generator."""
        self._go_on(life, life.send, None)

    def run(self, main: Life[None] | None) -> None:
        """Run until all have ended, or the main one has."""
        self._clock.move_on(BRIEF)
        while self._needs and (main is None or main in self._needs):
            ready = self._look()
            if ready:
                for life in ready:
                    self._go_on(life, life.send, None)
                    self._clock.move_on(BRIEF)
            elif self._calls and (self._hold_until == NEVER or self._clock.now >= self._held_until()):
                self._call(*self._calls.popleft())

    def _held_until(self) -> float:
        """Return the instant until which a server waits for octets that only this thread can write."""
        if self._hold_until > NEVER:
            holds = [need.hold_until for need in self._needs.values() if type(need) is Wait]
            self._hold_until = max(holds, default=NEVER)
        return self._hold_until

    # -- which generators can go on --------------------------------------------------------------------

    def _look(self) -> dict[Life[None], None]:
        """Wait until a generator can go on, or a call may be made; return each generator that can go on once."""
        ready: dict[Life[None], None] = {}
        if self._asleep:  # by our clock, a sleep may end sooner after each call
            self._due = min(map(self._until, self._needs.values()))
        self._is_polling = True
        ready_now = [] if self._served else self._poll()  # the sockets are read before a call is made
        self._is_polling = False
        for descriptor in ready_now:
            if self._wakeup is not None and descriptor == self._wakeup.fileno():
                self._wakeup.silence()
                continue
            owner = self._owners.get(descriptor)
            if owner is not None and self._needs.get(owner[0]) is owner[1]:
                ready[owner[0]] = None
            else:  # no generator waits for it any more
                self._poller.forget(descriptor)
                self._owners.pop(descriptor, None)
        while self._served:
            life, waiter = self._served.popleft()
            need = self._needs.get(life)
            if isinstance(need, (Turn, Sleep)) and need.waiter is waiter:
                ready[life] = None
        if self._clock.now >= self._due:
            self._add_those_due(ready)
        return ready

    def _until(self, need: Need) -> float:
        """Return the instant of a need by our clock."""
        if type(need) is Sleep:
            return self._clock.own(need.until)
        return math.inf if type(need) is Call else need.until  # type: ignore[union-attr]

    def _poll(self) -> list[int]:
        seconds = (min(self._due, self._held_until()) if self._calls else self._due) - self._clock.now
        if seconds > 0:
            return self._clock.wait(self._poller.wait, max(seconds, SHORTEST_WAIT))
        return self._poller.wait(0.0)

    def _add_those_due(self, ready: dict[Life[None], None]) -> None:
        self._due = math.inf
        for life, need in self._needs.items():
            until = self._until(need)
            if until <= self._clock.now:
                ready[life] = None
            else:
                self._due = min(self._due, until)

    # -- going on --------------------------------------------------------------------------------------

    def _call(self, life: Life[None], call: Call) -> None:
        try:
            answer = call.function()
        except Exception as error:  # noqa: BLE001 - the generator decides
            self._clock.move_on(most=0.0)
            self._go_on(life, life.throw, error)
        else:
            self._clock.move_on(most=0.0)
            self._go_on(life, life.send, answer)
        self._clock.move_on(BRIEF)

    def _go_on(self, life: Life[None], resume: Callable[[Any], Need], answer: object) -> None:
        before = self._needs.get(life)
        try:
            need = self._needs[life] = resume(answer)
        except StopIteration:
            need = None
            self._needs.pop(life, None)
        if type(before) is Wait and not (type(need) is Wait and need.watched[0][0] is before.watched[0][0]):
            self._forget(life)
        elif type(before) is Sleep:
            self._asleep.discard(life)
        if type(need) is Wait:
            self._watch(life, need)
        elif type(need) is Call:
            self._calls.append((life, need))
        elif need is not None:
            self._stand_in_line(life, need)  # type: ignore[arg-type]

    def _watch(self, life: Life[None], need: Wait) -> None:
        for sock, events in need.watched:
            descriptor = sock.fileno()
            self._owners[descriptor] = life, need
            self._descriptors.setdefault(life, set()).add(descriptor)
            self._poller.watch(descriptor, events)
        if need.until < self._due:
            self._due = need.until
        if need.hold_until > self._hold_until:
            self._hold_until = need.hold_until

    def _forget(self, life: Life[None]) -> None:
        """Stop watching for a generator: a socket that is polled stays open, even if another thread closes it."""
        for descriptor in self._descriptors.pop(life, ()):
            if descriptor in self._owners and self._owners[descriptor][0] is life:
                del self._owners[descriptor]
                self._poller.forget(descriptor)

    def _stand_in_line(self, life: Life[None], need: Turn | Sleep) -> None:
        waiter = need.waiter
        if type(need) is Sleep:
            self._asleep.add(life)
        elif need.until < self._due:
            self._due = need.until
        if not isinstance(waiter, Bell) and self._wakeup is None:
            self._wakeup = Wakeup()
            self._poller.watch(self._wakeup.fileno(), selectors.EVENT_READ)
        waiter.wake = partial(self._serve, life, waiter)
        if waiter.served:
            self._served.append((life, waiter))

    def _serve(self, life: Life[None], waiter: Servable) -> None:
        """Remember that a generator can go on; any thread may call this."""
        self._served.append((life, waiter))
        # While this thread polls, its own signal handler may serve a waiter.
        if self._wakeup is not None and (self._is_polling or threading.get_ident() != self._thread):
            self._wakeup.ring()

    def close(self) -> None:
        """Close the socket pair that wakes this thread."""
        if self._wakeup is not None:
            self._wakeup.close()


class Wakeup:
    """A pair of sockets with which other threads wake the waiting one."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        for end in (self._ours, self._theirs):
            end.setblocking(False)
            track(end)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable."""
        return self._ours.fileno()

    def ring(self) -> None:
        """Wake the thread, or make its next wait return at once."""
        with contextlib.suppress(Trouble):  # full: it will wake anyway; closed: no thread waits any more
            attempt(self._theirs.send, b"!")

    def silence(self) -> None:
        """Read what `ring` has written, so that the next wait can block."""
        with contextlib.suppress(Trouble):
            attempt(self._ours.recv, 4096)

    def close(self) -> None:
        """Close both ends."""
        for end in (self._ours, self._theirs):
            untrack(end)
            end.close()
