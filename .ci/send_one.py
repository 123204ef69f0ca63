"""Send one message to a server of our own, with the installed package: `.ci/wheel_sends.py` runs this."""

import socket

import django
from aiosmtpd.controller import Controller
from django.conf import settings
from django.core.mail import EmailMessage

BACKEND = "django_smtp_pool.backend.PooledBackend"


class Inbox:
    """Keeps what it is given."""

    def __init__(self):
        self.contents = []

    async def handle_DATA(self, server, session, envelope):  # noqa: ARG002, N802 - aiosmtpd's signature
        """Accept a message."""
        self.contents.append(envelope.content)
        return "250 OK"


def main() -> None:
    """Start the server, send, and look at what arrived."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    inbox = Inbox()
    controller = Controller(inbox, hostname="127.0.0.1", port=port)
    controller.start()
    configure(port)

    import django_smtp_pool

    sent = EmailMessage("Built", "It works.", "from@example.com", ["to@example.com"]).send()
    django_smtp_pool.close_all()
    controller.stop()
    if sent != 1 or [b"Subject: Built" in content for content in inbox.contents] != [True]:
        raise SystemExit(f"the message did not arrive as it was sent: {inbox.contents}")
    if "site-packages" not in django_smtp_pool.__file__:
        raise SystemExit(f"this is not the installed package: {django_smtp_pool.__file__}")
    print("sent a message with django-smtp-pool", django_smtp_pool.__version__)


def configure(port: int) -> None:
    """Configure Django with the one setting."""
    if django.VERSION >= (6, 1):
        mailer = {"BACKEND": BACKEND, "OPTIONS": {"host": "127.0.0.1", "port": port}}
        settings.configure(MAILERS={"default": mailer})
    else:
        settings.configure(EMAIL_BACKEND=BACKEND, EMAIL_HOST="127.0.0.1", EMAIL_PORT=port)
    django.setup()


if __name__ == "__main__":
    main()
