"""Waiting: in line for a connection, or for time to pass.

Nothing here takes a lock that a signal handler or a finaliser of the same thread may want, too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..clock import Clock
from ..errors import Failure, PoolFull, PoolTimeout
from .slots import Slot
from .state import State
from .stats import gauges

LOOK_EVERY = 5.0  # seconds after which one that waits looks for itself, should there be no thread that does


_GONE = object()


class Alarm:
    """Wakes one thread: a lock that is held until somebody lets go of it, and so may be woken under any other lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wake(self) -> None:
        """Wake the thread, or keep it from falling asleep."""
        try:
            self._lock.release()
        except RuntimeError:  # it has been woken already
            return

    def wait(self, clock: Clock, seconds: float) -> bool:
        """Wait to be woken, so many seconds at most; tell whether that was so."""
        return clock.wait(lambda left: self._lock.acquire(timeout=-1 if left is None else left), max(0.0, seconds))


class Waiter:
    """One life in the pool's line, and afterwards the borrower of what it was given.

    Whoever uses the slot keeps the waiter: when the waiter is garbage, the slot is free again.

    Arguments:
        holder: the thread whose batch the slot is for; it must not wait for itself. None for a single message.
        fresh: only a connection that has carried no message will do.
    """

    def __init__(self, *, holder: int | None = None, fresh: bool = False) -> None:
        self.blocks = threading.get_ident() if holder is None else None
        self.holder = holder
        self.fresh = fresh
        self.wake: Callable[[], None] | None = None
        # The first entry counts: what we were served with, or _GONE. Who comes first is decided by one append.
        # It stays what it is: whoever grants may look at it after the life has gone on.
        self._said: list[Slot | BaseException | object] = []
        self._is_taken = False

    @property
    def served(self) -> bool:
        """Whether there is an answer."""
        return bool(self._said)

    def grant(self, slot: Slot) -> bool:
        """Take the slot, unless the life has gone: a grant that races with a time-out loses no slot."""
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
        """Go, and return the slot that came in time, once; raise where the pool refused."""
        self._said.append(_GONE)
        if self._is_taken:
            return None
        self._is_taken, said = True, self._said[0]
        if isinstance(said, BaseException):
            raise said
        return said if isinstance(said, Slot) else None

    def withdraw(self) -> Slot | None:
        """Go because of an interrupt, and return the slot that came all the same."""
        try:
            return self.leave()
        except Failure:
            return None


def turned_away(name: str, state: State, limit: int) -> PoolFull:
    """Return the error of one for whom the line is too long."""
    return PoolFull(
        f"no connection to {name} is free and {limit} others wait already ({gauges(state)}): "
        "raise max_connections or max_waiting, or send less at once"
    )


def timed_out(name: str, state: State, waited: float, cause: BaseException | None) -> PoolTimeout:
    """Return the error of one that waited in vain: it answers whether the pool is too small or the server down."""
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
    """Return the error of code that runs in the middle of the pool's own, and would wait for itself."""
    return PoolTimeout(
        f"the pool of {name} is being used by this very thread, which a signal handler, a finaliser or a tracer has "
        "interrupted: send mail from there by another thread, or later"
    )


def starved() -> PoolTimeout:
    """Return the error of one that would wait for its own thread."""
    return PoolTimeout(
        "every connection of the pool is busy with a batch of this same thread, which cannot go on while the "
        "thread waits: send mail from signal receivers and attachments after the batch, or set "
        "batch_connections below max_connections"
    )
