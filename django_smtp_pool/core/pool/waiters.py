"""Wait in line for a connection, or for time to pass.

Nothing here takes a lock that a signal handler or a finaliser of the same thread may need too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..errors import Failure, PoolFull, PoolTimeout, is_failure
from .slots import Slot
from .state import State
from .stats import gauges

LOOK_EVERY = 5.0  # seconds after which a waiter calls `tidy` itself, in case the housekeeper's thread is missing


_GONE = object()


class Waiter:
    """A life that waits in the pool's line, and then is the borrower of the slot that it gets.

    The user of the slot keeps a reference to the waiter: when the waiter is garbage, the slot is taken back.

    Arguments:
        holder: the thread whose batch the slot is for; it must not wait for itself. None for a single message.
        fresh: accept only a connection that has carried no message.
    """

    def __init__(self, *, holder: int | None = None, fresh: bool = False) -> None:
        self.blocks = threading.get_ident() if holder is None else None
        self.holder = holder
        self.fresh = fresh
        self.wake: Callable[[], None] | None = None
        # The first entry counts: a slot or an error that was granted, or _GONE. A single append decides a race.
        # Entries are never removed: the granting thread may look at the first one after the life has gone on.
        self._said: list[Slot | BaseException | object] = []
        self._is_taken = False

    @property
    def served(self) -> bool:
        """Whether there is an answer: a slot, or an error."""
        return bool(self._said)

    def grant(self, slot: Slot) -> bool:
        """Accept the slot, unless the life has left the line; a grant that races with a timeout loses no slot."""
        return self._say(slot)

    def refuse(self, error: BaseException) -> None:
        """Wake the life with an error."""
        self._say(error)

    def _say(self, what: Slot | BaseException) -> bool:
        self._said.append(what)
        if self.wake is not None:
            self.wake()
        return self._said[0] is what

    def leave(self) -> Slot | None:
        """Leave the line, and return the slot if one was granted before, only once; raise if the pool refused."""
        self._said.append(_GONE)
        if self._is_taken:
            return None
        self._is_taken, said = True, self._said[0]
        if isinstance(said, BaseException):
            raise said
        return said if isinstance(said, Slot) else None

    def withdraw(self) -> Slot | None:
        """Leave the line because of an interrupt, and return the slot if one was granted before."""
        try:
            return self.leave()
        except Failure as error:
            if not is_failure(error):
                raise
            return None


def turned_away(name: str, state: State, limit: int) -> PoolFull:
    """Return the error for a waiter for which the line is too long."""
    return PoolFull(
        f"no connection to {name} is free and {limit} others wait already ({gauges(state)}): "
        "raise max_connections or max_waiting, or send less at once"
    )


def timed_out(name: str, state: State, waited: float, cause: BaseException | None) -> PoolTimeout:
    """Return the error for a waiter that was not served in time; it says if the pool or the server is the cause."""
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


def reentered(name: str) -> PoolTimeout:
    """Return the error for code that has interrupted the pool's own code, and would wait for itself."""
    return PoolTimeout(
        f"the pool of {name} is being used by this same thread, which was interrupted by a signal handler, a finaliser "
        "or a tracer: send mail later, or from another thread"
    )


def starved() -> PoolTimeout:
    """Return the error for a waiter that would wait for its own thread."""
    return PoolTimeout(
        "every connection of the pool is busy with a batch of this same thread, which cannot go on while the "
        "thread waits: send mail from signal receivers and attachments after the batch, or set "
        "batch_connections below max_connections"
    )
