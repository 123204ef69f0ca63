"""The pool: one lock around the policy, and the policy's decisions carried out outside it.

Nothing logs, signals, dials, closes, calls user code or frees objects while the lock is held.
"""

from __future__ import annotations

import random
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Generic

from ..clock import Clock
from ..errors import PoolFull, PoolTimeout, is_failure, without_frames
from ..events.events import Closed, DialFailed, Learnt, Observer, Opened
from ..options.options import PoolOptions
from . import policy
from .contracts import Caretaker, ConnectionT, PooledConnection
from .policy import State
from .slots import Action, Close, Grant, Refuse, Slot, Waiter
from .stats import Stats, gauges, snapshot
from .waiters import timed_out, turned_away

LIFETIME_JITTER = 0.1  # of max_lifetime, downwards: connections opened together do not all end together


class Pool(Generic[ConnectionT]):
    """Connections to one server under one identity, shared by all threads of a process.

    Arguments:
        name: the server, as messages and events name it.
        connect: opens a connection that is ready for messages; blocks, until the given deadline at most.
        caretaker: closes what is idle or old, and says QUIT, off the callers' path.
        uniform: random numbers between two bounds, for the jitter.
    """

    def __init__(
        self,
        options: PoolOptions,
        *,
        name: str,
        connect: Callable[[float | None], ConnectionT],
        clock: Clock,
        observer: Observer,
        caretaker: Caretaker,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.options = options
        self.name = name
        self._connect = connect
        self._clock = self.clock = clock
        self._observer = observer
        self._caretaker = caretaker
        self._uniform = uniform
        self.rate_left: Callable[[], Mapping[str, int]] = dict  # what may still be sent under each rate limit
        self._start_over()

    def _start_over(self) -> None:
        self._started_at = self._clock.monotonic()
        self._lock = threading.Lock()
        self._drained = threading.Condition(self._lock)
        self._state = State(options=self.options, ceiling=self.options.max_connections)  # guarded by: _lock
        self._counters: Counter[str] = Counter()  # guarded by: _lock
        self._closed_for: Counter[str] = Counter()  # guarded by: _lock
        self._last_failure: Exception | None = None  # guarded by: _lock
        # Decided and not done yet. A queue of its own, so that what an interrupted thread left is done by the next.
        self._todo: deque[Action] = deque()
        self._news: deque[tuple[str, str]] = deque()

    def after_fork(self) -> None:
        """Start over in a forked child; the parent's sockets are closed by `transport.close_inherited`."""
        self._start_over()

    # -- borrowing -------------------------------------------------------------------------------------

    def request(self, waiter: Waiter, *, first: bool = False) -> None:
        """Put somebody in line, `first` for one who was served with a dead connection; he may be served at once.

        Raises PoolFull where `max_waiting` others wait already.
        """
        now = self._clock.monotonic()
        with self._lock:
            policy.look_at_clocks(self._state, now, self._clock.wall())
            policy.queue_up(self._state, waiter, now, first=first)
            self._decide()
            full = self._turn_away_if_full(waiter)
        self._carry_out()
        if full is not None:
            raise full

    def _turn_away_if_full(self, waiter: Waiter) -> PoolFull | None:
        limit = self.options.max_waiting
        if not limit or len(self._state.waiting) <= limit or waiter not in self._state.waiting:
            return None
        self._state.waiting.remove(waiter)
        return turned_away(self.name, self._state, limit)

    def leave_line(self, waiter: Waiter, waited: float = 0.0) -> None:
        """Take somebody out of the line; seconds he waited are for the statistics."""
        with self._lock:
            if waiter in self._state.waiting:
                self._state.waiting.remove(waiter)
            self._counters["wait_ms"] += round(waited * 1000)

    def is_starved_by(self, thread: int) -> bool:
        """Tell whether every place is held by batches of this thread: then waiting in it would be for ever."""
        with self._lock:
            out = self._state.out
            return bool(out) and not self._state.idle and all(slot.holder == thread for slot in out)

    def timed_out(self, waited: float) -> PoolTimeout:
        """Return the error of one who waited so many seconds in vain."""
        with self._lock:
            return timed_out(self.name, self._state, waited, self._last_failure)

    def dial(self, slot: Slot, deadline: float | None) -> None:
        """Open a connection in a slot that was granted without one; blocks. Whoever is interrupted drops the slot."""
        started_at = self._clock.monotonic()
        try:
            connection = self._connect(deadline)
        except BaseException as error:
            if is_failure(error):  # an interrupt tells nothing about the server
                self.failed_to_open(slot, error)
            raise
        self.opened(slot, connection, self._clock.monotonic() - started_at)

    def failed_to_open(self, slot: Slot, error: BaseException) -> None:
        """Give up the slot of a dial that has failed."""
        failure = without_frames(error) if isinstance(error, Exception) else None
        with self._lock:
            now = self._clock.monotonic()
            policy.learn(self._state, slot, error, now)
            policy.dial_failed(self._state, slot, now)
            self._last_failure = failure
            self._decide()
            due = policy.next_look(self._state, now)
        self._carry_out()
        self._caretaker.watch(self, due)
        self._observer.tell(DialFailed, server=self.name, error=error)

    def opened(self, slot: Slot, connection: ConnectionT, took: float) -> None:
        """Put a connection that is ready into its slot; it stays with who dialled."""
        with self._lock:
            policy.connected(self._state, slot, connection, self._expiry())
            self._counters["connections_opened"] += 1
            self._last_failure = None
        self._observer.tell(Opened, connection=connection.number, server=self.name, seconds=took)

    def _expiry(self) -> float | None:
        lifetime = self.options.max_lifetime
        return self._clock.monotonic() + lifetime * self._uniform(1 - LIFETIME_JITTER, 1) if lifetime else None

    # -- giving back -----------------------------------------------------------------------------------

    def take_back(self, slot: Slot, error: BaseException | None = None) -> None:
        """End a lease; how its message failed, if it did, may teach something."""
        connection: PooledConnection = slot.connection
        now = self._clock.monotonic()
        with self._lock:
            if slot not in self._state.out:  # lent before a fork
                return
            connection.has_idled = True
            policy.learn(self._state, slot, error, now)
            if connection.in_step:
                policy.put_back(self._state, slot, connection.messages, now)
            else:
                policy.give_up(self._state, slot, "out of step")
            self._decide()
            due = policy.next_look(self._state, now)
        self._carry_out()
        self._caretaker.watch(self, due)

    def take_back_stale(self, slot: Slot) -> None:
        """End the lease of a connection that its server closed while it was idle."""
        with self._lock:
            self._counters["stale"] += 1
            policy.died_idle(self._state, slot, self._clock.monotonic())
            policy.suspect(self._state, slot)
            self._decide()
        self._carry_out()

    def take_back_dead(self, slot: Slot) -> None:
        """Give up a granted connection that a look at its socket showed to be dead."""
        with self._lock:
            self._counters["stale"] += 1
            policy.died_idle(self._state, slot, self._clock.monotonic())

    def drop(self, waiter: Waiter) -> None:
        """Give up what is lent to somebody who was interrupted; harmless where he has given it back."""
        with self._lock:
            policy.drop(self._state, waiter)
            self._decide()
        self._carry_out()

    def take_back_ungranted(self, slot: Slot | None) -> None:
        """Put back a slot whose waiter had gone when it came."""
        if slot is None:
            return
        with self._lock:
            if slot.connection is None:
                policy.give_up(self._state, slot, "not needed")
            else:
                policy.put_back(self._state, slot, slot.messages, slot.idle_since)
            self._decide()
        self._carry_out()

    def tidy(self) -> float | None:
        """Close what is idle or old, and return the instant to look again, None for never."""
        now = self._clock.monotonic()
        with self._lock:
            self._decide()
            due = policy.next_look(self._state, now)
        self._carry_out()
        return due

    def close(self, timeout: float = 10.0) -> None:
        """Close the pool: refuse waiting messages, let deliveries under way finish, send QUIT.

        Arguments:
            timeout: seconds to wait for deliveries under way; they may also finish afterwards.
        """
        with self._lock:
            self._state.closed = True
            self._decide()
        self._carry_out()
        with self._lock:
            if self._others_are_out() and timeout > 0:
                self._clock.wait(lambda left: self._drained.wait_for(lambda: not self._others_are_out(), left), timeout)

    def _others_are_out(self) -> bool:
        # A batch of this very thread (this is one of its receivers, say) goes on only when we return.
        own = threading.get_ident()
        return any(slot.holder != own for slot in self._state.out)

    # -- deciding and doing ----------------------------------------------------------------------------

    def _decide(self) -> None:
        self._todo.extend(policy.decide(self._state, self._clock.monotonic()))
        self._news.extend(self._state.lessons.news)
        self._state.lessons.news.clear()
        if self._state.closed:
            self._drained.notify_all()

    def _carry_out(self) -> None:
        while self._news:
            what, why = self._news.popleft()
            self._observer.tell(Learnt, server=self.name, what=what, why=why)
        while self._todo:
            try:
                action = self._todo.popleft()
            except IndexError:  # another thread took the last one
                return
            self._do(action)

    def _do(self, action: Action) -> None:
        if isinstance(action, Grant):
            if not action.waiter.grant(action.slot):
                self.take_back_ungranted(action.slot)
        elif isinstance(action, Refuse):
            action.waiter.refuse(action.error)
        elif isinstance(action, Close):
            self._see_off(action.slot, action.reason)
        else:
            self._start_dialling(action.slot)

    def _start_dialling(self, slot: Slot) -> None:
        thread = threading.Thread(target=self._dial_spare, args=(slot,), name="django-smtp-pool-dial", daemon=True)
        slot.lend_to(thread)
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter is ending; whoever gives back must not suffer
            with self._lock:
                policy.dial_failed(self._state, slot, self._clock.monotonic())

    def _see_off(self, slot: Slot, reason: str) -> None:
        leaver: PooledConnection = slot.connection
        with self._lock:
            self._closed_for[reason] += 1
        if leaver.in_step and reason != "stale":
            self._caretaker.see_off(leaver)
        else:
            leaver.close()
        self._observer.tell(Closed, connection=leaver.number, server=self.name, reason=reason, messages=leaver.messages)

    def _dial_spare(self, slot: Slot) -> None:
        """Open a connection that nobody waits for, for `min_connections`."""
        try:
            self.dial(slot, None)
        except Exception:  # noqa: BLE001 - told as DialFailed; the next message will say it to somebody
            return
        self.take_back(slot)

    def count(self, what: str, number: int = 1) -> None:
        """Add to a counter of `stats()`."""
        with self._lock:
            self._counters[what] += number

    def stats(self) -> Stats:
        """Return an immutable snapshot."""
        with self._lock:
            return snapshot(self._state, self._counters, self._closed_for, self.rate_left())

    @property
    def vacancies(self) -> int:
        """How many more could be served at once: idle connections, and room under the ceiling."""
        with self._lock:
            state = self._state
            return len(state.idle) + max(0, state.ceiling_in_force - state.occupied)

    @property
    def idle(self) -> int:
        """How many connections nobody uses at the moment."""
        with self._lock:
            return len(self._state.idle)

    @property
    def is_closed(self) -> bool:
        """Whether the pool gives no connection any more: the next message is for a fresh one."""
        with self._lock:
            return self._state.closed

    @property
    def is_forgettable(self) -> bool:
        """Whether the pool has no connection and nobody has used it for ten minutes."""
        with self._lock:
            # A new pool is in use: whoever made it is about to ask it for a connection.
            unused = self._clock.monotonic() - max(self._state.used_at, self._started_at)
            return not self._state.occupied and not self._state.waiting and unused > policy.IN_USE

    def __repr__(self) -> str:
        return f"<Pool {self.name}: {gauges(self._state)}>"
