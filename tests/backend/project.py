"""A project's settings of mail, and its mailer, as each Django spells them."""

import django
from django.core import mail

POOLED = "django_smtp_pool.backend.PooledBackend"
HAS_MAILERS = django.VERSION >= (6, 1)
SETTINGS = {
    "username": "EMAIL_HOST_USER",
    "password": "EMAIL_HOST_PASSWORD",
    "max_connections": "EMAIL_POOL_MAX_CONNECTIONS",
    "max_messages": "EMAIL_POOL_MAX_MESSAGES",
    "acquire_timeout": "EMAIL_POOL_ACQUIRE_TIMEOUT",
    "lmtp": "EMAIL_POOL_LMTP",
    "debug": "EMAIL_POOL_DEBUG",
    "rate_limit": "EMAIL_POOL_RATE_LIMIT",
    "rate_limits": "EMAIL_POOL_RATE_LIMITS",
    "rate_storage": "EMAIL_POOL_RATE_STORAGE",
    "finishers": "EMAIL_POOL_FINISHERS",
}


def project(settings, server, *, backend=POOLED, **options):
    """Make a server the project's own, with our backend or another one."""
    options = {"host": server.host, "port": server.port, **options}
    if HAS_MAILERS:
        settings.MAILERS = {"default": {"BACKEND": backend, "OPTIONS": options}}
        return
    settings.EMAIL_BACKEND = backend
    for key, value in options.items():
        setattr(settings, SETTINGS.get(key, f"EMAIL_{key.upper()}"), value)


def mailer(alias="default"):
    """Return a new backend object of the project."""
    return mail.mailers[alias] if HAS_MAILERS else mail.get_connection()
