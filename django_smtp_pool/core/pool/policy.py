"""Who gets which connection when. Pure: no lock, no clock, no I/O, no knowledge of what a connection is.

What happens is written into `State` by the small functions below; after each, `decide` looks at the whole and
is the only place that changes who owns what. It returns what there is to do, and the pool does it.

An interrupt (Ctrl-C, a killed thread) may come between any two of these changes. So whoever has a slot is known by a
weak reference, what moves is entered at its new place before it leaves the old one, and `decide` begins by taking
back what belongs to nobody.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from ..errors import PoolClosed, PoolTimeout
from ..options.options import PoolOptions
from .learning import Incident, Lessons
from .slots import Action, Close, Dial, Grant, Place, Refuse, Slot, Waiter

IN_USE = 600.0  # seconds since the last message during which `min_connections` are kept open
SPARE_PAUSE = 30.0  # seconds after a failed dial before one that nobody waits for
CLOCK_JUMP = 10.0  # seconds between wall and monotonic time that tell of a suspended machine


@dataclass(kw_only=True)
class State:
    """The pool at one moment."""

    options: PoolOptions
    ceiling: int
    idle: list[Slot] = field(default_factory=list)  # the last one was used last
    out: set[Slot] = field(default_factory=set)  # dialling or busy
    waiting: deque[Waiter] = field(default_factory=deque)
    closing: list[Close] = field(default_factory=list)
    closed: bool = False
    used_at: float = float("-inf")
    dial_failed_at: float = float("-inf")
    clock_offset: float | None = None
    lessons: Lessons = field(default_factory=Lessons)

    @property
    def occupied(self) -> int:
        """Places taken: connecting, busy and idle together; never above the ceiling by our doing."""
        return len(self.idle) + len(self.out)

    @property
    def ceiling_in_force(self) -> int:
        """The ceiling, or what the server was found to allow."""
        learnt = self.lessons.ceiling
        return self.ceiling if learnt is None else min(self.ceiling, learnt)

    @property
    def alive(self) -> int:
        """Connections that work."""
        return len(self.idle) + self.count(Place.BUSY)

    def count(self, place: Place) -> int:
        """Return how many slots are in a place."""
        return len(self.idle) if place is Place.IDLE else sum(slot.place is place for slot in self.out)


# -- what happens -----------------------------------------------------------------------------------------


def queue_up(state: State, waiter: Waiter, now: float, *, first: bool = False) -> None:
    """Somebody wants a connection; `first` for one who was served with a dead one."""
    state.used_at = now
    if first:
        state.waiting.appendleft(waiter)
    else:
        state.waiting.append(waiter)


def connected(state: State, slot: Slot, connection: Any, expires_at: float | None) -> None:
    """A dial has succeeded; the slot stays with who dialled."""
    slot.connection, slot.place, slot.expires_at = connection, Place.BUSY, expires_at
    state.lessons.logged_in()


def put_back(state: State, slot: Slot, messages: int, now: float) -> None:
    """A connection comes back in good order."""
    if slot in state.out:
        state.idle.append(slot)
        slot.place, slot.messages, slot.idle_since, slot.holder = Place.IDLE, messages, now, None
        state.out.remove(slot)


def give_up(state: State, slot: Slot, reason: str) -> None:
    """A connection is of no use any more, or a place in which none was opened."""
    if slot in state.out:
        state.out.remove(slot)
        if slot in state.idle:  # interrupted on its way back
            state.idle.remove(slot)
        if slot.connection is not None:
            state.closing.append(Close(slot, reason))


def drop(state: State, borrower: object) -> None:
    """Somebody was interrupted: what is lent to him is of no use any more."""
    for slot in [slot for slot in state.out if slot.is_lent_to(borrower)]:
        give_up(state, slot, "interrupted")


def dial_failed(state: State, slot: Slot, now: float) -> None:
    """A dial has failed: spares wait a while, or a server that is down would be dialled as fast as it refuses."""
    state.dial_failed_at = now
    give_up(state, slot, "failed to open")


def learn(state: State, slot: Slot, error: BaseException | None, now: float) -> None:
    """Something has failed on a connection, or on the way to one; or it has gone well."""
    found = getattr(slot.connection, "found_limit", None)
    if found is not None:
        slot.connection.found_limit = None
        carried, reply = found
        state.lessons.limit_found(carried, reply, now)
    if error is None:
        state.lessons.sent(now)
        return
    carried = getattr(slot.connection, "messages", 1) - 1
    incident = Incident(
        error=error,
        stage=getattr(error, "stage", None),
        reply=getattr(error, "reply", None),
        alive=state.alive - (slot.place is Place.BUSY),
        carried=max(0, carried),
        idled=max(0.0, slot.busy_since - slot.idle_since) if slot.idle_since else 0.0,
    )
    state.lessons.learn(incident, now)


def died_idle(state: State, slot: Slot, now: float) -> None:
    """A connection was found dead when it was to be used again."""
    if slot.idle_since:
        state.lessons.died_idle(now - slot.idle_since, now)
    give_up(state, slot, "stale")


def suspect(state: State, slot: Slot) -> None:
    """A connection turned out to be dead: those that were idle for as long are taken for dead as well."""
    for other in [other for other in state.idle if other.idle_since <= slot.idle_since]:
        _retire(state, other, "stale")


def look_at_clocks(state: State, monotonic: float, wall: float) -> None:
    """Discard idle connections where the two clocks have drifted apart: the machine was asleep."""
    offset = wall - monotonic
    if state.clock_offset is not None and abs(offset - state.clock_offset) > CLOCK_JUMP:
        retire_idle(state, "clock jump")
    state.clock_offset = offset


def retire_idle(state: State, reason: str) -> None:
    """Close every idle connection."""
    for slot in list(state.idle):
        _retire(state, slot, reason)


def _retire(state: State, slot: Slot, reason: str) -> None:
    state.idle.remove(slot)
    state.out.discard(slot)  # interrupted on its way
    state.closing.append(Close(slot, reason))


# -- what to do about it ----------------------------------------------------------------------------------


def decide(state: State, now: float) -> list[Action]:
    """Settle who owns what now, and return what there is to do, in order."""
    _take_back_abandoned(state)
    state.lessons.pass_time(now, state.ceiling)
    _retire_worn_out(state, now)
    actions: list[Action] = []
    if state.closed:
        retire_idle(state, "pool closed")
        actions += [Refuse(waiter, PoolClosed("the pool was closed")) for waiter in state.waiting]
        state.waiting.clear()
    while state.waiting and now >= state.lessons.paused_until:
        action = _serve_first(state, now)
        if action is None:
            break
        actions.append(action)
    if (starved_one := _starved_by_batches(state)) is not None:
        state.waiting.remove(starved_one)
        actions.append(Refuse(starved_one, starved()))
    if _is_short_of_spares(state, now):
        actions.append(_spare(state))
    actions[:0] = state.closing
    state.closing.clear()
    return actions


def _take_back_abandoned(state: State) -> None:
    for slot in [slot for slot in state.out if slot.is_abandoned]:
        give_up(state, slot, "abandoned")


def _serve_first(state: State, now: float) -> Grant | Refuse | None:
    """Serve the first in line; None where he has to wait."""
    waiter = state.waiting[0]
    if state.idle and not waiter.fresh:
        slot = state.idle[-1]
        slot.place, slot.busy_since = Place.BUSY, now
        grant = _grant(state, slot)
        state.idle.pop()
        return grant
    is_full = state.occupied >= state.ceiling_in_force
    makes_room = is_full and waiter.fresh and bool(state.idle)
    if is_full and state.alive and not makes_room:
        return None
    if (error := state.lessons.refusal(now)) is not None:
        # No login for a while: whoever can use a connection that works waits for it.
        return None if state.alive and not waiter.fresh else Refuse(state.waiting.popleft(), error)
    if makes_room:
        _retire(state, state.idle[0], "replaced")
    return _grant(state, Slot()) if state.occupied < state.ceiling_in_force else None


def _grant(state: State, slot: Slot) -> Grant:
    waiter = state.waiting[0]
    slot.holder = waiter.holder
    slot.lend_to(waiter)
    state.out.add(slot)
    state.waiting.popleft()
    return Grant(waiter, slot)


def _starved_by_batches(state: State) -> Waiter | None:
    """Return one who must give up: every place is held by batches whose threads stand in line themselves."""
    blocked = {waiter.blocks for waiter in state.waiting} - {None}
    if not blocked or not state.out or not all(slot.holder in blocked for slot in state.out):
        return None
    return next(waiter for waiter in state.waiting if any(waiter.blocks == slot.holder for slot in state.out))


def starved() -> PoolTimeout:
    """Return the error of one who would wait for his own thread."""
    return PoolTimeout(
        "every connection of the pool is busy with a batch of this same thread, which cannot go on while the "
        "thread waits: send mail from signal receivers and attachments after the batch, or set "
        "batch_connections below max_connections"
    )


def _spare(state: State) -> Dial:
    dial = Dial(Slot())
    dial.slot.lend_to(dial)
    state.out.add(dial.slot)
    return dial


def _is_short_of_spares(state: State, now: float) -> bool:
    wanted = min(state.options.min_connections, state.ceiling_in_force)
    if state.closed or state.occupied >= wanted or now - state.used_at >= IN_USE:
        return False
    # One dial at a time, and none at once after a failure.
    return state.count(Place.DIALLING) == 0 and now - state.dial_failed_at >= SPARE_PAUSE


def _retire_worn_out(state: State, now: float) -> None:
    idle_timeout, most = _idle_timeout(state), _most_messages(state)
    for slot in list(state.idle):
        if slot.messages >= most or slot.messages >= (getattr(slot.connection, "message_limit", None) or most):
            _retire(state, slot, "max_messages")
        elif slot.expires_at is not None and now >= slot.expires_at:
            _retire(state, slot, "max_lifetime")
        elif now >= slot.idle_since + idle_timeout and not _is_spare(state, now):
            _retire(state, slot, "idle_timeout")
    # Not for the sake of dials under way: those beyond what the server allows will be refused.
    while state.idle and len(state.idle) + state.count(Place.BUSY) > state.ceiling_in_force:
        _retire(state, state.idle[0], "ceiling lowered")


def _is_spare(state: State, now: float) -> bool:
    """Tell whether an idle connection is kept all the same, for `min_connections`."""
    return state.occupied <= state.options.min_connections and now - state.used_at < IN_USE


def _most_messages(state: State) -> float:
    return min(state.options.max_messages or float("inf"), state.lessons.max_messages or float("inf"))


def _idle_timeout(state: State) -> float:
    learnt = state.lessons.idle_timeout
    return min(state.options.idle_timeout or float("inf"), learnt if learnt is not None else float("inf"))


def next_look(state: State, now: float) -> float | None:
    """Return the instant at which there is something to decide although nothing happens, None for never."""
    lessons = state.lessons
    instants = [lessons.paused_until, lessons.raise_at, lessons.probe_at] if state.waiting else []
    instants = [instant for instant in instants if now < instant < float("inf")]
    idle_timeout = _idle_timeout(state)
    for slot in state.idle:
        if slot.expires_at is not None:
            instants.append(slot.expires_at)
        if idle_timeout < float("inf"):
            due = slot.idle_since + idle_timeout
            # One that is overdue is kept for `min_connections`: until the pool falls out of use.
            instants.append(due if due > now else state.used_at + IN_USE)
    return min(instants, default=None)
