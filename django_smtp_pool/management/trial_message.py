"""The message that `manage.py smtp_pool send` and `verify --to` send."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from django.core.mail import EmailMultiAlternatives

from ..message.smtp_options import set_options

SUBJECT = "A test of django-smtp-pool"
BODY = "This is a test message, sent by manage.py smtp_pool {tool}.\n"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments that describe a message."""
    parser.add_argument("to", nargs="+", metavar="ADDR", help="recipients")
    parser.add_argument("--cc", action="append", default=[], metavar="ADDR", help="may be repeated")
    parser.add_argument("--bcc", action="append", default=[], metavar="ADDR", help="may be repeated")
    parser.add_argument("--from", dest="sender", metavar="ADDR", help="default: DEFAULT_FROM_EMAIL")
    parser.add_argument("--subject", default=SUBJECT)
    parser.add_argument("--body", default=BODY.format(tool="send"), help="plain text")
    parser.add_argument("--html", metavar="HTML", help="an alternative in HTML")
    parser.add_argument("--header", action="append", default=[], metavar="NAME:VALUE", help="may be repeated")
    parser.add_argument("--attach", action="append", default=[], metavar="FILE", help="may be repeated")
    parser.add_argument("--dsn", metavar="WHEN", help="delivery status notifications: success,failure,delay or never")
    parser.add_argument("--require-tls", action="store_true", help="every server on the way must use TLS (REQUIRETLS)")


def described(options: Mapping[str, Any]) -> EmailMultiAlternatives:
    """Return the message that the arguments describe.

    Raises ValueError or OSError if it cannot be sent: a header without a colon, or a file that does not exist.
    """
    fields = ("subject", "body", "to", "cc", "bcc")
    headers = dict(_header(text) for text in options["header"])
    message = EmailMultiAlternatives(
        **{field: options[field] for field in fields}, from_email=options["sender"], headers=headers
    )
    if options["html"]:
        message.attach_alternative(options["html"], "text/html")
    for path in options["attach"]:
        message.attach_file(path)
    notify = options["dsn"].split(",") if options["dsn"] else None
    asked = {"dsn": {"notify": notify} if notify else None, "require_tls": options["require_tls"] or None}
    set_options(message, asked)
    return message


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not (colon and name.strip()):
        raise ValueError(f"--header takes NAME:VALUE, not {text!r}")
    return name.strip(), value.strip()


def short(to: str) -> EmailMultiAlternatives:
    """Return the message of `verify --to`."""
    return EmailMultiAlternatives(SUBJECT, BODY.format(tool="verify"), to=[to])
