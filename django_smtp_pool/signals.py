"""Signals. They are sent robustly, in the thread that sent the message, after its connection is back in the pool.

`message_sent` and `message_failed`: sender is the backend's class; `message`, `status`, and `error` of a failure.
A message that a receiver sends itself is sent, and sends no signal that it would be sent by: so a receiver of
`message_failed` that mails somebody cannot go round in circles. What a receiver raises is logged by Django.

`connection_opened` and `connection_closed`: sender is `Pool`; `server`, `connection` (its number), and for
the latter `reason` and `messages`.

`token_refreshed`: sender is `AccessToken`; `user` (None where several accounts share the token, or nobody names
one), `expires_at` (seconds since the epoch, or None) and `refresh_token`: a `Secret` to `reveal()` and keep where the
provider has replaced it, else None.
"""

from __future__ import annotations

import logging
import weakref
from contextvars import ContextVar, Token
from typing import Any

from django.dispatch import Signal

from .core.events import records
from .core.events.events import Closed, Event, Observer, Opened
from .core.options.fields import Secret
from .core.pool.pool import Pool
from .oauth2.generators import AccessToken
from .status import SmtpPoolStatus

message_sent = Signal()
message_failed = Signal()
connection_opened = Signal()
connection_closed = Signal()
token_refreshed = Signal()

logger = logging.getLogger("django_smtp_pool.sender")

_being_sent: ContextVar[tuple[weakref.ref[records.UnderWay], ...]] = ContextVar("django_smtp_pool_signals", default=())


def have_receivers(sender: type) -> bool:
    """Tell whether anybody wants to hear what becomes of a message."""
    return message_sent.has_listeners(sender) or message_failed.has_listeners(sender)


def tell(sender: type, message: Any, status: SmtpPoolStatus) -> None:
    """Send the signal of a message that has found its outcome; raises nothing."""
    if status.error is None:
        _send(message_sent, sender=sender, message=message, status=status)
    else:
        _send(message_failed, sender=sender, message=message, status=status, error=status.error)


async def atell(sender: type, message: Any, status: SmtpPoolStatus) -> None:
    """Do what `tell` does, in an event loop: receivers that are not asynchronous run in a thread, as Django has it."""
    if status.error is None:
        await _asend(message_sent, sender=sender, message=message, status=status)
    else:
        await _asend(message_failed, sender=sender, message=message, status=status, error=status.error)


def tell_of_token(token: AccessToken, user: str | None) -> None:
    """Send the signal of a new access token; raises nothing."""
    rotated = Secret(token.refresh_token) if token.refresh_token else None
    _send(token_refreshed, sender=AccessToken, user=user, expires_at=token.expires_at, refresh_token=rotated)


def _begun(signal: Signal) -> tuple[records.UnderWay, Token[Any]] | None:
    """Take note that a signal is being sent, as long as the result is kept; None where it is already."""
    under_way = [each for each in (reference() for reference in _being_sent.get()) if each is not None]
    if any(each.what is signal for each in under_way):
        return None
    sending = records.UnderWay(signal)
    return sending, _being_sent.set(tuple(map(weakref.ref, (*under_way, sending))))


async def _asend(signal: Signal, **arguments: Any) -> None:
    if not signal.has_listeners(arguments["sender"]) or (begun := _begun(signal)) is None:
        return
    try:
        await signal.asend_robust(**arguments)
    except Exception:  # noqa: BLE001 - as below
        records.write(logger, logging.WARNING, "A signal could not be sent", exc_info=True)
    finally:
        _being_sent.reset(begun[1])


def _send(signal: Signal, **arguments: Any) -> None:
    begun = _begun(signal)
    if begun is None:
        return
    try:
        signal.send_robust(**arguments)
    except Exception:  # noqa: BLE001 - Django logs what a receiver raises, and a log handler may raise in turn
        records.write(logger, logging.WARNING, "A signal could not be sent", exc_info=True)
    finally:
        _being_sent.reset(begun[1])


class SignalObserver(Observer):
    """Send a signal for each event of a connection."""

    def notice(self, event: Event) -> None:
        """Send the signal that belongs to an event, if there is one."""
        if isinstance(event, Opened):
            _send(connection_opened, sender=Pool, server=event.server, connection=event.connection)
        elif isinstance(event, Closed):
            _send(
                connection_closed,
                sender=Pool,
                server=event.server,
                connection=event.connection,
                reason=event.reason,
                messages=event.messages,
            )
