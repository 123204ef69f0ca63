"""What the pool expects of what it is given: connections, and somebody who looks after them."""

from __future__ import annotations

from typing import Protocol, TypeVar

ConnectionT = TypeVar("ConnectionT", bound="PooledConnection")


class PooledConnection(Protocol):
    """What the pool knows of a connection."""

    number: int
    messages: int
    has_idled: bool

    @property
    def is_usable(self) -> bool:
        """Whether it is alive, as far as a look at the socket can tell."""
        ...

    @property
    def in_step(self) -> bool:
        """Whether the last exchange ended cleanly."""
        ...

    def close(self) -> None:
        """Close it at once."""
        ...


class Tidiable(Protocol):
    """Something that needs looking after from time to time."""

    def tidy(self) -> float | None:
        """Look, and return the instant (monotonic) to look again."""
        ...


class Caretaker(Protocol):
    """What the pool needs of the housekeeper."""

    def watch(self, pool: Tidiable, due: float | None) -> None:
        """Call `pool.tidy()` at the instant `due`."""
        ...

    def see_off(self, connection: PooledConnection) -> None:
        """Say QUIT and close, without making the caller wait."""
        ...
