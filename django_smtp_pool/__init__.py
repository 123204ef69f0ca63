"""A pooled SMTP e-mail backend for Django.

Importing the package touches no settings; `django_smtp_pool.backend.PooledBackend` is the backend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .core.errors import DeliveryUnknown, PartiallyRefused, PoolClosed, PoolFull, PoolTimeout, RateLimited

if TYPE_CHECKING:
    from .core.delivery.connection import Connection
    from .core.pool.pool import Pool

__version__ = "0.1.0"

__all__ = [
    "DeliveryUnknown",
    "PartiallyRefused",
    "PoolClosed",
    "PoolFull",
    "PoolTimeout",
    "RateLimited",
    "close_all",
    "get_pool",
]


def get_pool(using: str | None = None) -> Pool[Connection]:
    """Return the pool that messages go through.

    Arguments:
        using: alias of a mailer in MAILERS; the default mailer, or EMAIL_BACKEND, where not given.

    Raises ImproperlyConfigured where that mailer does not use PooledBackend (under Django's test runner none
    does: it puts the locmem backend in every mailer's place).
    """
    from .mailers import pool_of

    return pool_of(using)


def close_all(timeout: float = 10.0) -> None:
    """Close every pool of this process: refuse who waits, let deliveries under way finish, say QUIT.

    Arguments:
        timeout: seconds for all pools together. A message sent afterwards opens a fresh pool.
    """
    from .registry import registry

    registry.close_all(timeout)
