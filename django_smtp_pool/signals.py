"""Signals. They are sent robustly, in the thread that sent the message, after its connection is back in the pool.

`message_sent` and `message_failed`: the sender is the backend's class. Arguments: `message`, `status`, and for a
failure `error`. A message that a receiver sends does not send the same signal again, so a receiver of
`message_failed` that sends mail cannot cause an endless loop. Django logs the exceptions of receivers.

`connection_opened` and `connection_closed`: the sender is `Pool`. Arguments: `server`, `connection` (its number), and
for the latter `reason` and `messages`.

`token_refreshed`: the sender is `AccessToken`. Arguments: `user` (None if several accounts share the token, or if no
option and no token names one), `expires_at` (seconds since the epoch, or None) and `refresh_token` (a `Secret` to
`reveal()` and save if the provider has replaced it, otherwise None).
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import weakref
from contextvars import ContextVar, Token
from typing import Any

from django.dispatch import Signal

from .core.events import records
from .core.events.events import Closed, Event, Observer, Opened
from .core.interrupts import from_signal_handler
from .core.options.fields import Secret
from .core.pool.pool import Pool
from .oauth2.generators import AccessToken
from .status import SmtpPoolStatus


class _LoopSignal(Signal):
    """A signal that can call asynchronous receivers from code that blocks an event loop.

    Django would run them in the calling thread, where a loop is running already. So they run in their own loop,
    in a thread with the same context, as they do when no loop is running. Other receivers are called here.
    """

    def send_robust(self, sender: Any, **named: Any) -> list[tuple[Any, Any]]:
        """Call each receiver; return each with its result, or with the Exception that it raised."""
        if not _is_loop_running() or not self._live_receivers(sender)[1]:
            return super().send_robust(sender, **named)
        answers = self._send_to(_SYNCHRONOUS, sender, named)
        context = contextvars.copy_context()
        work = lambda: answers.extend(context.run(self._send_to, _ASYNCHRONOUS, sender, named))  # noqa: E731
        thread = threading.Thread(target=work, name="django-smtp-pool-receivers", daemon=True)
        thread.start()
        thread.join()
        return answers

    def _send_to(self, which: int, sender: Any, named: dict[str, Any]) -> list[tuple[Any, Any]]:
        token = _which.set((self, which))
        try:
            return super().send_robust(sender, **named)
        finally:
            _which.reset(token)

    def _live_receivers(self, sender: Any) -> tuple[list[Any], list[Any]]:
        found = super()._live_receivers(sender)
        signal, which = _which.get() or (None, None)
        if signal is not self:
            return found
        return (found[0], []) if which == _SYNCHRONOUS else ([], found[1])


message_sent = _LoopSignal()
message_failed = _LoopSignal()
connection_opened = _LoopSignal()
connection_closed = _LoopSignal()
token_refreshed = _LoopSignal()

logger = logging.getLogger("django_smtp_pool.sender")

_SYNCHRONOUS, _ASYNCHRONOUS = 0, 1
# The receivers that may be called at the moment; None for all.
_which: ContextVar[tuple[Signal, int] | None] = ContextVar("django_smtp_pool_receivers", default=None)
_being_sent: ContextVar[tuple[weakref.ref[records.UnderWay], ...]] = ContextVar("django_smtp_pool_signals", default=())


def after_fork() -> None:
    """Give each signal a new lock in a forked child: another thread may have held Django's during the fork."""
    for signal in (message_sent, message_failed, connection_opened, connection_closed, token_refreshed):
        signal.lock = threading.Lock()


def have_receivers(sender: type) -> bool:
    """Return whether `message_sent` or `message_failed` has a receiver."""
    return message_sent.has_listeners(sender) or message_failed.has_listeners(sender)


def tell(sender: type, message: Any, status: SmtpPoolStatus) -> None:
    """Send the signal for a message whose outcome is known; raises only interrupts."""
    if status.error is None:
        if message_sent.receivers:
            _send(message_sent, sender=sender, message=message, status=status)
    elif message_failed.receivers:
        _send(message_failed, sender=sender, message=message, status=status, error=status.error)


async def atell(sender: type, message: Any, status: SmtpPoolStatus) -> None:
    """Do what `tell` does in an event loop: synchronous receivers run in a thread, as in Django."""
    if status.error is None:
        await _asend(message_sent, sender=sender, message=message, status=status)
    else:
        await _asend(message_failed, sender=sender, message=message, status=status, error=status.error)


def tell_of_token(token: AccessToken, user: str | None) -> None:
    """Send the signal for a new access token; raises only interrupts."""
    rotated = Secret(token.refresh_token) if token.refresh_token else None
    _send(token_refreshed, sender=AccessToken, user=user, expires_at=token.expires_at, refresh_token=rotated)


def _begun(signal: Signal) -> tuple[records.UnderWay, Token[Any]] | None:
    """Mark a signal as being sent, as long as the result is kept; return None if it is already being sent."""
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
    except Exception as error:
        if from_signal_handler(error):
            raise
        records.write(logger, logging.WARNING, "A signal could not be sent", exc_info=True)
    finally:
        _being_sent.reset(begun[1])


def _send(signal: Signal, **arguments: Any) -> None:
    if not signal.has_listeners(arguments["sender"]) or (begun := _begun(signal)) is None:
        return
    answers: list[tuple[Any, Any]] = []
    try:
        answers = signal.send_robust(**arguments)
    except Exception as error:
        if from_signal_handler(error):
            raise
        # Django logs what a receiver raises, and a log handler may raise too.
        records.write(logger, logging.WARNING, "A signal could not be sent", exc_info=True)
    finally:
        _being_sent.reset(begun[1])
    for _, answer in answers:
        if isinstance(answer, Exception) and from_signal_handler(answer):
            raise answer


def _is_loop_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


_SIGNALS: dict[type[Event], Signal] = {Opened: connection_opened, Closed: connection_closed}


class SignalObserver(Observer):
    """Sends a signal for each connection event."""

    def hears(self, kind: type[Event]) -> bool:
        """Return whether a signal of this kind has a receiver."""
        signal = _SIGNALS.get(kind)
        return signal is not None and signal.has_listeners(Pool)

    def notice(self, event: Event) -> None:
        """Send the signal for an event, if it has one."""
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
