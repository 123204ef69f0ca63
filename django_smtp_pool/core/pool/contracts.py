"""The interfaces that the pool expects of connections and of its caretaker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

ConnectionT = TypeVar("ConnectionT", bound="PooledConnection")


class PooledConnection(Protocol):
    """A connection, as the pool knows it."""

    number: int
    messages: int

    @property
    def is_usable(self) -> bool:
        """Whether it is alive, as far as its socket shows without waiting."""
        ...

    @property
    def in_step(self) -> bool:
        """Whether the last exchange ended cleanly."""
        ...

    def close(self) -> None:
        """Close it at once."""
        ...


class Tidiable(Protocol):
    """A pool, as the caretaker knows it."""

    def tidy(self) -> float | None:
        """Do what is due, and return the instant (monotonic) to call this again."""
        ...

    def tell(self) -> None:
        """Pass events to observers, which may be slow."""
        ...

    @property
    def has_news(self) -> bool:
        """Whether there are events that observers have not received."""
        ...


class Caretaker(Protocol):
    """The housekeeper, as the pool knows it. Each method may be called at any moment, also by finalisers."""

    def watch(self, pool: Tidiable, due: float | None) -> None:
        """Call `pool.tidy()` at the instant `due`."""
        ...

    def see_off(self, connection: PooledConnection, left: Callable[[], None]) -> None:
        """Close a connection with QUIT, without making the caller wait; call `left` when it is closed."""
        ...

    def sever(self, connection: PooledConnection) -> None:
        """Close a connection that still waits for the reply to QUIT."""
        ...
