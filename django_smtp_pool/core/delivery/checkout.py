"""Borrowing a connection in a thread that can wait for it."""

from __future__ import annotations

from typing import Generic, Protocol

from ..clock import Clock
from ..errors import PoolTimeout
from ..options.options import PoolOptions
from ..pool.contracts import ConnectionT
from ..pool.lease import Lease, Lender
from ..pool.slots import Slot, Waiter
from ..pool.waiters import ThreadWaiter


class Source(Lender, Protocol):
    """What a checkout needs of the pool."""

    options: PoolOptions

    def request(self, waiter: Waiter, *, first: bool = False) -> None:
        """Put somebody in line."""
        ...

    def leave_line(self, waiter: Waiter, waited: float = 0.0) -> None:
        """Take somebody out of the line."""
        ...

    def timed_out(self, waited: float) -> PoolTimeout:
        """Return the error of one who waited in vain."""
        ...

    def dial(self, slot: Slot, deadline: float | None) -> None:
        """Open a connection in a slot."""
        ...

    def drop(self, waiter: Waiter) -> None:
        """Give up what is lent to somebody who was interrupted."""
        ...

    def take_back_ungranted(self, slot: Slot | None) -> None:
        """Put back a slot that came to somebody who had gone."""
        ...

    def take_back_dead(self, slot: Slot) -> None:
        """Give up a granted connection that is dead."""
        ...

    def tidy(self) -> float | None:
        """Look whether something is to be decided."""
        ...


class Checkout(Generic[ConnectionT]):
    """One borrowing.

    Arguments:
        deadline: instant (monotonic) that ends the wait and the dial, however long the options allow.
    """

    def __init__(self, pool: Source, clock: Clock, deadline: float | None) -> None:
        self._pool = pool
        self._clock = clock
        self._deadline = deadline
        self._asked_at = clock.monotonic()

    def borrow(self) -> Lease[ConnectionT]:
        """Wait for a slot, see that what is in it is alive, and dial where there is nothing in it."""
        waiter, slot = self._wait_for_slot(first=False)
        try:
            while slot.connection is not None and not slot.connection.is_usable:
                self._pool.take_back_dead(slot)
                waiter, slot = self._wait_for_slot(first=True)
            granted_at = self._clock.monotonic()
            reused = slot.connection is not None
            if not reused:
                self._pool.dial(slot, self._deadline)
            dialled = self._clock.monotonic() - granted_at
            waited = granted_at - self._asked_at
            return Lease(pool=self._pool, slot=slot, waiter=waiter, reused=reused, waited=waited, dialled=dialled)
        except BaseException:
            self._pool.drop(waiter)
            raise

    def _wait_for_slot(self, *, first: bool) -> tuple[Waiter, Slot]:
        waiter = ThreadWaiter(self._pool.tidy)
        came_at = self._clock.monotonic()
        try:
            self._pool.request(waiter, first=first)
            waiter.wait(self._clock, self._limit)
            self._pool.leave_line(waiter, self._clock.monotonic() - came_at)
            slot = waiter.leave()
        except BaseException:
            self._pool.leave_line(waiter)
            self._pool.take_back_ungranted(waiter.withdraw())
            self._pool.drop(waiter)
            raise
        if slot is None:
            raise self._pool.timed_out(self._clock.monotonic() - self._asked_at)
        return waiter, slot

    @property
    def _limit(self) -> float:
        limit = self._asked_at + self._pool.options.acquire_timeout
        return limit if self._deadline is None else min(limit, self._deadline)
