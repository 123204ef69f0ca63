"""What a dialogue waits for, as those who wait for many need to know it. Pure."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class HasFileno(Protocol):
    """Something that can be watched; told from others by what it is, since descriptors are used again."""

    def fileno(self) -> int:
        """Return the descriptor."""
        ...


Watched = tuple[tuple[HasFileno, int], ...]


class Outlook(NamedTuple):
    """What to wait for until a dialogue can go on. Instants are those of `clock.monotonic`.

    Arguments:
        watched: sockets, each with its selectors events; they change while a connection is being made.
        deadline: when the wait has taken too long.
        wake_at: when to look although nothing is ready: the deadline, or the next attempt to connect.
        writes_until: until when octets are held back that the server waits for; the past where there are none.
    """

    watched: Watched
    deadline: float
    wake_at: float
    writes_until: float
