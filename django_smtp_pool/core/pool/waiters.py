"""A place in the pool's line, and the errors of those who waited in vain."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..errors import PoolFull, PoolTimeout
from .policy import State
from .slots import Slot
from .stats import gauges


class Waiter:
    """One life in the pool's line, and afterwards the borrower of what it was given.

    Whoever uses the slot keeps the waiter: when the waiter is garbage, the slot is free again.

    Arguments:
        holder: the thread whose batch the slot is for; it must not wait for itself. None for a single message.
        fresh: only a connection that has carried no message will do.
    """

    def __init__(self, *, holder: int | None = None, fresh: bool = False) -> None:
        self.fresh = fresh
        self.blocks = threading.get_ident() if holder is None else None
        self.holder = holder
        self.served = False
        self.wake: Callable[[], None] | None = None
        self.slot: Slot | None = None  # guarded by: _lock
        self._lock = threading.Lock()
        self._error: BaseException | None = None  # guarded by: _lock
        self._gone = False  # guarded by: _lock

    def grant(self, slot: Slot) -> bool:
        """Take the slot, unless the life has gone: a grant that races with a time-out loses no slot."""
        with self._lock:
            if self._gone:
                return False
            self.slot = slot
        self._serve()
        return True

    def refuse(self, error: BaseException) -> None:
        """Wake the life with an error."""
        with self._lock:
            self._error = error
        self._serve()

    def _serve(self) -> None:
        self.served = True
        if self.wake is not None:
            self.wake()

    def leave(self) -> Slot | None:
        """Leave the line; return the slot that came in time, and raise where the pool refused."""
        with self._lock:
            self._gone = True
            if self._error is not None:
                raise self._error
            return self.slot

    def withdraw(self) -> Slot | None:
        """Leave because of an interrupt, and return the slot that came all the same."""
        with self._lock:
            self._gone = True
            return self.slot


def turned_away(name: str, state: State, limit: int) -> PoolFull:
    """Return the error for a line that is too long."""
    return PoolFull(
        f"no connection to {name} is free and {limit} others wait already ({gauges(state)}): "
        "raise max_connections or max_waiting, or send less at once"
    )


def timed_out(name: str, state: State, waited: float, cause: BaseException | None) -> PoolTimeout:
    """Return the error of a wait in vain: it answers whether the pool is too small or the server down."""
    advice = (
        f"the last attempt to connect failed: {cause}"
        if cause is not None
        else "raise max_connections if the server allows more, or find out why it is slow"
    )
    error = PoolTimeout(
        f"no connection to {name} became free within {waited:.1f} s "
        f"({gauges(state)}, {len(state.waiting)} others waiting): {advice}"
    )
    error.__cause__ = cause
    return error
