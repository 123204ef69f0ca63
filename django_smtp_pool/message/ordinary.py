"""The ordinary message, plain text in ASCII, written down at once: Python's e-mail package takes fifty times as long.

What is not plainly ordinary is left to Django. The octets are those that Django 6.0 and later make; a test compares.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from email.utils import format_datetime
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.core.mail import message as djangos  # clock and Message-ID are asked for where Django asks for them

from .addresses import PLAIN, is_written_in

LONGEST_LINE = 78  # octets: what is longer would be folded or encoded
_KINDS = (EmailMessage, EmailMultiAlternatives)
_BODY = re.compile(r"[\t\r\n\x20-\x7e]*")
_WORDS = re.compile(r"[!-<>-~]+(?: [!-<>-~]+)*")  # no "=", with which an encoded word would begin
_MAILBOX = re.compile(rf"(?:[A-Za-z0-9]+(?: [A-Za-z0-9]+)* <{PLAIN.pattern}>|{PLAIN.pattern})")


def ordinary(message: Any) -> tuple[bytes, str] | None:
    """Return the octets of an ordinary message and its Message-ID, None for any other."""
    if not _is_ordinary(message):
        return None
    body, fields = _body(message.body), _fields(message)
    if body is None or fields is None:
        return None
    message_id = djangos.make_msgid(domain=djangos.DNS_NAME)  # type: ignore[attr-defined]
    zone = djangos.get_current_timezone() if settings.EMAIL_USE_LOCALTIME else djangos.timezone.utc  # type: ignore[attr-defined]
    date = format_datetime(djangos.datetime.now(zone))  # type: ignore[attr-defined]
    lines = (
        'Content-Type: text/plain; charset="utf-8"',
        "Content-Transfer-Encoding: 7bit",
        "MIME-Version: 1.0",
        *fields,
        f"Date: {date}",
        f"Message-ID: {message_id}",
        "",
        *body,
        "",
    )
    if len(lines[-len(body) - 3]) > LONGEST_LINE:  # a long name of this machine
        return None
    return "\r\n".join(lines).encode("ascii"), message_id


def _is_ordinary(message: Any) -> bool:
    return (
        type(message) in _KINDS
        and is_written_in(djangos, type(message).message)  # whoever replaces it is asked
        and "message" not in vars(message)
        and not (message.attachments or getattr(message, "alternatives", None) or message.extra_headers)
        and message.content_subtype == "plain"
        and type(message.encoding) in {str, type(None)}  # a Charset says that it equals its name
        and (message.encoding or settings.DEFAULT_CHARSET) == "utf-8"
    )


def _body(text: Any) -> list[str] | None:
    if type(text) is not str or not _BODY.fullmatch(text):
        return None
    lines = text.splitlines()
    return None if max(map(len, lines), default=0) > LONGEST_LINE else lines or [""]


def _fields(message: Any) -> list[str] | None:
    """Return the fields that the user fills, None where one of them is not plainly what it will be on the wire."""
    subject = message.subject
    if type(subject) is not str or not _WORDS.fullmatch(subject):
        return None
    fields = [f"Subject: {subject}"]
    for name, addresses in _addresses(message):
        if not all(type(address) is str and _MAILBOX.fullmatch(address) for address in addresses):
            return None
        fields.append(f"{name}: {', '.join(addresses)}")
    return None if max(map(len, fields)) > LONGEST_LINE else fields


def _addresses(message: Any) -> list[tuple[str, Sequence[Any]]]:
    lists = [("To", message.to), ("Cc", message.cc), ("Reply-To", message.reply_to)]
    return [("From", [message.from_email]), *((name, addresses) for name, addresses in lists if addresses)]
