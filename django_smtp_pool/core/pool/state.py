"""The books of a pool: who is in line, and which slot is where. Pure, and no step takes longer with their number.

What is counted is the size of a container, and never a number beside it: an interrupt may come between any two lines.
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
        self._threads: dict[int, Waiter] = {}  # threads that block, each with its waiter

    def join(self, waiter: Waiter, *, first: bool = False) -> None:
        """Add a waiter at the end, or in front."""
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
    """When idle connections end, the soonest first. An entry may be out of date; it is dropped when it is come to."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Slot]] = []
        self._number = 0

    def add(self, slot: Slot, most: int) -> None:
        """Watch a slot; where entries are more than twice `most`, those that are out of date are dropped."""
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
            slot.is_listed = False  # it is listed again when it comes back
            heapq.heappop(self._heap)
        return None


@dataclass(kw_only=True)
class State:
    """The pool at one moment.

    Arguments:
        idle: the last one was used last, and the first one has been idle for longest.
        leaving: connections that say QUIT, and since when; the server still counts them.
        elders: connections of the pool before this one, which the server counts too.
        is_needed: the pool after this one waits for places that ours hold.
        lost: slots whose borrowers are no more; `when_lost` is called at any moment, under any lock.
        todo: decided and not done yet; what an interrupted thread left is done by the next.
        closed_for: why connections were closed, and how often.
        spared: threads that have closed the pool from inside a send, which may go on.
        used_at: instant (monotonic) of the last request.
        retire_at: no idle connection is old enough to be closed before this instant.
    """

    options: PoolOptions
    ceiling: int
    idle: OrderedDict[Slot, None] = field(default_factory=OrderedDict)
    dialling: set[Slot] = field(default_factory=set)
    busy: set[Slot] = field(default_factory=set)
    leaving: OrderedDict[Slot, float] = field(default_factory=OrderedDict)
    elders: int = 0
    is_needed: bool = False
    has_hurried: bool = False
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
        """Learn with patience: a pause that outlasts those who wait would cost them their messages."""
        self.lessons = Lessons(longest_pause=min(LONGEST_PAUSE, self.options.acquire_timeout / 2))

    @property
    def occupied(self) -> int:
        """Places taken, as the server counts them; never above the ceiling by our doing."""
        return len(self.idle) + len(self.busy) + len(self.dialling) + len(self.leaving) + self.elders

    @property
    def out(self) -> int:
        """How many slots somebody has: dialling or busy."""
        return len(self.dialling) + len(self.busy)

    @property
    def ceiling_in_force(self) -> int:
        """The ceiling, or what the server was found to allow."""
        learnt = self.lessons.ceiling
        return self.ceiling if learnt is None else min(self.ceiling, learnt)

    @property
    def alive(self) -> int:
        """Connections that work."""
        return len(self.idle) + len(self.busy)

    def lend(self, slot: Slot, borrower: object) -> None:
        """Leave a slot to a borrower, until it gives the slot back or is no more."""

        def no_more(_: object) -> None:
            self.lost.append(slot)
            self.when_lost()

        slot.borrower = weakref.ref(borrower, no_more)

    def is_out(self, slot: Slot) -> bool:
        """Tell whether somebody has a slot."""
        return slot in self.busy or slot in self.dialling

    def everything_out(self) -> Iterator[Slot]:
        """Return what somebody has, one by one; for what happens rarely."""
        return chain(self.busy, self.dialling)  # no generator: one that is left half-way runs code when it is dropped

    def count(self, place: Place) -> int:
        """Return how many slots are in a place."""
        return len({Place.IDLE: self.idle, Place.BUSY: self.busy, Place.DIALLING: self.dialling}[place])
