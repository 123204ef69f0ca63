"""Our backend, made for a real server as a Django user makes it, and messages for it."""

from typing import Any

import django
from django.core.mail import EmailMessage

from django_smtp_pool.backend import PooledBackend

from .server import MailServer

# Where there are MAILERS, a backend without an alias would ask for the EMAIL_* settings, which are gone there.
_ALIAS = "realserver" if django.VERSION >= (6, 1) else None

SENDER, RECIPIENT = "sender@example.com", "recipient@example.com"


def options_for(server: MailServer, **changed: Any) -> dict[str, Any]:
    """Return the options of a backend that logs in by STARTTLS, with some of them changed."""
    return {
        "host": server.host,
        "port": server.port,
        "use_tls": True,
        "username": server.account.username,
        "password": server.account.password,
        "tls_options": {"ca_file": str(server.certificates.ca_file)},
        "local_hostname": "client.example.com",
        **changed,
    }


def backend(server: MailServer, **changed: Any) -> PooledBackend:
    """Return a backend for a server; those with equal options share a pool."""
    return PooledBackend(alias=_ALIAS, **options_for(server, **changed))


def a_message(number: int = 0, **changed: Any) -> EmailMessage:
    """Return a message whose octets are the same each time it is rendered."""
    fields: dict[str, Any] = {
        "subject": f"message {number}",
        "body": "Schöne Grüße\n.\n..\nEnde\n",
        "from_email": SENDER,
        "to": [RECIPIENT],
        "headers": {
            "Date": "Sun, 22 Nov 2026 08:00:00 +0000",
            "Message-ID": f"<{number}@client.example.com>",
        },
    }
    return EmailMessage(**{**fields, **changed})


def send(server: MailServer, *messages: EmailMessage, **changed: Any) -> int:
    """Send each message as `send_mail()` does: by a backend object of its own."""
    return sum(backend(server, **changed).send_messages([message]) or 0 for message in messages)


def on_the_wire(message: EmailMessage) -> bytes:
    """Return the octets of a message, lines ending in CRLF."""
    return message.message().as_bytes().replace(b"\n", b"\r\n")
