"""Who gets which connection when. Pure: no lock, no clock, no I/O, no knowledge of what a connection is.

What happens is written into `State` by the small functions below; after each, `decide` looks at the whole and
is the only place that changes who owns what. What there is to do is queued, and the pool does it. `next_look` is the
other half: the instant at which `decide` would do something although nothing happens. Whoever waits has either a
slot that will come back or such an instant, and the pool makes sure that somebody looks then.

An interrupt (Ctrl-C, a killed thread) may come between any two of these changes. So whoever has a slot is known by a
weak reference, what moves is entered at its new place before it leaves the old one, and `decide` begins by taking
back what belongs to nobody.

Cost: nothing here looks at all waiters or all idle connections, except where the machine slept or the pool closes.
"""

from __future__ import annotations

from itertools import takewhile
from typing import Any

from ..errors import PoolClosed, Stage
from .learning import Incident
from .retirement import IN_USE, JUST_NOW, close, idle_timeout, longest_idle, retire_idle, retire_worn_out, why_worn_out
from .slots import Dial, Grant, Hurry, Place, Refuse, Sever, Slot, Waiter
from .state import State
from .waiters import starved

SPARE_PAUSE = 30.0  # seconds after a failed dial before one that nobody waits for
CLOCK_JUMP = 10.0  # seconds between wall and monotonic time that show that the machine was asleep
GRACE = 1.0  # seconds for a goodbye while somebody needs the place
LONGEST_FAREWELL = 10.0  # seconds after which a goodbye is over, whatever became of it
AFTER_MAIL = frozenset({Stage.RCPT, Stage.DATA, Stage.CONTENT})


# -- what happens -----------------------------------------------------------------------------------------


def queue_up(state: State, waiter: Waiter, now: float, *, first: bool = False) -> None:
    """Somebody wants a connection; `first` for one that was served with a dead one."""
    state.used_at = now
    state.waiting.join(waiter, first=first)


def connected(state: State, slot: Slot, connection: Any, expires_at: float | None) -> None:
    """A dial has succeeded; the slot stays with who dialled."""
    slot.connection, slot.place, slot.expires_at = connection, Place.BUSY, expires_at
    if slot in state.dialling:
        state.busy.add(slot)
        state.dialling.discard(slot)
    state.lessons.logged_in()


def put_back(state: State, slot: Slot, messages: int, now: float) -> None:
    """A connection comes back in good order."""
    if slot not in state.busy:
        return
    slot.messages = messages
    if (reason := why_worn_out(state, slot, now)) is not None:
        give_up(state, slot, reason)
        return
    state.idle[slot] = None
    slot.place, slot.idle_since, slot.holder, slot.thread = Place.IDLE, now, None, None
    slot.borrower = None
    state.busy.discard(slot)
    due = now + idle_timeout(state)
    if slot.expires_at is not None:
        state.lifetimes.add(slot, state.ceiling)
        due = min(due, slot.expires_at)
    state.retire_at = min(state.retire_at, due)


def lend_again(state: State, slot: Slot, messages: int, now: float, sender: str) -> bool:
    """A message from a sender was accepted: let the borrower go on, unless there is anything to decide."""
    lessons = state.lessons
    if slot not in state.busy or state.waiting or state.closed or state.is_needed:
        return False
    if state.lost or state.alive > state.ceiling_in_force or now < lessons.paused_until:
        return False
    slot.messages = messages
    if why_worn_out(state, slot, now) is not None:
        return False
    lessons.takes_mail_from(sender)
    lessons.sent(now)
    state.used_at = slot.idle_since = slot.busy_since = now
    return True


def give_up(state: State, slot: Slot, reason: str) -> None:
    """A connection is of no use any more, or a place in which none was opened."""
    if state.is_out(slot):
        close(state, slot, reason)


def left(state: State, slot: Slot, now: float, *, forced: bool = False) -> None:
    """A connection has gone, by QUIT or by force: then the server may count it for a moment longer."""
    state.leaving.pop(slot, None)
    if forced:
        state.lessons.forced_at = now


def drop(state: State, borrower: object) -> None:
    """Somebody was interrupted: what is lent to them is of no use any more."""
    for slot in [slot for slot in state.everything_out() if slot.is_lent_to(borrower)]:
        give_up(state, slot, "interrupted")


def dial_failed(state: State, slot: Slot, now: float) -> None:
    """A dial has failed: spares wait a while, or a server that is down would be dialled as fast as it refuses."""
    state.dial_failed_at = now
    give_up(state, slot, "failed to open")


def learn(state: State, slot: Slot, error: BaseException | None, now: float, sender: str | None = None) -> None:
    """Something has failed on a connection, or on the way to one; or it has gone well."""
    found = getattr(slot.connection, "found_limit", None)
    if found is not None:
        slot.connection.found_limit = None
        carried, reply = found
        state.lessons.limit_found(carried, reply, now)
    stage = getattr(error, "stage", None)
    if sender is not None and (error is None or stage in AFTER_MAIL):
        state.lessons.takes_mail_from(sender)
    if error is None:
        state.lessons.sent(now)
        return
    carried = getattr(slot.connection, "messages", 1) - 1
    others = state.alive - (slot in state.busy)
    incident = Incident(
        error=error,
        stage=stage,
        reply=getattr(error, "reply", None),
        alive=others + (len(state.leaving) + state.elders if others else 0),
        carried=max(0, carried),
        idled=max(0.0, slot.busy_since - slot.idle_since) if slot.idle_since else 0.0,
        sender=getattr(error, "sender", sender),
    )
    state.lessons.learn(incident, now)


def died_idle(state: State, slot: Slot, now: float) -> None:
    """A connection was found dead when it was to be used again."""
    if slot.idle_since:
        state.lessons.died_idle(now - slot.idle_since, now)
        state.retire_at = now  # what was learnt may concern those that are idle
    give_up(state, slot, "stale")


def suspect(state: State, slot: Slot) -> None:
    """A connection turned out to be dead: those that were idle for as long are taken for dead as well."""
    while state.idle and longest_idle(state).idle_since <= slot.idle_since:
        close(state, longest_idle(state), "stale")


def look_at_clocks(state: State, monotonic: float, wall: float) -> None:
    """Discard idle connections where the two clocks have drifted apart: the machine was asleep."""
    offset = wall - monotonic
    if state.clock_offset is not None and abs(offset - state.clock_offset) > CLOCK_JUMP:
        retire_idle(state, "clock jump")
    state.clock_offset = offset


# -- what to do about it ----------------------------------------------------------------------------------


def decide(state: State, now: float) -> None:
    """Settle who owns what now; what there is to do is in `state.todo`, in order."""
    _take_back_lost(state)
    lessons = state.lessons
    if now >= lessons.raise_at or now >= lessons.forget_at:
        lessons.pass_time(now, state.ceiling)
    if state.leaving:
        _see_how_long_they_leave(state, now)
    if state.idle:
        retire_worn_out(state, now)
    if state.closed:
        retire_idle(state, "pool closed")
        for waiter in [each for each in state.waiting if each.blocks is None or each.blocks not in state.spared]:
            _refuse(state, waiter, PoolClosed("the pool was closed"))
    while state.waiting and now >= lessons.paused_until and _serve_first(state, now):
        continue
    if state.waiting:
        _help_those_left(state)
    if state.options.min_connections:
        _keep_spares(state, now)
    if state.leaving:
        _see_how_long_they_leave(state, now)


def _help_those_left(state: State) -> None:
    """Refuse a waiter that would wait for itself, and ask the pool before this one for its places."""
    if (starved_one := _starved_by_batches(state)) is not None:
        _refuse(state, starved_one, starved())
    if state.waiting and state.elders and not state.has_hurried and state.occupied >= state.ceiling_in_force:
        state.has_hurried = True
        state.todo.append(Hurry())


def _take_back_lost(state: State) -> None:
    while state.lost:
        slot = state.lost.popleft()
        if slot.is_abandoned:
            give_up(state, slot, "abandoned")


def _see_how_long_they_leave(state: State, now: float) -> None:
    """Write down when those that have just been closed began to leave, and give up those that take too long."""
    for slot in list(takewhile(lambda slot: state.leaving[slot] == JUST_NOW, reversed(state.leaving))):
        state.leaving[slot] = now
    patience = GRACE if state.is_needed else LONGEST_FAREWELL
    while state.leaving and now >= _first_to_leave(state)[1] + patience:
        _sever(state, now)


def _first_to_leave(state: State) -> tuple[Slot, float]:
    return next(iter(state.leaving.items()))


def _sever(state: State, now: float) -> None:
    slot, _ = _first_to_leave(state)
    state.todo.append(Sever(slot))
    left(state, slot, now, forced=True)


def _refuse(state: State, waiter: Waiter, error: BaseException) -> None:
    state.todo.append(Refuse(waiter, error))
    state.waiting.leave(waiter)


def _serve_first(state: State, now: float) -> bool:
    """Serve the first in line, or refuse it; return False where it has to wait."""
    waiter = state.waiting.first
    if state.idle and not waiter.fresh:
        slot = next(reversed(state.idle))
        slot.place, slot.busy_since = Place.BUSY, now
        _grant(state, slot, state.busy)
        state.idle.pop(slot, None)
        return True
    blocked = not state.lessons.may_log_in(now)
    if blocked and (waiter.fresh or not state.alive):
        _refuse(state, waiter, state.lessons.refusal())
        return True
    if waiter.fresh and state.idle and not state.leaving and state.occupied >= state.ceiling_in_force:
        close(state, longest_idle(state), "replaced")
        _see_how_long_they_leave(state, now)
    if blocked or not _has_room(state, now):
        return False
    state.lessons.logs_in(now)
    _grant(state, Slot(since=now), state.dialling)
    return True


def _has_room(state: State, now: float) -> bool:
    """Tell whether one more may be opened; goodbyes that have had their time make room."""
    while state.occupied >= state.ceiling_in_force and state.leaving and now >= _first_to_leave(state)[1] + GRACE:
        _sever(state, now)
    return state.occupied < state.ceiling_in_force


def _grant(state: State, slot: Slot, where: set[Slot]) -> None:
    waiter = state.waiting.first
    slot.holder = waiter.holder
    slot.thread = waiter.blocks if waiter.holder is None else waiter.holder
    state.lend(slot, waiter)
    where.add(slot)
    state.todo.append(Grant(waiter, slot))
    state.waiting.leave(waiter)


def _starved_by_batches(state: State) -> Waiter | None:
    """Return a waiter that must give up: every place is held by batches whose threads stand in line themselves."""
    if not state.out or state.leaving or state.elders:
        return None
    waiter: Waiter | None = None
    for slot in state.everything_out():
        waiter = state.waiting.of_thread(slot.holder)
        if waiter is None:  # this one's thread goes on, and gives it back; mostly it is the first we look at
            return None
    return waiter


def _keep_spares(state: State, now: float) -> None:
    """Open a connection for `min_connections`, and close what is no spare any more beside what was just granted."""
    if _is_short_of_spares(state) and now >= _spare_at(state, now):
        _dial_spare(state, now)
    retire_worn_out(state, now)


def _dial_spare(state: State, now: float) -> None:
    dial = Dial(Slot(since=now))
    state.lend(dial.slot, dial)
    state.dialling.add(dial.slot)
    state.todo.append(dial)


def _is_short_of_spares(state: State) -> bool:
    wanted = min(state.options.min_connections, state.ceiling_in_force)
    # One dial at a time.
    return not state.closed and state.occupied < wanted and not state.dialling and state.lessons.login_error is None


def _spare_at(state: State, now: float) -> float:
    """Return the instant for the next spare: none at once after a failure, none for a pool that nobody uses."""
    at = state.dial_failed_at + SPARE_PAUSE
    return at if max(now, at) - state.used_at < IN_USE else float("inf")


def next_look(state: State, now: float) -> float | None:
    """Return the instant at which there is something to decide although nothing happens, None for never."""
    instants = [state.retire_at] if state.idle else []
    if not (state.waiting or state.leaving or state.options.min_connections):
        return instants[0] if instants and instants[0] < float("inf") else None
    lessons = state.lessons
    if state.waiting:
        instants.append(lessons.paused_until)
        if lessons.login_error is not None:
            instants.append(lessons.probe_at)
    if state.waiting or state.occupied < state.options.min_connections:
        instants.append(lessons.raise_at)
    if state.leaving:
        patience = GRACE if state.waiting or state.is_needed else LONGEST_FAREWELL
        instants.append(_first_to_leave(state)[1] + patience)
    if _is_short_of_spares(state):
        instants.append(_spare_at(state, now))
    return min((instant for instant in instants if now < instant < float("inf")), default=None)
