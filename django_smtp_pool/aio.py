"""Django's mail functions for asynchronous code: `asend_mail()` and `asend_mass_mail()`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import django
from asgiref.sync import sync_to_async
from django.core import mail
from django.core.mail import EmailMessage, EmailMultiAlternatives


async def asend_mail(
    subject: str,
    message: str,
    from_email: str | None,
    recipient_list: Sequence[str],
    *,
    fail_silently: bool = False,
    auth_user: str | None = None,
    auth_password: str | None = None,
    connection: Any = None,
    html_message: str | None = None,
    using: str | None = None,
) -> int:
    """Send one message as `django.core.mail.send_mail` does, without blocking the event loop.

    The arguments are those of this Django version's `send_mail`; `using` requires Django 6.1.
    """
    backend = _backend(fail_silently, auth_user, auth_password, connection, using)
    email = EmailMultiAlternatives(subject, message, from_email, recipient_list, **_on(backend))
    if html_message:
        email.attach_alternative(html_message, "text/html")
    return await _send(backend, [email]) if email.recipients() else 0


async def asend_mass_mail(
    datatuple: Iterable[tuple[str, str, str | None, Sequence[str]]],
    *,
    fail_silently: bool = False,
    auth_user: str | None = None,
    auth_password: str | None = None,
    connection: Any = None,
    using: str | None = None,
) -> int:
    """Send messages as `django.core.mail.send_mass_mail` does, without blocking the event loop."""
    backend = _backend(fail_silently, auth_user, auth_password, connection, using)
    return await _send(
        backend,
        [
            EmailMessage(subject, message, sender, recipients, **_on(backend))
            for subject, message, sender, recipients in datatuple
        ],
    )


async def _send(backend: Any, messages: list[Any]) -> int:
    """Send through the backend's `asend_messages`; if it has none, through `send_messages` in a thread."""
    asend_messages = getattr(backend, "asend_messages", None) or sync_to_async(backend.send_messages)
    return await asend_messages(messages) or 0


def _on(backend: Any) -> dict[str, Any]:
    """Return the argument that gives a message its connection, where Django does not deprecate it."""
    return {} if django.VERSION >= (6, 1) else {"connection": backend}


def _backend(
    fail_silently: bool,  # noqa: FBT001 - passed on as it is
    auth_user: str | None,
    auth_password: str | None,
    connection: Any,
    using: str | None,
) -> Any:
    """Return the backend that `send_mail` of this Django version uses, and raise TypeError in the same cases."""
    given: Any = {"fail_silently": fail_silently, "username": auth_user, "password": auth_password}
    if django.VERSION < (6, 1):
        if using is not None:
            raise TypeError(f"'using' requires Django 6.1; this is {django.get_version()}.")
        return connection or mail.get_connection(**given)
    given = {key: value for key, value in given.items() if value is not None and value is not False}
    if using is not None and connection is not None:
        raise TypeError("'connection' is not compatible with 'using'.")
    if given and (using is not None or connection is not None):
        names = " and ".join(given).replace("username", "auth_user").replace("password", "auth_password")
        raise TypeError(f"{names} cannot be used with a connection or 'using'. Set them in the mailer's OPTIONS.")
    if connection is not None:
        return connection
    return mail.get_connection(**given) if given else mail.mailers[using or "default"]
