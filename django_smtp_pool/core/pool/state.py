"""The state of a pool: the waiters in line, and the state of each slot. Pure; no step takes longer with their number.

Counts are sizes of containers, not separate numbers, which an interrupt between two lines could make wrong.
"""

from __future__ import annotations

import heapq
import weakref
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from ..options.options import PoolOptions
from .learning import LONGEST_PAUSE, Lessons
from .slots import Action, Place, Slot, Waiter


class Line(OrderedDict[Waiter, None]):
    """The waiters, in the order in which they came."""

    def __init__(self) -> None:
        super().__init__()
        self._threads: dict[int, Waiter] = {}  # blocking threads, each with its waiter

    def join(self, waiter: Waiter, *, first: bool = False) -> None:
        """Add a waiter at the end, or at the front."""
        self[waiter] = None
        if first:
            self.move_to_end(waiter, last=False)
        if waiter.blocks is not None:
            self._threads[waiter.blocks] = waiter

    def leave(self, waiter: Waiter) -> None:
        """Remove a waiter; does nothing if it is not in line."""
        if waiter.blocks is not None and self._threads.get(waiter.blocks) is waiter:
            del self._threads[waiter.blocks]
        self.pop(waiter, None)

    @property
    def first(self) -> Waiter:
        """The waiter to be served next."""
        return next(iter(self))

    def of_thread(self, thread: int | None) -> Waiter | None:
        """Return the waiter for which a thread blocks."""
        return None if thread is None else self._threads.get(thread)


class Lifetimes:
    """The ends of connections by `max_lifetime`, the soonest first. An outdated entry is dropped when it is reached."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Slot]] = []
        self._number = 0

    def add(self, slot: Slot, most: int) -> None:
        """Add a slot; if there are more than about twice `most` entries, first drop the outdated ones."""
        if slot.expires_at is None or slot.is_listed:
            return
        if len(self._heap) > 2 * most + 16:
            self._heap = [entry for entry in self._heap if entry[2].place is Place.IDLE]
            heapq.heapify(self._heap)
        slot.is_listed = True
        self._number += 1
        heapq.heappush(self._heap, (slot.expires_at, self._number, slot))

    def first(self, idle: OrderedDict[Slot, None]) -> tuple[float, Slot] | None:
        """Return the soonest end of an idle connection, and its slot."""
        while self._heap:
            due, _, slot = self._heap[0]
            if slot in idle:
                return due, slot
            slot.is_listed = False  # it is added again when it comes back
            heapq.heappop(self._heap)
        return None


@dataclass(kw_only=True)
class State:
    """The pool at one moment.

    Arguments:
        idle: idle connections; the first has been idle for longest, the last was used last.
        leaving: connections that are being closed with QUIT, and since when; the server still counts them.
        others: the number of connections of the pools before and after this one, which the server counts too.
        others_can_hurry: whether one of these pools can free a slot sooner if it is asked.
        is_needed: whether a pool before or after this one waits for a slot that a leaving connection occupies.
        half_done: a change of several lines that an interrupt has cut short, to be made again.
        lost: slots whose borrowers no longer exist. `when_lost` may be called at any moment, under any lock.
        todo: actions that are decided but not done; if a thread is interrupted, the next thread continues.
        closed_for: the number of closed connections, by reason.
        spared: threads that have closed the pool from inside a send, which may still finish.
        used_at: instant (monotonic) of the last request.
        retire_at: no idle connection is old enough to be closed before this instant.
    """

    options: PoolOptions
    ceiling: int
    idle: OrderedDict[Slot, None] = field(default_factory=OrderedDict)
    dialling: set[Slot] = field(default_factory=set)
    busy: set[Slot] = field(default_factory=set)
    leaving: OrderedDict[Slot, float] = field(default_factory=OrderedDict)
    others: int = 0
    others_can_hurry: bool = False
    is_needed: bool = False
    half_done: Callable[[], None] | None = None
    waiting: Line = field(default_factory=Line)
    lost: deque[Slot] = field(default_factory=deque)
    when_lost: Callable[[], None] = lambda: None
    todo: deque[Action] = field(default_factory=deque)
    closed_for: Counter[str] = field(default_factory=Counter)
    closed: bool = False
    spared: set[int | None] = field(default_factory=set)
    used_at: float = float("-inf")
    retire_at: float = float("inf")
    dial_failed_at: float = float("-inf")
    clock_offset: float | None = None
    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    lessons: Lessons = field(init=False)

    def __post_init__(self) -> None:
        """Limit learnt pauses: with a pause longer than `acquire_timeout`, waiters would time out."""
        self.lessons = Lessons(longest_pause=min(LONGEST_PAUSE, self.options.acquire_timeout / 2))

    def complete(self) -> None:
        """Make the change again that an interrupt has cut short, if there is one."""
        if self.half_done is not None:
            self.half_done()

    @property
    def own(self) -> int:
        """How many connections of this pool the server counts."""
        return len(self.idle) + len(self.busy) + len(self.dialling) + len(self.leaving)

    @property
    def occupied(self) -> int:
        """How many connections the server counts; this client never exceeds the ceiling."""
        return self.own + self.others

    @property
    def out(self) -> int:
        """How many slots are lent: dialling or busy."""
        return len(self.dialling) + len(self.busy)

    @property
    def ceiling_in_force(self) -> int:
        """The ceiling, or the lower limit of the server that was learnt."""
        learnt = self.lessons.ceiling
        return self.ceiling if learnt is None else min(self.ceiling, learnt)

    @property
    def alive(self) -> int:
        """How many connections are open and not leaving."""
        return len(self.idle) + len(self.busy)

    def lend(self, slot: Slot, borrower: object) -> None:
        """Lend a slot to a borrower, until it gives the slot back or no longer exists."""

        def no_more(_: object) -> None:
            self.lost.append(slot)
            self.when_lost()

        slot.borrower = weakref.ref(borrower, no_more)

    def is_out(self, slot: Slot) -> bool:
        """Return whether a slot is lent."""
        return slot in self.busy or slot in self.dialling

    def everything_out(self) -> Iterator[Slot]:
        """Return all slots that are lent, one by one; only for rare cases, since it takes longer with their number."""
        return chain(self.busy, self.dialling)  # not a generator: an unfinished generator runs code when it is freed

    def count(self, place: Place) -> int:
        """Return how many slots are in a state."""
        return len({Place.IDLE: self.idle, Place.BUSY: self.busy, Place.DIALLING: self.dialling}[place])
