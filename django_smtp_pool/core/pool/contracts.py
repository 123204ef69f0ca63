"""What the pool expects of what it is given: connections, and somebody who looks after them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

ConnectionT = TypeVar("ConnectionT", bound="PooledConnection")


class PooledConnection(Protocol):
    """What the pool knows of a connection."""

    number: int
    messages: int

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

    def tell(self) -> None:
        """Tell observers what has happened; may take as long as they like."""
        ...

    @property
    def has_news(self) -> bool:
        """Whether there is something to tell."""
        ...


class Caretaker(Protocol):
    """What the pool needs of the housekeeper. Each may be called at any moment, by finalisers too."""

    def watch(self, pool: Tidiable, due: float | None) -> None:
        """Call `pool.tidy()` at the instant `due`."""
        ...

    def see_off(self, connection: PooledConnection, left: Callable[[], None]) -> None:
        """Say QUIT and close, without making the caller wait; call `left` when the server has let go."""
        ...

    def sever(self, connection: PooledConnection) -> None:
        """Close a connection that is still saying QUIT."""
        ...
