"""Find the pool of a mailer by its alias."""

from __future__ import annotations

from typing import Any

import django
from django.core import mail
from django.core.exceptions import ImproperlyConfigured

from .backend import PooledBackend
from .core.delivery.connection import Connection
from .core.pool.pool import Pool

LOCMEM = "django.core.mail.backends.locmem.EmailBackend"


def pool_of(using: str | None) -> Pool[Connection]:
    """Return the pool of a mailer; see `django_smtp_pool.get_pool`."""
    return backend_of(using).pool


def backend_of(using: str | None) -> PooledBackend:
    """Return a backend object of a mailer; raises ImproperlyConfigured if the mailer uses another backend."""
    backend = _backend(using)
    if not isinstance(backend, PooledBackend):
        kind = f"{type(backend).__module__}.{type(backend).__qualname__}"
        raise ImproperlyConfigured(
            f"the mailer {using or 'default'!r} has no pool: it uses {kind}, not "
            f"django_smtp_pool.backend.PooledBackend{_why(kind)}"
        )
    return backend


def _why(kind: str) -> str:
    if kind != LOCMEM:
        return ""
    return "; Django's test runner replaces every backend with this one: see the page on testing in the documentation"


def _backend(using: str | None) -> Any:
    if django.VERSION >= (6, 1):
        return mail.mailers[using or "default"]
    if using not in {None, "default"}:
        raise ImproperlyConfigured(f"there is no mailer {using!r}: Django {django.get_version()} has no MAILERS")
    return mail.get_connection()


def aliases() -> list[str]:
    """Return the aliases in MAILERS; an empty list before Django 6.1."""
    return list(mail.mailers.settings) if django.VERSION >= (6, 1) else []
