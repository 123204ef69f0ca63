"""A connection on loan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol

from .contracts import ConnectionT
from .slots import Slot, Waiter


class Lender(Protocol):
    """What a lease needs of the pool it comes from."""

    def take_back(self, slot: Slot, error: BaseException | None = None, sender: str | None = None) -> None:
        """End a lease."""
        ...

    def take_back_stale(self, slot: Slot) -> None:
        """End the lease of a connection that its server closed while it was idle."""
        ...


@dataclass(kw_only=True)
class Lease(Generic[ConnectionT]):
    """A connection that is one borrower's until it is given back.

    Arguments:
        waiter: who the pool knows to have the slot; a lease that is lost takes him along, and the slot is free again.
        reused: the connection has been idle; its server may have given it up meanwhile.
        waited: seconds spent waiting for a free connection.
        dialled: seconds spent opening it.
    """

    pool: Lender
    slot: Slot
    waiter: Waiter
    reused: bool
    waited: float
    dialled: float

    @property
    def connection(self) -> ConnectionT:
        """The connection."""
        connection: ConnectionT = self.slot.connection
        return connection

    def give_back(self, error: BaseException | None = None, sender: str | None = None) -> None:
        """Return the connection, and tell how its message, from `sender`, went; one that is out of step is closed."""
        self.pool.take_back(self.slot, error, sender)

    def give_back_stale(self) -> None:
        """Close the connection, which the server gave up while it was idle, and those idle for as long."""
        self.pool.take_back_stale(self.slot)
