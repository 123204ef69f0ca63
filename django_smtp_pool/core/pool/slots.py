"""Slots: each is one of the connections that the ceiling allows, with its state, its borrower and its actions. Pure.

A slot is DIALLING -> BUSY <-> IDLE -> leaving -> gone, and counts towards the ceiling until it is gone.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, TypeVar

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

    def sever(self) -> None:
        """End it at once, from any thread, although another one may be using it."""
        ...


class Place(Enum):
    """The state of a slot."""

    DIALLING = "connecting"
    BUSY = "busy"
    IDLE = "idle"


@dataclass(eq=False, kw_only=True)
class Slot:
    """One of the connections that the ceiling allows; `connection` is None until it is open."""

    place: Place = Place.DIALLING
    connection: Any = None
    messages: int = 0
    since: float = 0.0  # instant (monotonic) at which dialling began, and then at which the connection was opened
    idle_since: float = 0.0
    busy_since: float = 0.0
    expires_at: float | None = None
    is_drained: bool = False  # it closes after its current message
    is_listed: bool = False  # it is in `Lifetimes`
    says_quit: bool = False  # the housekeeper has its connection
    holder: int | None = None  # the thread whose batch has it, which must not wait for it
    thread: int | None = None  # the thread that uses it, with or without a batch, if known
    borrower: weakref.ref[Any] | None = None  # an object that exists as long as the slot may be given back

    def is_lent_to(self, borrower: object) -> bool:
        """Return whether a borrower has the slot."""
        return self.borrower is not None and self.borrower() is borrower

    @property
    def is_abandoned(self) -> bool:
        """Whether the borrower no longer exists, so it cannot give the slot back."""
        return self.borrower is not None and self.borrower() is None


class Waiter(Protocol):
    """Waits for a connection. Both methods may be called from any thread.

    `blocks` is the thread that blocks until the answer comes, `holder` the one whose batch the slot is for.
    `fresh`: accept only a connection that has carried no message.
    The user of the slot keeps a reference to the waiter: when the waiter is garbage, the slot is taken back.
    """

    blocks: int | None
    holder: int | None
    fresh: bool

    def grant(self, slot: Slot) -> bool:
        """Accept the slot; return False if this has left the line, so that the slot goes to the next waiter.

        After an exception it is called again with the same slot, and must return the same answer.
        """
        ...

    def refuse(self, error: BaseException) -> None:
        """Accept that there will be no connection."""
        ...


@dataclass(frozen=True)
class Lend:
    """Give a slot to a waiter: with an idle connection, or empty, so that the waiter opens one."""

    waiter: Waiter
    slot: Slot


@dataclass(frozen=True)
class Refuse:
    """Raise an error in a waiter, because there will be no connection."""

    waiter: Waiter
    error: BaseException


@dataclass(frozen=True)
class Close:
    """Close a connection with QUIT; it keeps its slot until `policy.left`."""

    slot: Slot
    reason: str


@dataclass(frozen=True)
class Sever:
    """Close a connection whose reply to QUIT takes too long: its slot is free already."""

    slot: Slot


@dataclass(frozen=True)
class DialSpare:
    """Open a spare connection, for `min_connections`."""

    slot: Slot


@dataclass(frozen=True)
class Hurry:
    """Ask the pools before and after this one, whose connections count towards this ceiling, for a slot."""


Action = Lend | Refuse | Close | Sever | DialSpare | Hurry
