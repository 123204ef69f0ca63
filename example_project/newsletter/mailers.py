"""The mailers, in the settings of each Django version."""

from contextlib import contextmanager

import django
from django.conf import settings
from django.core import mail
from django.test.utils import override_settings

DEFAULT = "default"
STOCK = "stock"

HAS_MAILERS = django.VERSION >= (6, 1)

# The options for a server, and the settings of Django 5.2 and 6.0 with the same meaning.
SERVER_SETTINGS = {
    "host": "EMAIL_HOST",
    "port": "EMAIL_PORT",
    "username": "EMAIL_HOST_USER",
    "password": "EMAIL_HOST_PASSWORD",
    "use_tls": "EMAIL_USE_TLS",
    "use_ssl": "EMAIL_USE_SSL",
}


def connection(alias=DEFAULT):
    """Return a backend object of the mailer `alias`."""
    if HAS_MAILERS:
        return mail.mailers[alias]
    return mail.get_connection(settings.STOCK_BACKEND if alias == STOCK else None)


def send(message, alias=DEFAULT):
    """Send one message as `send_mail()` would, through the mailer `alias`."""
    if HAS_MAILERS:
        return message.send(using=alias)
    message.connection = connection(alias)
    return message.send()


def is_pooled(alias=DEFAULT):
    """Return whether a mailer is the pool: the site's own is, unless EXAMPLE_EMAIL_BACKEND is set."""
    return alias == DEFAULT and settings.SITE_BACKEND == settings.POOLED_BACKEND


def pool():
    """Return the pool of the default mailer, or None if the site uses another backend."""
    if not is_pooled():
        return None
    from django_smtp_pool import get_pool

    return get_pool()


@contextmanager
def mail_server(**options):
    """Let every mailer use this server for a while; the options are the keys of SERVER_SETTINGS."""
    # A real site knows its server when it starts, and does not need this. The newsletter command starts its own
    # server on a free port. override_settings() sends setting_changed, and restores everything.
    if HAS_MAILERS:
        changed = {
            "MAILERS": {
                alias: {**mailer, "OPTIONS": {**mailer["OPTIONS"], **options}}
                for alias, mailer in settings.MAILERS.items()
            }
        }
    else:
        changed = {SERVER_SETTINGS[name]: value for name, value in options.items()}
    with override_settings(**changed):
        yield
