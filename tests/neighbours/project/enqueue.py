"""Put messages into a queue: python -m tests.neighbours.project.enqueue COUNT."""

import sys

import django
from django.core.mail import EmailMessage, get_connection
from django.core.management import call_command

django.setup()


def connection():
    """Return the backend that queues."""
    if django.VERSION >= (6, 1):
        from django.conf import settings
        from django.core.mail import mailers

        if hasattr(settings, "MAILERS"):
            return mailers["default"]
    return get_connection()


call_command("migrate", verbosity=0)
messages = [
    EmailMessage(f"Message {number}", "Hello\n", None, ["to@example.com"]) for number in range(int(sys.argv[1]))
]
connection().send_messages(messages)
