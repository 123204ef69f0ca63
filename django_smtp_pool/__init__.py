"""A pooled SMTP email backend for Django.

Importing the package touches no settings; `django_smtp_pool.backend.PooledBackend` is the backend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .core.errors import DeliveryUnknown, PartiallyRefused, PoolClosed, PoolFull, PoolTimeout, RateLimited

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from django.core.mail import EmailMessage

    from .core.delivery.connection import Connection
    from .core.pool.pool import Pool
    from .status import SmtpPoolStatus

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
    "set_options",
    "status_of",
]


def get_pool(using: str | None = None) -> Pool[Connection]:
    """Return the pool that messages go through.

    Arguments:
        using: alias of a mailer in MAILERS. By default, the default mailer, or EMAIL_BACKEND.

    Raises ImproperlyConfigured if that mailer does not use PooledBackend. Under Django's test runner no mailer does,
    because it replaces every backend with locmem.
    """
    from .mailers import pool_of

    return pool_of(using)


def close_all(timeout: float = 10.0) -> None:
    """Close every pool of this process: finish the messages being sent, refuse those that wait, then send QUIT.

    Arguments:
        timeout: seconds for all pools together. A message that is sent meanwhile waits for a new pool.
    """
    from .registry import registry

    registry.close_all(timeout)


def status_of(message: EmailMessage) -> SmtpPoolStatus | None:
    """Return the status of the last attempt to send a message; None if another backend sent it, such as locmem."""
    from .status import status_of

    return status_of(message)


def set_options(
    message: EmailMessage, *, dsn: Mapping[str, Any] | None = None, require_tls: bool | None = None
) -> None:
    """Check and set `message.smtp_options`, the options of one message; None leaves an option unchanged.

    Arguments:
        dsn: delivery status notifications; `{}` requests none.
        require_tls: whether every server on the way must use TLS (RFC 8689).

    Raises ValueError for an unknown key or an invalid value.
    """
    from .message.smtp_options import set_options

    set_options(message, {"dsn": dsn, "require_tls": require_tls})
