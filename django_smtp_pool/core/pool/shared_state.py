"""A pool's state under its lock, and what is decided about it, done outside the lock.

Nothing logs, signals, dials, closes, calls user code or frees objects while the lock is held. A signal handler, a
finaliser or a tracer may run between any two lines, so it may find this very thread inside the lock. The lock is one
that knows its owner. Whoever comes in a second time changes nothing at once: it is done when the lock is left.

Order: first places are handed on, then observers are told. They run when this thread holds no place of the pool,
since they may take their time, or send mail themselves.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Mapping
from functools import partial, wraps
from typing import Any, TypeVar

from ..clock import Clock
from ..events import records
from ..events.events import Closed, Event, Learnt, Observer
from ..interrupts import from_signal_handler, is_defect
from ..options.options import PoolOptions
from . import policy
from .contracts import Caretaker, PooledConnection
from .slots import Action, Close, Dial, Grant, Refuse, Sever, Slot
from .state import State
from .stats import Gauges, Stats, gauges, snapshot
from .waiters import Alarm

logger = logging.getLogger("django_smtp_pool.pool")

BY_FORCE = {"interrupted", "abandoned"}  # reasons for which a connection is closed under its server's nose

MethodT = TypeVar("MethodT", bound=Callable[..., None])


def harmless(method: MethodT) -> MethodT:
    """Make a method that raises nothing but interrupts: nothing that goes wrong here may fail a message."""

    @wraps(method)
    def shielded(*arguments: Any, **keywords: Any) -> None:
        try:
            method(*arguments, **keywords)
        except Exception as error:
            if not is_defect(error):
                raise
            report(method.__name__)

    return shielded  # type: ignore[return-value]


def surely(method: MethodT) -> MethodT:
    """Make a harmless method that is done again where an exception came in between: twice is as good as once."""

    @wraps(method)
    def shielded(*arguments: Any, **keywords: Any) -> None:
        try:
            method(*arguments, **keywords)
        except BaseException as error:
            harmless(method)(*arguments, **keywords)
            if not is_defect(error):
                raise
            report(method.__name__)

    return shielded  # type: ignore[return-value]


def ends_lease(method: MethodT) -> MethodT:
    """Make a harmless method after which the borrower of a slot has it no more, whatever happens in between."""

    @wraps(method)
    def shielded(self: SharedState, slot: Slot, *arguments: Any, **keywords: Any) -> None:
        lent = slot.borrower
        try:
            method(self, slot, *arguments, **keywords)
        except BaseException as error:
            self.give_up(slot, lent)
            if not is_defect(error):
                raise
            report(method.__name__)

    return shielded  # type: ignore[return-value]


def report(what: str) -> None:
    """Log an exception that nobody else will hear of."""
    records.write(logger, logging.WARNING, "A defect in the pool: %s failed", what, exc_info=True)


class SharedState(ABC):
    """What all threads share of a pool."""

    def __init__(
        self, options: PoolOptions, *, name: str, clock: Clock, observer: Observer, caretaker: Caretaker
    ) -> None:
        self.options = options
        self.name = name
        self._clock = clock
        self._observer = observer
        self._caretaker = caretaker
        self.rate_left: Callable[[], Mapping[str, int]] = dict  # set by whoever knows the rate limit
        self._start_over()

    def _start_over(self) -> None:
        self._started_at = self._clock.monotonic()
        self._lock = threading.RLock()
        self._state = State(options=self.options, ceiling=self.options.max_connections)  # guarded by: _lock
        self._state.when_lost = self._ask_for_a_look
        self._counters: Counter[str] = Counter()  # guarded by: _lock
        self._gauges = gauges(self._state)
        self._due: float | None = None
        self._alarms: set[Alarm] = set()  # of threads that wait for the pool to be drained or closed
        self._elder: SharedState | None = None
        self._heir: SharedState | None = None
        self._passed_on: int | None = None  # what the heir was told last
        self._late: deque[Callable[[], None]] = deque()  # wanted by code that ran in the middle of ours
        self._news: deque[Event] = deque()

    # -- changing --------------------------------------------------------------------------------------

    @property
    def _is_inside(self) -> bool:
        """Whether this thread holds the lock: we run in the middle of its work."""
        return self._lock._is_owned()  # type: ignore[attr-defined, no-any-return]

    def _change(self, change: Callable[..., object], *arguments: Any) -> None:
        """Make a change, settle what follows from it, and do that; later, where we run in the middle of another."""
        if self._is_inside:
            self._late.append(partial(self._apply, change, *arguments))
            return
        self._apply(change, *arguments)
        self._carry_out()

    def _apply(self, change: Callable[..., object], *arguments: Any) -> None:
        """Make a change and decide; whoever calls it does what was decided."""
        with self._lock:
            change(*arguments)
            self._settle()

    def _settle(self) -> None:
        """Decide; the lock is held."""
        now, state = self._clock.monotonic(), self._state
        policy.decide(state, now)
        self._due = policy.next_look(state, now)
        self._gauges = gauges(state)
        while state.lessons.news:
            what, why = state.lessons.news.pop(0)
            self._note(Learnt, what=what, why=why)
        if self._heir is not None and self._passed_on != state.occupied:
            self._late.append(partial(self._heir.count_elders, state.occupied))
            self._passed_on = state.occupied
        if self._alarms:
            self._wake_all()

    def _wake_all(self) -> None:
        for alarm in tuple(self._alarms):
            alarm.wake()

    # -- doing -----------------------------------------------------------------------------------------

    def _carry_out(self) -> None:
        while self._state.todo or self._late:
            self._do_next(self._state.todo or self._late)
        if self._due is not None:
            self._ask_for_a_look(self._due)

    def _do_next(self, queue: deque[Any]) -> None:
        """Do what is next; again, where an exception came in between, since nobody else knows of it."""
        mine: list[Any] = []
        try:
            # One step of the interpreter: no interrupt comes between taking it and having it.
            mine.extend(map(deque.popleft, (queue,)))
            self._do(mine[0])
            mine.clear()
        except Exception as error:
            if not is_defect(error):
                raise
            if mine:  # else another thread took the last one
                harmless(self._do)(mine.pop())
                report("what was decided")
        finally:
            if mine:
                queue.appendleft(mine[0])

    def _ask_for_a_look(self, due: float = float("-inf")) -> None:
        """See to it that somebody looks; called under any lock, by finalisers too."""
        self._caretaker.watch(self, due)

    def _do(self, action: Action | Callable[[], None]) -> None:
        if isinstance(action, Grant):
            self._grant(action)
        elif isinstance(action, Refuse):
            action.waiter.refuse(action.error)
        elif isinstance(action, Close):
            self._see_off(action.slot, action.reason)
        elif isinstance(action, Sever):
            self._caretaker.sever(action.slot.connection)
        elif isinstance(action, Dial):
            self._start_dialling(action)
        elif callable(action):
            action()
        elif self._elder is not None:
            self._elder.hurry()

    def _grant(self, action: Grant) -> None:
        if action.slot.is_lent_to(action.waiter) and not action.waiter.grant(action.slot):
            self._apply(self._put_back_ungranted, action)

    def _put_back_ungranted(self, action: Grant) -> None:
        if action.slot.is_lent_to(action.waiter):
            self._put_back_unused(action.slot)

    def _put_back_unused(self, slot: Slot) -> None:
        if slot.connection is None:
            policy.give_up(self._state, slot, "not needed")
        else:
            policy.put_back(self._state, slot, slot.messages, slot.idle_since)

    def _see_off(self, slot: Slot, reason: str) -> None:
        """Let a connection say QUIT, or close it; may be done twice, where an interrupt came."""
        if slot not in self._state.leaving:
            return
        connection: PooledConnection = slot.connection
        if reason == "stale" or not self._says_quit(slot, connection):
            connection.close()
            self._apply(partial(policy.left, forced=reason in BY_FORCE), self._state, slot, self._clock.monotonic())
        self._note(Closed, connection=connection.number, reason=reason, messages=connection.messages)

    def _says_quit(self, slot: Slot, connection: PooledConnection) -> bool:
        try:
            if connection.in_step:
                self._caretaker.see_off(connection, partial(self.left, slot))
                return True
        except Exception as error:
            if not is_defect(error):
                raise
            report("saying goodbye")
        return False

    @abstractmethod
    def _start_dialling(self, dial: Dial) -> None:
        """Open a connection that nobody waits for, in a thread of its own."""

    @surely
    def give_up(self, slot: Slot, lent: object) -> None:
        """Close what is in a slot, unless it has come back and has been `lent` to somebody else since."""
        self._change(self._give_up, slot, lent)

    def _give_up(self, slot: Slot, lent: object) -> None:
        if slot.borrower is None or slot.borrower is lent:
            policy.give_up(self._state, slot, "interrupted")

    @surely
    def left(self, slot: Slot) -> None:
        """Hear that the server has let go of a connection."""
        self._change(policy.left, self._state, slot, self._clock.monotonic())

    # -- the pool before this one ----------------------------------------------------------------------

    def follow(self, elder: SharedState) -> None:
        """Count the connections of a closed pool as ours until they have gone: the server does."""
        self._elder = elder
        elder._pass_on_to(self)
        self._carry_out()

    def _pass_on_to(self, heir: SharedState) -> None:
        self._heir, self._passed_on = heir, None
        self._change(lambda: None)

    @surely
    def count_elders(self, number: int) -> None:
        """Hear how many connections the pool before this one still has.

        The caretaker makes the change: this pool may have an heir too, and so on, deeper than the stack.
        """
        self._late.append(partial(self._apply, self._set_elders, number))
        self._ask_for_a_look()

    def _set_elders(self, number: int) -> None:
        self._state.elders = number
        if not number:
            self._elder = None

    def hurry(self) -> None:
        """Spend no longer on goodbyes than while somebody waits for their places."""
        self._state.is_needed = True
        self._change(lambda: None)

    # -- telling ---------------------------------------------------------------------------------------

    def tidy(self) -> float | None:
        """Look: close what is idle or old, serve whom a pause kept waiting; return the instant to look again."""
        self._change(lambda: None)
        return self._due

    def _note(self, kind: type[Event], **fields: Any) -> None:
        """Keep an event until observers can be told, if one of them hears it."""
        if self._observer.hears(kind):
            self._news.append(kind(server=self.name, **fields))

    @property
    def has_news(self) -> bool:
        """Whether observers have not been told everything."""
        return bool(self._news)

    def tell(self) -> None:
        """Tell observers what has happened; raises nothing but interrupts."""
        while self._news:
            try:
                event = self._news.popleft()
            except IndexError:  # another thread tells it
                return
            try:
                self._observer.notice(event)
            except Exception as error:
                if from_signal_handler(error):
                    raise
                report("an observer")

    def _tell_if_free(self) -> None:
        """Tell observers, unless this thread holds a place: it does when it has given that back."""
        if self._news and not self._is_inside and not self._holds_a_place():
            self.tell()

    def _holds_a_place(self) -> bool:
        own = threading.get_ident()
        with self._lock:
            return any(slot.thread == own for slot in self._state.everything_out())

    @harmless
    def count(self, what: str, number: int = 1) -> None:
        """Add to a counter of `stats()`."""
        if self._is_inside:
            self._late.append(partial(self.count, what, number))
            return
        with self._lock:
            self._counters[what] += number

    def stats(self) -> Stats:
        """Return an immutable snapshot; the last one, where this thread is in the middle of changing the figures."""
        if self._is_inside:
            return self._snapshot(self._gauges)
        with self._lock:
            return self._snapshot(gauges(self._state))

    def _snapshot(self, now: Gauges) -> Stats:
        return snapshot(now, self._state.lessons.why, self._counters, self._state.closed_for, self.rate_left())
