"""What every leg of the way to a server has in common: resolving a name, racing addresses, asking a proxy."""

from __future__ import annotations

import math
import socket
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from ..needs import Watched

T = TypeVar("T")


class Leg(ABC, Generic[T]):
    """One leg of the way, advanced whenever something that it watches is ready, or its time has come; never blocks."""

    @property
    @abstractmethod
    def watched(self) -> Watched:
        """What to wait for, each with its selectors events: it changes as the leg goes on."""

    @property
    def wake_at(self) -> float:
        """The instant (monotonic) at which to go on although nothing is ready."""
        return math.inf

    @property
    @abstractmethod
    def progress(self) -> str:
        """Say what is being done, for the error when the time is up."""

    @abstractmethod
    def advance(self, now: float) -> T | None:
        """Go on; return the result at the end of the leg, None while there is more to wait for.

        Raises Trouble where there is no way on.
        """

    @abstractmethod
    def close(self) -> None:
        """Give up: nothing stays open, and what was found is closed too."""


def explained(error: OSError, what: str) -> OSError:
    """Return the same type of error with a text that names the server; `is_final` where trying again is in vain."""
    text = f"{what}: {error.strerror or error}"
    number = error.errno if error.errno is not None else 0
    unknown_host = isinstance(error, socket.gaierror) and number != socket.EAI_AGAIN
    clear = socket.gaierror(number, text) if isinstance(error, socket.gaierror) else OSError(number, text)
    return marked(clear, is_final=unknown_host or isinstance(clear, ConnectionRefusedError))


def marked(error: OSError, *, is_final: bool) -> OSError:
    """Return an error that knows whether trying again is in vain."""
    error.is_final = is_final  # type: ignore[attr-defined]
    return error
