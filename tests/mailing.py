"""Backends and messages for tests, made as each Django wants them."""

import django
from django.core.mail import EmailMessage

from django_smtp_pool.backend import PooledBackend


def backend_for(server, kind=PooledBackend, **options):
    """Return a backend for a test server, whatever way this Django constructs one."""
    alias = "test" if django.VERSION >= (6, 1) else None
    values = {"host": server.host, "port": server.port, "local_hostname": "client.example", **options}
    if not issubclass(kind, PooledBackend):
        del values["local_hostname"]
    return kind(alias=alias, **values)


def message(number=1, *, to=("to@example.com",), **fields):
    """Return a small message."""
    values = {"subject": f"Message {number}", "body": "Hello\n", "from_email": "from@example.com", "to": list(to)}
    return EmailMessage(**{**values, **fields})
