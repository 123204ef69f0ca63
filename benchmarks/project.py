"""A minimal Django project whose default mailer is the one to measure, and its messages."""

import django
from django.conf import settings
from django.core.mail import EmailMultiAlternatives

POOLED = "django_smtp_pool.backend.PooledBackend"
STOCK = "django.core.mail.backends.smtp.EmailBackend"

TEXT = "All work and no play makes Jack a dull boy.\n" * 22
HTML = f"<html><body>{'<p>All work and no play makes Jack a dull boy.</p>' * 18}</body></html>\n"
ATTACHED = {"282K": 206_000, "20M": 20 << 20}  # bytes; base64 makes them a third longer
CONTENTS = ("text", "html", *ATTACHED)


def configure(backend, port, **options):
    """Set Django up for one mailer on this machine; options are those of the backend."""
    options = {"host": "127.0.0.1", "port": port, **options}
    if django.VERSION >= (6, 1):
        mailers = {"MAILERS": {"default": {"BACKEND": backend, "OPTIONS": options}}}
    else:
        mailers = {"EMAIL_BACKEND": backend, **{_setting(key): value for key, value in options.items()}}
    apps = ["django_smtp_pool"] if backend == POOLED else []
    settings.configure(SECRET_KEY="of the benchmarks", INSTALLED_APPS=apps, USE_TZ=True, **mailers)
    django.setup()


def _setting(key):
    names = {"username": "EMAIL_HOST_USER", "password": "EMAIL_HOST_PASSWORD"}
    ours = key in {"max_connections", "max_messages", "batch_connections", "acquire_timeout"}
    return names.get(key, f"EMAIL_POOL_{key.upper()}" if ours else f"EMAIL_{key.upper()}")


def backend():
    """Return a new backend of the default mailer, like `send()` does for each message."""
    if django.VERSION >= (6, 1):
        from django.core.mail import mailers

        return mailers["default"]
    from django.core.mail import get_connection

    return get_connection()


def messages(content, count):
    """Return messages, each to another recipient; a large attachment is the same object in all of them."""
    attached = bytes(range(256)) * (ATTACHED.get(content, 0) // 256)
    return [_message(content, number, attached) for number in range(count)]


def _message(content, number, attached):
    message = EmailMultiAlternatives(f"Message {number}", TEXT, "from@example.com", [f"to{number}@example.com"])
    if content == "html":
        message.attach_alternative(HTML, "text/html")
    if attached:
        message.attach("attached.bin", attached, "application/octet-stream")
    return message


def rendered(message):
    """Return a message as the octets that are sent."""
    return message.message().as_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
