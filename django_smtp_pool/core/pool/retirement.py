"""Decide which connections to close: too old, idle for too long, too many, or too many messages. Pure."""

from __future__ import annotations

from functools import partial

from .slots import Close, Place, Slot
from .state import State

IN_USE = 600.0  # seconds since the last message during which `min_connections` are kept open
JUST_NOW = float("inf")  # for a connection that has just begun to leave: `policy.decide` sets the time


def close(state: State, slot: Slot, reason: str) -> None:
    """Close the connection of a slot; free the slot at once if it has no connection."""
    state.half_done = partial(close, state, slot, reason)
    if slot.connection is not None:
        state.leaving[slot] = JUST_NOW
        state.todo.append(Close(slot, reason))
        state.closed_for[reason] += 1
    state.idle.pop(slot, None)
    state.busy.discard(slot)
    state.dialling.discard(slot)
    slot.place, slot.borrower = Place.BUSY, None  # it is no longer idle, and no longer lent
    state.half_done = None


def retire_worn_out(state: State, now: float) -> None:
    """Close the idle connections that are too old, too many, or have carried enough messages."""
    lessons = state.lessons
    if now >= state.retire_at or state.options.min_connections:
        _retire_old(state, now)
    # Dials under way do not count: the server refuses those that it does not allow.
    ceiling = state.ceiling_in_force
    while state.idle and len(state.idle) + len(state.busy) > ceiling:
        close(state, longest_idle(state), "ceiling lowered")
    if lessons.limits_lowered:
        lessons.limits_lowered = False
        for slot in [slot for slot in state.idle if _has_carried_enough(state, slot)]:
            close(state, slot, "max_messages")


def _retire_old(state: State, now: float) -> None:
    while (first := state.lifetimes.first(state.idle)) is not None and now >= first[0]:
        close(state, first[1], "max_lifetime")
    while state.idle and now >= longest_idle(state).idle_since + idle_timeout(state) and not _is_spare(state, now):
        close(state, longest_idle(state), "idle_timeout")
    state.retire_at = first[0] if first is not None else float("inf")
    if state.idle:
        due = longest_idle(state).idle_since + idle_timeout(state)
        # An overdue connection is kept for `min_connections`, until the pool counts as unused.
        state.retire_at = min(state.retire_at, due if due > now else state.used_at + IN_USE)


def why_worn_out(state: State, slot: Slot, now: float) -> str | None:
    """Return why a connection may carry no further message, or None if it may."""
    if _has_carried_enough(state, slot):
        return "max_messages"
    if slot.is_drained:
        return "drained"
    return "max_lifetime" if slot.expires_at is not None and now >= slot.expires_at else None


def _is_spare(state: State, now: float) -> bool:
    """Return whether idle connections are kept for `min_connections`."""
    return state.occupied <= state.options.min_connections and now - state.used_at < IN_USE


def _has_carried_enough(state: State, slot: Slot) -> bool:
    messages, of_connection = slot.messages, getattr(slot.connection, "message_limit", None)
    for limit in (state.options.max_messages, state.lessons.max_messages, of_connection):
        if limit and messages >= limit:
            return True
    return False


def idle_timeout(state: State) -> float:
    """Return how many seconds a connection may be idle."""
    learnt = state.lessons.idle_timeout
    return min(state.options.idle_timeout or float("inf"), learnt if learnt is not None else float("inf"))


def retire_idle(state: State, reason: str) -> None:
    """Close every idle connection."""
    while state.idle:
        close(state, longest_idle(state), reason)


def longest_idle(state: State) -> Slot:
    """Return the connection that has been idle for longest."""
    return next(iter(state.idle))
