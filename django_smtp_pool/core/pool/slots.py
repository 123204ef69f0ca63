"""Places under the ceiling: what is in each, who has it, and what there is to do about it. Pure.

A slot is DIALLING -> BUSY <-> IDLE -> leaving -> gone, and holds one place under the ceiling until it is gone.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol


class Place(Enum):
    """Where a slot is in its life."""

    DIALLING = "connecting"
    BUSY = "busy"
    IDLE = "idle"


@dataclass(eq=False, kw_only=True)
class Slot:
    """One place under the ceiling, and the connection in it once there is one."""

    place: Place = Place.DIALLING
    connection: Any = None
    messages: int = 0
    since: float = 0.0  # instant (monotonic) at which dialling began, and then at which the connection was opened
    idle_since: float = 0.0
    busy_since: float = 0.0
    expires_at: float | None = None
    is_drained: bool = False  # it closes when its message is through
    is_listed: bool = False  # among those whose lifetime somebody watches
    holder: int | None = None  # the thread whose batch has it, which must not wait for it
    thread: int | None = None  # the thread that uses it, batch or not, where that is known
    borrower: weakref.ref[Any] | None = None  # what lives as long as somebody may give the slot back

    def is_lent_to(self, borrower: object) -> bool:
        """Tell whether a borrower has the slot."""
        return self.borrower is not None and self.borrower() is borrower

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody is left who could give it back."""
        return self.borrower is not None and self.borrower() is None


class Waiter(Protocol):
    """Somebody who wants a connection. Both methods may be called from any thread.

    `blocks` is the thread that stands still until the answer comes, `holder` the one whose batch the slot is for.
    `fresh`: only a connection that has carried no message will do.
    Whoever uses the slot keeps the waiter: when the waiter is no more, the slot is free again.
    """

    blocks: int | None
    holder: int | None
    fresh: bool

    def grant(self, slot: Slot) -> bool:
        """Take the slot; False from a waiter that has gone, so that the next is asked and no connection is lost.

        Where an exception came in between it is called again with the same slot, and the answer is the same.
        """
        ...

    def refuse(self, error: BaseException) -> None:
        """Hear that there will be no connection."""
        ...


@dataclass(frozen=True)
class Grant:
    """Give a slot to a waiter: an idle connection, or a place in which the waiter is to dial."""

    waiter: Waiter
    slot: Slot


@dataclass(frozen=True)
class Refuse:
    """Tell a waiter that there will be no connection."""

    waiter: Waiter
    error: BaseException


@dataclass(frozen=True)
class Close:
    """Say goodbye to a connection; it keeps its place until `policy.left`."""

    slot: Slot
    reason: str


@dataclass(frozen=True)
class Sever:
    """Close a connection whose goodbye takes too long: somebody has its place already."""

    slot: Slot


@dataclass(frozen=True)
class Dial:
    """Open a connection that nobody waits for."""

    slot: Slot


@dataclass(frozen=True)
class Hurry:
    """Ask the pool before this one, whose connections hold our places, to be quick about its goodbyes."""


Action = Grant | Refuse | Close | Sever | Dial | Hurry
