"""One `send_messages()`: render, send, and record the outcome of each message."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.errors import MessageError
from typing import Any

from django.core.mail import EmailMessage

from . import signals
from .conf import Config
from .core.delivery.delivery import Delivery
from .core.errors import Failure, Outcome, PartiallyRefused, is_failure
from .core.events import records
from .core.interrupts import as_failure, foreign, from_signal_handler
from .core.replies import queue_id_of
from .core.sender import Sender
from .core.smtp.envelope import Envelope
from .message.addresses import remembering
from .message.parts import ALONE, Batch
from .message.render import envelope_of, takes_long
from .status import SmtpPoolStatus, status_after, status_without_delivery

logger = logging.getLogger("django_smtp_pool.sender")

_Token = tuple[int, Any]  # identifies a delivery: the index of the message in the batch, and the message


def check_messages(messages: Iterable[Any]) -> None:
    """Raise TypeError before anything is sent, if this is not a list of messages; a generator is checked one by one."""
    if isinstance(messages, (str, bytes)) or not isinstance(messages, Iterable):
        raise TypeError(f"send_messages() takes a list of messages, not {type(messages).__name__}")
    for number, message in enumerate(messages if isinstance(messages, Collection) else ()):
        if not isinstance(message, EmailMessage):
            check_message(message, number)


def check_message(message: Any, number: int) -> None:
    """Raise TypeError if this is not a message."""
    if not (callable(getattr(message, "recipients", None)) and callable(getattr(message, "message", None))):
        raise TypeError(f"send_messages() takes EmailMessage objects; number {number} is {type(message).__name__}")


def add_note(error: BaseException, note: str | None) -> None:
    """Add a note to an error, if Python supports notes (3.11) and the error does not have it yet."""
    if note and hasattr(error, "add_note") and note not in getattr(error, "__notes__", ()):
        error.add_note(note)


def shortened(error: Exception) -> Exception:
    """Return an error of the server or the network without its traceback, which shows only frames of this package.

    Errors of foreign code keep it.
    """
    is_of_the_network = isinstance(error, Failure) or (isinstance(error, OSError) and hasattr(error, "stage"))
    return error.with_traceback(None) if is_of_the_network else error


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a batch got, as indices of its messages; `error.batch` of what `send_messages()` raises.

    Arguments:
        accepted: messages that the server accepted, each for at least one recipient.
        failures: messages that were refused, were not sent or are in doubt, each with its error.
        not_tried: messages that were never tried; of a generator, only those that it has yielded.
    """

    accepted: tuple[int, ...] = ()
    failures: Mapping[int, BaseException] = field(default_factory=dict)
    not_tried: tuple[int, ...] = ()

    def __str__(self) -> str:
        """Return the numbers as a sentence."""
        counts = f"{len(self.accepted)} accepted, {len(self.failures)} failed, {len(self.not_tried)} not tried"
        return f"Of this batch of messages: {counts}."


class _News:
    """The outcomes for which signals must still be sent in an event loop; awaiting this sends them."""

    def __init__(self, kind: type) -> None:
        self._kind = kind
        self._unsent: deque[tuple[Any, SmtpPoolStatus]] = deque()

    def add(self, message: Any, status: SmtpPoolStatus) -> None:
        """Add the outcome of a message."""
        self._unsent.append((message, status))

    def __await__(self) -> Generator[Any, None, None]:
        return self._send().__await__()

    async def _send(self) -> None:
        while self._unsent:
            await signals.atell(self._kind, *self._unsent.popleft())


class Mailing:
    """The messages of one call, their outcomes and failures.

    Arguments:
        kind: the class of the backend, which is the sender of the signals.
        prep_address: the backend's method that prepares an address, if it has one (Django 6.0 and later).
    """

    def __init__(self, kind: type, sender: Sender, config: Config, prep_address: Callable[..., str] | None) -> None:
        self._kind = kind
        self._sender = sender
        self.server = config.server
        self._options = config.mailer
        self._connections = config.mailer.batch_connections or config.pool.max_connections
        self._prep_address = prep_address
        self._batch = ALONE
        # Messages by their indices.
        self.unrendered: set[int] = set()
        self.failures: dict[int, Exception] = {}
        self.accepted: set[int] = set()
        self._interrupted: dict[int, BaseException] = {}
        self._without_recipients: set[int] = set()
        self._news: _News | None = None  # only in an event loop
        self._known = 0  # the number of messages, as far as it is known

    def send(self, messages: Iterable[Any]) -> None:
        """Send messages; several go over several connections at once."""
        try:
            if self._is_single(messages):
                self._send_one(messages)
            else:
                may_nest = signals.have_receivers(self._kind)
                self._sender.send_many(self._rendered(messages), self._ended, self._connections, may_nest=may_nest)
        except BaseException as error:
            self.mark(error)
            raise

    async def asend(self, messages: Iterable[Any]) -> None:
        """Do what `send` does, in the running event loop; messages that are slow to render are rendered in a thread."""
        self._news = _News(self._kind)
        try:
            await self._asend(messages)
        except BaseException as error:
            self.mark(error)
            if isinstance(error, (Exception, asyncio.CancelledError)):  # otherwise the loop is about to end
                await self._news
            raise

    def mark(self, error: BaseException) -> None:
        """Set the progress of the batch on an error that is about to be raised."""
        failures = {**self.failures, **self._interrupted}
        done = {*self.accepted, *failures, *self._without_recipients}
        progress = Progress(
            accepted=tuple(sorted(self.accepted)),
            failures=dict(sorted(failures.items())),
            not_tried=tuple(index for index in range(self._known) if index not in done),
        )
        with suppress(AttributeError):  # a foreign error with slots
            error.batch = progress  # type: ignore[attr-defined]
        if self._known > 1:
            add_note(error, str(progress))

    async def _asend(self, messages: Iterable[Any]) -> None:
        if self._is_single(messages):
            await self._asend_one(self._rendered(messages))
        else:
            may_nest = signals.have_receivers(self._kind)
            source = self._rendered(messages)
            await self._sender.asend_many(source, self._ended, self._connections, may_nest=may_nest)
        if self._news is not None:  # for messages that could not be rendered
            await self._news

    def _is_single(self, messages: Iterable[Any]) -> bool:
        """Return whether this is a single message, and remove the statuses of earlier sends."""
        if isinstance(messages, Collection):
            self._known = len(messages)
            for message in messages:
                # A message that is never reached must not keep the status of an earlier send.
                message.smtp_pool_status = None
            if len(messages) == 1:
                return True
        self._batch = Batch(is_alone=False)
        return False

    def _send_one(self, messages: Iterable[Any]) -> None:
        for found in self._rendered(messages):
            if found is not None:
                token, envelope = found
                delivery = Delivery(envelope=envelope)
                try:
                    self._ended(token, self._sender.complete(delivery))
                except BaseException as interrupt:
                    delivery.cut_short(interrupt)
                    self._ended(token, delivery)
                    raise

    async def _asend_one(self, source: Iterator[tuple[_Token, Envelope] | None]) -> None:
        found = next(source, ())
        if found is None:
            found = await asyncio.to_thread(next, source, ())
        if not found:
            return
        token, envelope = found
        delivery = Delivery(envelope=envelope)
        try:
            self._ended(token, await self._sender.acomplete(delivery))
        except BaseException as interrupt:
            delivery.cut_short(interrupt)
            self._ended(token, delivery)
            raise

    def _rendered(self, messages: Iterable[Any]) -> Iterator[tuple[_Token, Envelope] | None]:
        """Render messages one by one, when they are requested; one that cannot be rendered does not affect the others.

        In an event loop, yields None before a message that is slow to render.
        """
        prepare = self._prep_address if self._batch is ALONE else remembering(self._prep_address)
        for index, message in enumerate(messages):
            if index >= self._known:  # from a generator: this is the first look at it
                check_message(message, index)
                message.smtp_pool_status = None
                self._known = index + 1
            try:
                if not foreign(message.recipients):
                    self._without_recipients.add(index)
                    continue
                if self._news is not None and (self._options.finishers or takes_long(message)):
                    yield None
                envelope = envelope_of(message, prepare, self._options.finishers, self._batch)
            except Exception as error:
                if not _is_about_message(error):
                    raise
                self.failures[index] = error
                self.unrendered.add(index)
                status = status_without_delivery(message, error)
                message.smtp_pool_status = status
                self._tell(message, status)
            else:
                yield (index, message), envelope

    def _ended(self, token: _Token, delivery: Delivery) -> _News | None:
        """Record the outcome of a message; its connection is back in the pool by now."""
        if delivery.is_told:  # an interrupt occurred while receivers of a signal were called
            return self._news
        index, message = token
        status = status_after(delivery)
        message.smtp_pool_status = status
        receipt, error = delivery.receipt, delivery.error
        partial = None
        if receipt is not None:
            self.accepted.add(index)
            if receipt.refused and error is None:
                partial = PartiallyRefused(receipt.accepted, receipt.refused)
        if partial is not None and self._options.on_partial_refusal == "raise":
            self.failures[index] = partial
        elif isinstance(error, Exception) and is_failure(error):
            self.failures[index] = error
        elif error is not None:
            self._interrupted[index] = error
        delivery.is_told = True  # from here on, the code of others may raise an interrupt
        self._tell(message, status)
        if partial is not None and self._options.on_partial_refusal == "warn":
            self._warn(partial, delivery)
        return self._news

    def _tell(self, message: Any, status: SmtpPoolStatus) -> None:
        if status.error is None or is_failure(status.error):  # after an interrupt, receivers would only delay the end
            if self._news is not None:
                self._news.add(message, status)
            else:
                signals.tell(self._kind, message, status)

    def _warn(self, partial: PartiallyRefused, delivery: Delivery) -> None:
        extra = {
            "server": self._sender.pool.name,
            "outcome": Outcome.ACCEPTED.value,
            "attempts": delivery.attempts,
            "queue_id": queue_id_of(delivery.receipt.reply.text) if delivery.receipt is not None else None,
        }
        records.write(logger, logging.WARNING, "A message was %s", partial, extra=extra)


# What this package and Django raise for a value that cannot be rendered; other code is called by `foreign`.
_BY_VALUES = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, MessageError)


def _is_about_message(error: Exception) -> bool:
    """Return whether rendering failed because of the message, and mark the error; any other error is an interrupt."""
    is_file = isinstance(error, OSError) and error.errno is not None  # an attachment that cannot be read
    if (isinstance(error, _BY_VALUES) or is_file) and not from_signal_handler(error):
        as_failure(error)
    return is_failure(error)
