"""The pool: borrow, give back and close connections; how a pool is closed is in `closing`."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Generic

from ..clock import Clock
from ..errors import PoolFull, PoolTimeout, is_failure, without_frames
from ..events.events import DialFailed, Observer, Opened
from ..options.options import PoolOptions
from . import policy, retirement
from .closing import Closing
from .housekeeper import Housekeeper
from .shielding import ends_lease, harmless, surely
from .slots import ConnectionT, DialSpare, Slot, Waiter
from .stats import Details, copied, detailed, gauges
from .waiters import reentered, timed_out, turned_away

LIFETIME_JITTER = 0.1  # fraction of max_lifetime to subtract at most: connections opened together end at other times


class Pool(Closing, Generic[ConnectionT]):
    """Connections to one server under one identity, shared by all threads of a process.

    Arguments:
        name: the name of the server in errors and events.
        connect: opens a connection that is ready for messages; blocks, at most until the given deadline.
        housekeeper: closes what is idle or old, sends QUIT, and serves waiters after a pause, without delaying callers.
        uniform: returns a random number between two bounds, for the jitter.
    """

    def __init__(
        self,
        options: PoolOptions,
        *,
        name: str,
        connect: Callable[[float | None], ConnectionT],
        clock: Clock,
        observer: Observer,
        housekeeper: Housekeeper,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._connect = connect
        self._uniform = uniform
        super().__init__(options, name=name, clock=clock, observer=observer, housekeeper=housekeeper)

    def after_fork(self) -> None:
        """Start over in a forked child; the parent's sockets are closed by `sockets.close_inherited`."""
        for each in tuple(self._generations):  # a send that has forked may go on in a closed one
            is_closed = each is not self and each._state.closed
            each._start_over()
            each._state.closed = is_closed

    # -- borrowing -------------------------------------------------------------------------------------

    def request(self, waiter: Waiter, *, first: bool = False) -> None:
        """Put a waiter in line; it may be served at once. `first` is for one that was served with a dead connection.

        Raises PoolFull if `max_waiting` others wait already, and PoolTimeout if this thread has interrupted the pool's
        own code and would wait for itself.
        """
        if self._is_inside:
            raise reentered(self.name)
        now, full = self._clock.monotonic(), None
        with self._lock:
            self._state.complete()
            policy.look_at_clocks(self._state, now, self._clock.wall())
            is_alone = len(self._generations) == 1  # the others want to know what this pool has
            slot = policy.lend_at_once(self._state, waiter, now) if is_alone else None
            if slot is not None:
                waiter.grant(slot)
            else:
                policy.queue_up(self._state, waiter, now, first=first)
                self._settle()
                full = self._turn_away_if_full(waiter) if self.options.max_waiting and not first else None
        if slot is None or self._state.todo or self._late:
            self._carry_out()
        if full is not None:
            raise full

    def _turn_away_if_full(self, waiter: Waiter) -> PoolFull | None:
        limit = self.options.max_waiting
        if len(self._state.waiting) <= limit or waiter not in self._state.waiting:
            return None
        self._state.waiting.leave(waiter)
        return turned_away(self.name, self._state, limit)

    @harmless
    def leave_line(self, waiter: Waiter, waited: float = 0.0) -> None:
        """Remove a waiter from the line; the seconds that it waited are for the statistics."""
        if waiter in self._state.waiting:  # the next waiter may use what this one could not
            self._change(self._state.waiting.leave, waiter)
        if milliseconds := round(waited * 1000):
            self.count("wait_ms", milliseconds)

    def is_starved_by(self, thread: int) -> bool:
        """Return whether every slot is held by batches of this thread: then this thread would wait forever."""
        with self._lock:
            state = self._state
            taken_by_others = state.idle or state.leaving or state.others
            return (
                bool(state.out)
                and not taken_by_others
                and all(slot.holder == thread for slot in state.everything_out())
            )

    def timed_out(self, waited: float) -> PoolTimeout:
        """Return the error for a waiter that was not served within so many seconds."""
        with self._lock:
            return timed_out(self.name, self._state, waited, self._last_failure)

    # -- dialling --------------------------------------------------------------------------------------

    _last_failure: Exception | None = None  # guarded by: _lock

    def dial(self, slot: Slot, deadline: float | None) -> None:
        """Open a connection in a slot that was granted empty; blocks."""
        started_at = self._clock.monotonic()
        try:
            connection = self._connect(deadline)
        except BaseException as error:
            self.failed_to_open(slot, error)
            raise
        self.opened(slot, connection, self._clock.monotonic() - started_at)

    @ends_lease
    def failed_to_open(self, slot: Slot, error: BaseException) -> None:
        """Give up the slot of a dial that has failed or was interrupted; an interrupt says nothing about the server."""
        if is_failure(error):
            failure = without_frames(error) if isinstance(error, Exception) else None
            self._note(DialFailed, error=error)
            self._change(self._dial_failed, slot, error, failure)
        else:
            self._change(policy.give_up, self._state, slot, "interrupted")
        self._tell_if_free()

    def _dial_failed(self, slot: Slot, error: BaseException | None, failure: Exception | None) -> None:
        now = self._clock.monotonic()
        if error is not None:
            policy.learn(self._state, slot, error, now)
        policy.dial_failed(self._state, slot, now)
        self._last_failure = failure

    def opened(self, slot: Slot, connection: ConnectionT, took: float) -> None:
        """Put a new connection into its slot, which stays with its borrower."""
        self._change(self._opened, slot, connection)
        self._note(Opened, connection=connection.number, seconds=took)

    def _opened(self, slot: Slot, connection: ConnectionT) -> None:
        policy.connected(self._state, slot, connection, self._expiry())
        slot.since = self._clock.monotonic()
        self._counters["connections_opened"] += 1
        self._last_failure = None

    def _expiry(self) -> float | None:
        lifetime = self.options.max_lifetime
        return self._clock.monotonic() + lifetime * self._uniform(1 - LIFETIME_JITTER, 1) if lifetime else None

    def _start_dialling(self, dial: DialSpare) -> None:
        slot = dial.slot
        if not slot.is_lent_to(dial):  # an interrupted call has started the thread before
            return
        thread = threading.Thread(target=self._dial_spare, args=(slot,), name="django-smtp-pool-dial", daemon=True)
        with self._lock:
            self._state.lend(slot, thread)
        try:
            thread.start()
        except BaseException:  # no more threads, or no memory: the caller only gave a slot back, and must not fail
            self._apply(self._dial_failed, slot, None, self._last_failure)
            raise

    def _dial_spare(self, slot: Slot) -> None:
        """Open a spare connection, for `min_connections`."""
        try:
            self.dial(slot, None)
        except Exception:  # noqa: BLE001 - observers get DialFailed; the next message raises its error to a caller
            return
        self.take_back(slot)

    # -- giving back -----------------------------------------------------------------------------------

    @ends_lease
    def take_back(self, slot: Slot, error: BaseException | None = None, sender: str | None = None) -> None:
        """End a lease; the error of its message, if there was one, may show a limit, also for its sender."""
        self._change(self._take_back, slot, error, sender)
        if self._news:
            self._tell_if_free()

    def _take_back(self, slot: Slot, error: BaseException | None, sender: str | None) -> None:
        if slot not in self._state.busy:  # lent before a fork, or given back already
            return
        now, connection = self._clock.monotonic(), slot.connection
        try:
            policy.learn(self._state, slot, error, now, sender)
        finally:
            if connection.in_step:
                policy.put_back(self._state, slot, connection.messages, now)
            else:
                policy.give_up(self._state, slot, "out of step")

    @harmless
    def lend_again(self, slot: Slot, sender: str) -> bool | None:
        """Let the borrower keep a connection for another message, after one from this sender was accepted.

        Return False, or None after a defect, if another waiter needs the slot, or the connection may carry no further
        message.
        """
        connection = slot.connection
        if self._is_inside or not connection.in_step or connection.found_limit is not None:
            return False
        with self._lock:
            return policy.lend_again(self._state, slot, connection.messages, self._clock.monotonic(), sender)

    @ends_lease
    def take_back_stale(self, slot: Slot) -> None:
        """End the lease of a connection that its server closed while it was idle."""
        self._change(self._take_back_dead, slot, policy.suspect)
        self._tell_if_free()

    @ends_lease
    def take_back_dead(self, slot: Slot) -> None:
        """Give up a granted connection whose socket turned out to be dead."""
        if self._is_inside:
            self._late.append(partial(self.take_back_dead, slot))
            return
        with self._lock:  # without deciding: the waiter that found it dead joins the line first
            self._state.complete()
            self._take_back_dead(slot)

    def _take_back_dead(self, slot: Slot, *also: Callable[..., None]) -> None:
        self._counters["stale"] += 1
        policy.died_idle(self._state, slot, self._clock.monotonic())
        for change in also:
            change(self._state, slot)

    @surely
    def drop(self, waiter: Waiter) -> None:
        """Give up what is lent to a waiter that was interrupted; does nothing if it was given back."""
        self._change(policy.drop, self._state, waiter)
        self._tell_if_free()

    @surely
    def take_back_ungranted(self, waiter: Waiter, slot: Slot | None) -> None:
        """Put back a slot whose waiter had left the line before the slot was granted."""
        if slot is not None:
            self._change(self._put_back_ungranted, waiter, slot)

    def drain(self) -> None:
        """Close every connection as soon as it carries no message; further messages go over new connections."""
        self._change(self._drain)
        self._tell_if_free()

    def _drain(self) -> None:
        for slot in self._state.busy:
            slot.is_drained = True
        retirement.retire_idle(self._state, "drained")

    # -- figures ---------------------------------------------------------------------------------------

    def details(self) -> Details:
        """Return each connection, and how long each lesson holds; empty if this thread is changing the pool."""
        if self._is_inside:
            return Details()
        with self._lock:
            places = copied(self._state)
            lessons = self._state.lessons.ends()
        self._carry_out_late()
        return detailed(places, lessons, self._clock.monotonic())

    @property
    def vacancies(self) -> int:
        """How many more waiters could be served now: idle connections, and free slots under the ceiling."""
        state = self._state
        return len(state.idle) + max(0, state.ceiling_in_force - state.occupied)

    @property
    def idle(self) -> int:
        """The number of idle connections."""
        return len(self._state.idle)

    @property
    def is_forgettable(self) -> bool:
        """Whether no generation is in use any more, and the pool is closed or was unused for ten minutes."""
        # A new pool counts as used: its creator is about to request a connection.
        unused = self._clock.monotonic() - max(self._state.used_at, self._started_at)
        in_use = any(each.is_in_use for each in tuple(self._generations))
        return not in_use and (self._state.closed or unused > retirement.IN_USE)

    def __repr__(self) -> str:
        return f"<Pool {self.name}: {gauges(self._state)}>"
