"""Borrow a slot of the pool: wait in line, use the connection, give it back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..clock import Clock
from ..needs import Life, Turn
from ..pool.slots import Slot
from ..pool.waiters import LOOK_EVERY, Waiter
from .connection import Connection
from .retry import was_closed_while_idle

if TYPE_CHECKING:
    from .life import Service


class Loan:
    """One use of a slot of the pool, from the wait in line until the slot is given back.

    Arguments:
        holder: the thread whose batch it is for.
        fresh: accept only a connection that has carried no message.
        wants_more: returns whether there is another message for the same connection.
    """

    def __init__(
        self,
        service: Service,
        clock: Clock,
        holder: int | None = None,
        *,
        fresh: bool = False,
        wants_more: Callable[[], bool] | None = None,
    ) -> None:
        self._service = service
        self._fresh = fresh
        self._clock = clock
        self._holder = holder
        self._waiter: Waiter | None = None
        self._slot: Slot | None = None
        self._connection: Connection | None = None
        self._wants_more = wants_more
        self.reused = False
        self.waited = 0.0
        self.connected = 0.0

    def take(self, deadline: float) -> Life[Connection]:
        """Wait for a slot of the pool, and open a connection if the slot has no live one.

        A loan that has its connection keeps it. Raises PoolTimeout after `acquire_timeout` or at the deadline (an
        instant), PoolFull, PoolClosed, and what opening a connection raises.
        """
        pool = self._service.pool
        limit = min(self._clock.monotonic() + pool.options.acquire_timeout, deadline)
        is_first = False
        while self._connection is None:
            waiter = self._waiter = Waiter(holder=self._holder, fresh=self._fresh)
            pool.request(waiter, first=is_first)
            if not waiter.served:
                yield from self._stand_in_line(waiter, limit)
            slot = self._slot = waiter.leave()
            if slot is None:
                raise pool.timed_out(self.waited)
            if slot.connection is None or slot.connection.is_usable:
                self.reused = slot.connection is not None
                self._connection = slot.connection or (yield from self._open(slot, deadline))
            else:
                self._slot, is_first = None, True
                pool.take_back_dead(slot)
        return self._connection

    def _stand_in_line(self, waiter: Waiter, limit: float) -> Life[None]:
        pool, clock = self._service.pool, self._clock
        came_at = clock.monotonic()
        while not waiter.served and (now := clock.monotonic()) < limit:
            yield Turn(waiter, min(limit, now + LOOK_EVERY))
            if not waiter.served:
                pool.tidy()  # a pause may have ended, and the housekeeper's thread may be missing
        waited = clock.monotonic() - came_at
        self.waited += waited
        pool.leave_line(waiter, waited)

    def _open(self, slot: Slot, deadline: float) -> Life[Connection]:
        pool, clock = self._service.pool, self._clock
        began = clock.monotonic()
        connection = None
        try:
            connection = yield from self._service.connector.open(clock, deadline)
            self.connected += clock.monotonic() - began
            pool.opened(slot, connection, self.connected)
        except BaseException as error:
            if connection is not None:
                connection.close()
            else:
                self.connected += clock.monotonic() - began
            self._slot = None
            pool.failed_to_open(slot, error)
            raise
        return connection

    def another(self, *, fresh: bool = False) -> Loan:
        """Return a loan for the next attempt."""
        return Loan(self._service, self._clock, self._holder, fresh=fresh)

    @property
    def is_waiting(self) -> bool:
        """Whether this waits in the pool's line."""
        return self._waiter is not None and not self._waiter.served and self._slot is None

    @property
    def has_connection(self) -> bool:
        """Whether a connection is lent, and ready for a message."""
        return self._connection is not None

    def keep(self, sender: str) -> bool:
        """Keep the connection for another message, if there is one and no other waiter needs the slot."""
        slot = self._slot
        if slot is None or self._wants_more is None or not self._wants_more():
            return False
        self.reused, self.waited, self.connected = True, 0.0, 0.0
        return bool(self._service.pool.lend_again(slot, sender))

    def end(self, error: Exception | None = None, sender: str | None = None) -> None:
        """Give the slot back, with the error of its message if there was one; a connection out of step is closed."""
        slot = self._slot
        if slot is None:
            return
        if self.reused and error is not None and was_closed_while_idle(error):
            self._service.pool.take_back_stale(slot)  # connections that were idle for as long are dead as well
        else:
            self._service.pool.take_back(slot, error, sender)
        self._slot = self._connection = None  # not earlier: an interrupt must not hide that the slot is taken

    def abandon(self) -> None:
        """Give up everything, because of an interrupt; does nothing if everything was given back."""
        waiter, pool = self._waiter, self._service.pool
        if waiter is not None:
            pool.leave_line(waiter)
            pool.take_back_ungranted(waiter, waiter.withdraw())
            pool.drop(waiter)
