"""Decide which waiter gets which connection, and when. Pure: no lock, no clock, no I/O; a connection can be any object.

1. Something happens: a waiter joins the line, a connection comes back, a dial fails. A small function below records it
   in `State`.
2. `decide` then looks at the whole state. It serves waiters, retires connections, refuses waiters that would wait
   forever, and opens spare connections. It changes only `State`, and queues what has to be done in `state.todo`.
3. The pool (`shared_state.py`) carries out `state.todo`, outside its lock.

Some decisions depend on time alone: a connection is too old, a pause has ended. `next_look` returns the next instant
at which `decide` would do something although nothing has happened, and the housekeeper runs it then. So no waiter is
forgotten: either a slot will come back for it, or there is such an instant.

An interrupt (Ctrl-C, a killed thread) may occur between any two lines, and must lose no slot. Therefore a slot refers
to its borrower weakly; a slot that moves is added to its new container before it leaves the old one; a change of
several lines is remembered until it is complete, and the next thread makes it again (`State.complete`); and `decide`
begins by taking back the slots whose borrowers no longer exist.

No step takes longer with more waiters or more idle connections, except after the machine was asleep and on closing.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import takewhile
from typing import Any

from ..errors import PoolClosed, Stage
from .learning import Incident
from .retirement import JUST_NOW, close, idle_timeout, longest_idle, retire_idle, retire_worn_out, why_worn_out
from .slots import Hurry, Lend, Place, Refuse, Sever, Slot, Waiter
from .spares import is_short_of_spares, keep_spares, spare_at
from .state import State
from .waiters import starved

CLOCK_JUMP = 10.0  # seconds of drift between wall and monotonic time that show that the machine was asleep
GRACE = 1.0  # seconds for the reply to QUIT while a waiter needs the slot
LONGEST_FAREWELL = 10.0  # seconds for the reply to QUIT otherwise; then the connection is closed without it
AFTER_MAIL = frozenset({Stage.RCPT, Stage.DATA, Stage.CONTENT})


# -- what happens -----------------------------------------------------------------------------------------


def queue_up(state: State, waiter: Waiter, now: float, *, first: bool = False) -> None:
    """Record that a waiter wants a connection; `first` for a waiter that was served with a dead one."""
    state.used_at = now
    state.waiting.join(waiter, first=first)


def connected(state: State, slot: Slot, connection: Any, expires_at: float | None) -> None:
    """Record that a dial has succeeded; the slot stays with the borrower that dialled."""
    slot.connection, slot.place, slot.expires_at = connection, Place.BUSY, expires_at
    if slot in state.dialling:
        state.busy.add(slot)
        state.dialling.discard(slot)
    state.lessons.logged_in()


def put_back(state: State, slot: Slot, messages: int, now: float) -> None:
    """Record that a connection comes back in good order."""
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
        if not slot.is_listed:
            state.lifetimes.add(slot, state.ceiling)
        due = min(due, slot.expires_at)
    state.retire_at = min(state.retire_at, due)


def lend_at_once(state: State, waiter: Waiter, now: float) -> Slot | None:
    """Lend an idle connection to a waiter that need not join the line; return None if there is anything to decide."""
    if waiter.fresh or not state.idle or not _is_calm(state, now) or now < state.lessons.paused_until:
        return None
    slot = next(reversed(state.idle))
    slot.place, slot.busy_since = Place.BUSY, now
    state.used_at = now
    _lend(state, waiter, slot, state.busy)
    return slot


def lend_again(state: State, slot: Slot, messages: int, now: float, sender: str) -> bool:
    """Record that a message was accepted, and let the borrower keep the slot, unless there is anything to decide."""
    if slot not in state.busy or state.waiting or state.closed or state.half_done is not None:
        return False
    if state.lost or state.alive > state.ceiling_in_force or now < state.lessons.paused_until:
        return False
    slot.messages = messages
    if why_worn_out(state, slot, now) is not None:
        return False
    state.lessons.sent(sender, now)
    state.used_at = slot.idle_since = slot.busy_since = now
    return True


def give_up(state: State, slot: Slot, reason: str) -> None:
    """Close the connection in a slot that is lent; free the slot at once if it has no connection."""
    if state.is_out(slot):
        close(state, slot, reason)


def left(state: State, slot: Slot, now: float, *, forced: bool = False) -> None:
    """Record that a connection is closed; the server may count one that was closed by force for a moment longer."""
    state.leaving.pop(slot, None)
    state.is_needed = state.is_needed and bool(state.leaving)
    if forced:
        state.lessons.forced_at = now


def drop(state: State, borrower: object) -> None:
    """Record that a borrower was interrupted, and close what is lent to it."""
    for slot in [slot for slot in state.everything_out() if slot.is_lent_to(borrower)]:
        give_up(state, slot, "interrupted")


def dial_failed(state: State, slot: Slot, now: float) -> None:
    """Record that a dial has failed; spares wait, or a server that is down would be dialled again immediately."""
    state.dial_failed_at = now
    give_up(state, slot, "failed to open")


def learn(state: State, slot: Slot, error: BaseException | None, now: float, sender: str | None = None) -> None:
    """Learn from the error of a message or of a dial, or from a success."""
    found = getattr(slot.connection, "found_limit", None)
    if found is not None:
        slot.connection.found_limit = None
        carried, reply = found
        state.lessons.limit_found(carried, reply, now)
    if error is None:
        if sender is not None:  # otherwise it was NOOP, or the rate limit allowed no message
            state.lessons.sent(sender, now)
        return
    stage = getattr(error, "stage", None)
    if sender is not None and stage in AFTER_MAIL:
        state.lessons.takes_mail_from(sender)
    carried = getattr(slot.connection, "messages", 1) - 1
    others = state.alive - (slot in state.busy)
    incident = Incident(
        error=error,
        stage=stage,
        reply=getattr(error, "reply", None),
        alive=others + (len(state.leaving) + state.others if others else 0),
        carried=max(0, carried),
        idled=max(0.0, slot.busy_since - slot.idle_since) if slot.idle_since else 0.0,
        sender=getattr(error, "sender", sender),
    )
    state.lessons.learn(incident, now)


def died_idle(state: State, slot: Slot, now: float) -> None:
    """Record that an idle connection was found dead when it was about to be used."""
    if slot.idle_since:
        state.lessons.died_idle(now - slot.idle_since, now)
        state.retire_at = now  # the lesson may apply to connections that are idle now
    give_up(state, slot, "stale")


def suspect(state: State, slot: Slot) -> None:
    """After a connection was found dead, close those that have been idle for at least as long."""
    while state.idle and longest_idle(state).idle_since <= slot.idle_since:
        close(state, longest_idle(state), "stale")


def look_at_clocks(state: State, monotonic: float, wall: float) -> None:
    """Discard idle connections if the two clocks have drifted apart, because the machine was asleep."""
    offset = wall - monotonic
    if state.clock_offset is not None and abs(offset - state.clock_offset) > CLOCK_JUMP:
        retire_idle(state, "clock jump")
    state.clock_offset = offset


# -- what to do about it ----------------------------------------------------------------------------------


def _is_calm(state: State, now: float) -> bool:
    """Return whether there is nothing to decide, as after most messages: `decide` would do nothing."""
    lessons = state.lessons
    if state.waiting or state.lost or state.leaving or state.closed or state.options.min_connections:
        return False
    if lessons.ceiling is not None or lessons.limits_lowered or len(state.idle) + len(state.busy) > state.ceiling:
        return False
    return now < state.retire_at and now < lessons.forget_at


def decide(state: State, now: float) -> float | None:
    """Decide everything that can be decided now, and queue what has to be done in `state.todo`, in order.

    Return what `next_look` returns.
    """
    if _is_calm(state, now):
        return state.retire_at if state.idle and state.retire_at < math.inf else None
    _take_back_lost(state)
    state.lessons.pass_time(now, state.ceiling)
    if state.leaving:
        _see_how_long_they_leave(state, now)
    if state.idle:
        retire_worn_out(state, now)
    if state.closed:
        retire_idle(state, "pool closed")
        for waiter in [each for each in state.waiting if each.blocks is None or each.blocks not in state.spared]:
            _refuse(state, waiter, PoolClosed("the pool was closed"))
    while state.waiting and now >= state.lessons.paused_until and _serve_first(state, now):
        continue
    if state.waiting:
        _help_those_left(state)
    if state.options.min_connections:
        keep_spares(state, now)
    if state.leaving:
        _see_how_long_they_leave(state, now)
    return next_look(state, now)


def _help_those_left(state: State) -> None:
    """Refuse a waiter that would wait for itself, and ask the pools before and after this one for their slots."""
    if (starved_one := _starved_by_batches(state)) is not None:
        _refuse(state, starved_one, starved())
    if state.waiting and state.others_can_hurry and state.occupied >= state.ceiling_in_force:
        state.others_can_hurry = False
        state.todo.append(Hurry())


def can_hurry(state: State) -> bool:
    """Return whether this pool can free a slot sooner for the pool before or after it."""
    return bool(state.leaving and not state.is_needed) or bool(state.idle and not state.closed)


def hurry(state: State) -> None:
    """Free a slot sooner: close an idle connection, and wait less for the replies to QUIT."""
    if state.idle:
        close(state, longest_idle(state), "replaced")
    state.is_needed = True


def _take_back_lost(state: State) -> None:
    while state.lost:
        slot = state.lost.popleft()
        if slot.is_abandoned:
            give_up(state, slot, "abandoned")


def _see_how_long_they_leave(state: State, now: float) -> None:
    """Set the instant at which connections began to leave, and close by force those that take too long."""
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
    """Serve the first waiter in line, or refuse it; return False if it has to wait."""
    waiter = state.waiting.first
    if state.idle and not waiter.fresh:
        slot = next(reversed(state.idle))
        slot.place, slot.busy_since = Place.BUSY, now
        _grant(state, waiter, slot, state.busy)
        return True
    blocked = not state.lessons.may_log_in(now)
    if blocked and (waiter.fresh or not state.alive):
        _refuse(state, waiter, state.lessons.refusal())
        return True
    if blocked or not _has_room(state, now):
        if waiter.fresh and state.idle and not state.leaving:
            close(state, longest_idle(state), "replaced")
            _see_how_long_they_leave(state, now)
        return False
    state.lessons.logs_in(now)
    _grant(state, waiter, Slot(since=now), state.dialling)
    return True


def _has_room(state: State, now: float) -> bool:
    """Return whether one more connection may be opened, after closing those whose GRACE is over."""
    while state.occupied >= state.ceiling_in_force and state.leaving and now >= _first_to_leave(state)[1] + GRACE:
        _sever(state, now)
    return state.occupied < state.ceiling_in_force


def _grant(state: State, waiter: Waiter, slot: Slot, where: set[Slot]) -> None:
    state.half_done = partial(_grant, state, waiter, slot, where)
    state.todo.append(Lend(waiter, slot))
    state.waiting.leave(waiter)
    _lend(state, waiter, slot, where)


def _lend(state: State, waiter: Waiter, slot: Slot, where: set[Slot]) -> None:
    """Lend a slot; an interrupt in the middle would leave it in two containers."""
    state.half_done = state.half_done or partial(_lend, state, waiter, slot, where)
    slot.holder = waiter.holder
    slot.thread = waiter.blocks if waiter.holder is None else waiter.holder
    state.lend(slot, waiter)
    where.add(slot)
    state.idle.pop(slot, None)
    state.half_done = None


def _starved_by_batches(state: State) -> Waiter | None:
    """Return a waiter that must give up, because every slot is held by batches whose own threads wait in line."""
    if not state.out or state.leaving or state.others:
        return None
    waiter: Waiter | None = None
    for slot in state.everything_out():
        waiter = state.waiting.of_thread(slot.holder)
        if waiter is None:  # the thread of this slot goes on, and gives it back; usually the first slot shows that
            return None
    return waiter


def next_look(state: State, now: float) -> float | None:
    """Return the next instant at which there is something to decide even if nothing happens, or None."""
    instants = [state.retire_at] if state.idle else []
    if not (state.waiting or state.leaving or state.options.min_connections):
        return instants[0] if instants and instants[0] < math.inf else None
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
    if is_short_of_spares(state):
        instants.append(spare_at(state, now))
    return min((instant for instant in instants if now < instant < math.inf), default=None)
