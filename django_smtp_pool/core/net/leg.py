"""The base class for one leg of the way to a server: resolve a name, connect to an address, pass a proxy."""

from __future__ import annotations

import math
import socket
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from ..needs import Watched

T = TypeVar("T")


class Leg(ABC, Generic[T]):
    """One leg of the way; it is advanced when something that it watches is ready, or when it is due; never blocks."""

    @property
    @abstractmethod
    def watched(self) -> Watched:
        """The objects to wait for, with their selectors events; this changes as the leg advances."""

    @property
    def wake_at(self) -> float:
        """The instant (monotonic) at which to advance even if nothing is ready."""
        return math.inf

    @property
    @abstractmethod
    def progress(self) -> str:
        """Describe the current step, for the error after a timeout."""

    @abstractmethod
    def advance(self, now: float) -> T | None:
        """Continue; return the result at the end of the leg, or None if there is more to wait for.

        Raises Trouble if the leg has failed.
        """

    @abstractmethod
    def close(self) -> None:
        """Give up, and close everything, including the result."""


def explained(error: OSError, what: str) -> OSError:
    """Return the same type of error with a text that names the server; `is_final` if another attempt cannot help."""
    text = f"{what}: {error.strerror or error}"
    number = error.errno if error.errno is not None else 0
    unknown_host = isinstance(error, socket.gaierror) and number != socket.EAI_AGAIN
    clear = socket.gaierror(number, text) if isinstance(error, socket.gaierror) else OSError(number, text)
    return marked(clear, is_final=unknown_host or isinstance(clear, ConnectionRefusedError))


def marked(error: OSError, *, is_final: bool) -> OSError:
    """Set on an error whether another attempt cannot help, and return it."""
    error.is_final = is_final  # type: ignore[attr-defined]
    return error
