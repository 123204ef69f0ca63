"""The interface between lives and drivers: what a generator may need from the driver that runs it.

A life (of a message, or of a connection being opened) is a generator without a thread, a selector or a lock. It yields
one of the four needs below, and is resumed when the need is met or when its instant has passed. Instants are those of
the clock that the driver gave to the life, except in `Sleep`. The life itself checks what has changed: a driver never
decides anything.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple, Protocol, TypeVar

T = TypeVar("T")

NEVER = float("-inf")


class HasFileno(Protocol):
    """Something that can be watched."""

    def fileno(self) -> int:
        """Return the descriptor."""
        ...


Watched = tuple[tuple[HasFileno, int], ...]  # each with its selectors events


class Servable(Protocol):
    """Something that is served once, perhaps by another thread."""

    wake: Callable[[], None] | None  # called after `served` has become True

    @property
    def served(self) -> bool:
        """Whether it has been served."""
        ...


class Wait(NamedTuple):
    """Wait until one of these sockets is ready.

    Arguments:
        until: instant at which to go on even if nothing is ready.
        hold_until: instant until which the server waits for octets that only this life can write: before it, the
            driver runs no code that may be slow. `NEVER` if the server does not wait.
    """

    watched: Watched
    until: float
    hold_until: float = NEVER


class Turn(NamedTuple):
    """Wait until something is served, for example a waiter in the pool's line."""

    waiter: Servable
    until: float


class Sleep(NamedTuple):
    """Wait until something is served, or until an instant of the system's clock.

    A rate limit or a pause ends at that instant, also if the clock of the driver stands still meanwhile.
    """

    waiter: Servable
    until: float


class Call(NamedTuple):
    """Call a function that may block, and go on with what it returns; what it raises is raised in the life.

    Arguments:
        is_quick: the call takes almost no time, so an event loop may make it without a thread.
    """

    function: Callable[[], Any]
    is_quick: bool = False


Need = Wait | Turn | Sleep | Call
Life = Generator[Need, Any, T]


class Bell:
    """Lets one generator wake another one that the same thread runs."""

    __slots__ = ("served", "wake")

    def __init__(self) -> None:
        self.served = False
        self.wake: Callable[[], None] | None = None

    def ring(self) -> None:
        """Wake the generator that waits for the bell, or the next one that will."""
        self.served = True
        wake, self.wake = self.wake, None  # once: the generator may not wait for the bell any more
        if wake is not None:
            wake()
