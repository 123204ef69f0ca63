"""Who we are to the server at this moment, where that changes: access tokens expire. The seam to whoever makes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..options.fields import Secret


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """An account and its access token of the moment."""

    username: str
    secret: Secret


class TokenSource(Protocol):
    """Gives access tokens; may block and run the user's own code, so it is asked before a dial and outside every lock.

    Both raise TokenUnavailable where no token can be had, or none before `deadline` (an instant, monotonic).
    """

    def current(self, deadline: float | None) -> Credentials:
        """Return the token to log in with."""
        ...

    def renewed(self, refused: Credentials, deadline: float | None) -> Credentials | None:
        """Return another token than the one that the server refused, None where there is no better one."""
        ...
