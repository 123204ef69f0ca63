"""The state of a pool behind its lock, and the actions that follow from each change.

Under the lock, a thread changes the state (`_apply`), and `policy.decide` queues actions (`_settle`). After the lock is
released, it carries them out (`_carry_out`): grant a slot to a waiter, close a connection, start a dial. While the lock
is held, no code logs, sends signals, opens or closes connections, calls user code or frees objects.

A signal handler, a finaliser or a tracer may run between any two lines, and use the pool while this same thread holds
the lock. To wait would be a deadlock, and a change in the middle of another one would break the state. So the lock
knows its owner (`RLock`), and a second entry only adds its change to `_late`, for the time after the lock is released.

Observers come last (`tell`), when this thread holds no slot of the pool: they may be slow, or send mail themselves.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..clock import Alarm, Clock
from ..events.events import Closed, Event, Learnt, Observer
from ..interrupts import from_signal_handler, is_defect
from ..options.options import PoolOptions
from . import policy
from .housekeeper import Housekeeper
from .shielding import harmless, report, surely
from .slots import Action, Close, DialSpare, Lend, PooledConnection, Refuse, Sever, Slot, Waiter
from .state import State
from .stats import Stats, snapshot

logger = logging.getLogger("django_smtp_pool.pool")

BY_FORCE = {"interrupted", "abandoned"}  # reasons for which a connection is closed without QUIT


class SharedState(ABC):
    """The part of a pool that all threads share."""

    def __init__(
        self, options: PoolOptions, *, name: str, clock: Clock, observer: Observer, housekeeper: Housekeeper
    ) -> None:
        self.options = options
        self.name = name
        self._clock = clock
        self._observer = observer
        self._housekeeper = housekeeper
        self.rate_left: Callable[[], Mapping[str, int]] = dict  # set by the owner of the rate limit
        self._start_over()

    def _start_over(self) -> None:
        self._started_at = self._clock.monotonic()
        self._lock = threading.RLock()
        self._state = State(options=self.options, ceiling=self.options.max_connections)  # guarded by: _lock
        self._state.when_lost = self._ask_for_a_look
        self._counters: Counter[str] = Counter()  # guarded by: _lock
        self._due: float | None = None
        self._alarms: set[Alarm] = set()  # of threads that wait for the pool to be drained or closed
        # The pools before this one, itself, and those after it; a dict, because each step of its changes is atomic.
        self._generations: dict[SharedState, None] = {self: None}
        self._shown: tuple[int, bool] | None = None  # what the others know: the number of connections, `can_hurry`
        self._late: deque[Callable[[], None]] = deque()  # changes requested while this thread held the lock
        self._news: deque[Event] = deque()

    # -- changing --------------------------------------------------------------------------------------

    @property
    def _is_inside(self) -> bool:
        """Whether this thread holds the lock: the caller has interrupted the pool's own code."""
        return self._lock._is_owned()  # type: ignore[attr-defined, no-any-return]

    def _change(self, change: Callable[..., object], *arguments: Any) -> None:
        """Make a change and carry out what follows from it; later, if this interrupts another change."""
        if self._is_inside:
            self._late.append(partial(self._apply, change, *arguments))
            return
        self._apply(change, *arguments)
        self._carry_out()

    def _apply(self, change: Callable[..., object], *arguments: Any) -> None:
        """Make a change and decide; the caller carries out the decisions."""
        with self._lock:
            self._state.complete()
            change(*arguments)
            self._settle()

    def _settle(self) -> None:
        """Decide; the lock is held."""
        now, state = self._clock.monotonic(), self._state
        if len(self._generations) > 1:
            self._count_others()
        self._due = policy.decide(state, now)
        while state.lessons.news:
            what, why = state.lessons.news.pop(0)
            self._note(Learnt, what=what, why=why)
        if len(self._generations) > 1:
            self._let_others_look()
        if self._alarms:
            self._wake_all()

    def _wake_all(self) -> None:
        for alarm in tuple(self._alarms):
            alarm.wake()

    # -- doing -----------------------------------------------------------------------------------------

    def _carry_out(self, *, alone: bool = False) -> None:
        while self._state.todo or self._late:
            self._do_next(self._state.todo or self._late)
        if self._due is not None:
            self._housekeeper.watch(self, self._due)
        if alone or (len(self._generations) == 1 and self in self._generations):
            return
        for other in self._others():  # `_late` may have had a change for it, also after this one was forgotten
            other._carry_out(alone=True)

    def _do_next(self, queue: deque[Any]) -> None:
        """Carry out the next action; try again after an exception, because only this thread has the action."""
        mine: list[Any] = []
        try:
            # One instruction of the interpreter: no interrupt can occur between removing and storing the action.
            mine.extend(map(deque.popleft, (queue,)))
            self._do(mine[0])
            mine.clear()
        except Exception as error:
            if not is_defect(error):
                raise
            if mine:  # otherwise another thread took the last one
                harmless(self._do)(mine.pop())
                report("what was decided")
        finally:
            if mine:
                queue.appendleft(mine[0])

    def _ask_for_a_look(self, due: float = float("-inf")) -> None:
        """Let the housekeeper call `tidy` at an instant; may be called under any lock, also by finalisers."""
        self._housekeeper.watch(self, due)

    def _do(self, action: Action | Callable[[], None]) -> None:
        if isinstance(action, Lend):
            self._grant(action)
        elif isinstance(action, Refuse):
            action.waiter.refuse(action.error)
        elif isinstance(action, Close):
            self._see_off(action.slot, action.reason)
        elif isinstance(action, Sever):
            action.slot.connection.sever()  # at once: the housekeeper may be paused
            self._housekeeper.sever(action.slot.connection)
        elif isinstance(action, DialSpare):
            self._start_dialling(action)
        elif callable(action):
            action()
        else:
            for other in self._others():
                other.hurry()

    def _grant(self, action: Lend) -> None:
        if action.slot.is_lent_to(action.waiter) and not action.waiter.grant(action.slot):
            self._apply(self._put_back_ungranted, action.waiter, action.slot)

    def _put_back_ungranted(self, waiter: Waiter, slot: Slot) -> None:
        if not slot.is_lent_to(waiter):  # this was done before an interrupt
            return
        if slot.connection is None:
            policy.give_up(self._state, slot, "not needed")
        else:
            policy.put_back(self._state, slot, slot.messages, slot.idle_since)

    def _see_off(self, slot: Slot, reason: str) -> None:
        """Close a connection, with QUIT if possible; may run twice if an interrupt occurs."""
        connection: PooledConnection = slot.connection
        if slot not in self._state.leaving:  # it has left, or its place was given away before QUIT could be sent
            connection.close()
            return
        if slot.says_quit:
            return
        if reason == "stale" or not self._says_quit(slot, connection):
            connection.close()
            self._apply(partial(policy.left, forced=reason in BY_FORCE), self._state, slot, self._clock.monotonic())
        self._note(Closed, connection=connection.number, reason=reason, messages=connection.messages)

    def _says_quit(self, slot: Slot, connection: PooledConnection) -> bool:
        try:
            if connection.in_step:
                self._housekeeper.see_off(connection, partial(self.left, slot))
                slot.says_quit = True
                return True
        except Exception as error:
            if not is_defect(error):
                raise
            report("closing with QUIT")
        return False

    @abstractmethod
    def _start_dialling(self, dial: DialSpare) -> None:
        """Open a spare connection, in a separate thread."""

    @surely
    def give_up(self, slot: Slot, lent: object) -> None:
        """Close the connection in a slot that cannot be given back as usual, unless the slot is lent to another now."""
        self._change(self._give_up, slot, lent)

    def _give_up(self, slot: Slot, lent: object) -> None:
        if slot.borrower is None or slot.borrower is lent:
            policy.give_up(self._state, slot, "interrupted")

    @surely
    def left(self, slot: Slot) -> None:
        """Record that a connection is closed on both sides."""
        self._change(policy.left, self._state, slot, self._clock.monotonic())

    # -- the pools before and after this one -----------------------------------------------------------

    def follow(self, elder: SharedState) -> None:
        """Take the place of a closed pool: the server counts the connections of both until the old ones are closed.

        All generations have one lock, so each always knows the connections of the others.
        """
        # Without the lock: the thread that holds it may wait for the lock of the registry, which this one holds.
        self._lock, self._late, self._alarms = elder._lock, elder._late, elder._alarms
        self._generations = elder._generations
        self._generations[self] = None  # from now on, the others count this one
        for each in tuple(self._generations):
            each._shown = None  # it may be from a time with other generations

    def _others(self) -> list[SharedState]:
        return [each for each in tuple(self._generations) if each is not self]

    def _count_others(self) -> None:
        everyone = tuple(self._generations)
        for each in everyone[:-1]:  # the last one will be used, unless it is closed as well
            if each is not self and not each.is_in_use:
                self._generations.pop(each, None)
        states = [each._state for each in self._others()]
        self._state.others = sum(state.own for state in states)
        self._state.others_can_hurry = any(map(policy.can_hurry, states))

    def _let_others_look(self) -> None:
        """Let the others decide if this one has fewer connections now, or could free a slot for them."""
        before, self._shown = self._shown, (self._state.own, policy.can_hurry(self._state))
        if before is None or self._shown[0] < before[0] or self._shown[1] > before[1]:
            for each in self._others():
                if each._state.waiting or each._state.options.min_connections:
                    each._ask_for_a_look()

    def hurry(self) -> None:
        """Free a slot soon, because another generation needs it."""
        if policy.can_hurry(self._state):
            self._change(policy.hurry, self._state)

    @property
    @abstractmethod
    def is_in_use(self) -> bool:
        """Whether the pool has a connection, a waiter or a user."""

    # -- observers and statistics ----------------------------------------------------------------------

    def tidy(self) -> float | None:
        """Close what is idle or old, and serve waiters after a pause; return the instant to call this again."""
        self._change(lambda: None)
        return self._due

    def _note(self, kind: type[Event], **fields: Any) -> None:
        """Keep an event until observers can be notified, if one of them wants it."""
        if self._observer.hears(kind):
            self._news.append(kind(server=self.name, **fields))

    @property
    def has_news(self) -> bool:
        """Whether there are events that observers have not received."""
        return bool(self._news)

    def tell(self) -> None:
        """Pass the events to the observers; raises only interrupts."""
        while self._news:
            try:
                event = self._news.popleft()
            except IndexError:  # another thread took the last one
                return
            try:
                self._observer.notice(event)
            except Exception as error:
                if from_signal_handler(error):
                    raise
                report("an observer")

    def _tell_if_free(self) -> None:
        """Notify observers, unless this thread holds a slot; then it notifies them after giving that slot back."""
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
        if self._late:
            self._carry_out_late()

    def _carry_out_late(self) -> None:
        """Carry out what has waited for the lock, after it was held without a change."""
        if self._late and not self._is_inside:
            self._carry_out()

    def stats(self) -> Stats:
        """Return an immutable snapshot; it is true even if this thread is in the middle of a change."""
        rate_left = self.rate_left()  # it takes another lock, which must not be taken under this one
        with self._lock:
            found = snapshot(self._state, self._counters, rate_left)
        self._carry_out_late()
        return found
