"""Credentials that change over time, such as access tokens, and the interface to their source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..options.fields import Secret


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """An account and its current access token."""

    username: str
    secret: Secret


class TokenSource(Protocol):
    """Returns access tokens. It may block and run project code, so call it before connecting and outside every lock.

    Both methods raise TokenUnavailable if no token is available before `deadline` (an instant, monotonic).
    """

    def current(self, deadline: float | None) -> Credentials:
        """Return the token to log in with."""
        ...

    def renewed(self, refused: Credentials, deadline: float | None) -> Credentials | None:
        """Return another token after the server refused one, or None if there is none."""
        ...
