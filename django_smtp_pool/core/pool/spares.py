"""Open spare connections, for `min_connections`. Pure."""

from __future__ import annotations

import math

from .retirement import IN_USE, retire_worn_out
from .slots import DialSpare, Slot
from .state import State

SPARE_PAUSE = 30.0  # seconds after a failed dial before a spare connection is dialled


def keep_spares(state: State, now: float) -> None:
    """Open a connection for `min_connections`, and close spares that are no longer needed after what was granted."""
    if is_short_of_spares(state) and now >= spare_at(state, now):
        _dial_spare(state, now)
    retire_worn_out(state, now)


def _dial_spare(state: State, now: float) -> None:
    dial = DialSpare(Slot(since=now))
    state.lend(dial.slot, dial)
    state.dialling.add(dial.slot)
    state.todo.append(dial)


def is_short_of_spares(state: State) -> bool:
    """Return whether a spare is to be opened; one dial at a time."""
    wanted = min(state.options.min_connections, state.ceiling_in_force)
    return not state.closed and state.occupied < wanted and not state.dialling and state.lessons.login_error is None


def spare_at(state: State, now: float) -> float:
    """Return the instant for the next spare: some time after a failed dial, and never if the pool is unused."""
    at = state.dial_failed_at + SPARE_PAUSE
    return at if max(now, at) - state.used_at < IN_USE else math.inf
