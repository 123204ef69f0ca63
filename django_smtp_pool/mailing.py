"""One `send_messages()`: renders, sends, and keeps what became of each message."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from . import signals
from .conf import Config
from .core.delivery.job import Delivery
from .core.delivery.sender import Sender
from .core.errors import Outcome, PartiallyRefused
from .core.events import records
from .core.smtp.envelope import Envelope
from .message.addresses import quick
from .message.render import envelope_of
from .status import SmtpPoolStatus, record, status_of, status_without_delivery

logger = logging.getLogger("django_smtp_pool.sender")


@dataclass(kw_only=True)
class _Item:
    """A message and its place in the batch."""

    index: int
    message: Any
    envelope: Envelope
    is_told: bool = False  # what became of it is on the message


class Mailing:
    """The messages of one call, their outcomes and failures.

    Arguments:
        kind: the backend's class, the sender of the signals.
        prep_address: the backend's own way to prepare an address, where it has one (Django 6.0 and later).
    """

    def __init__(self, kind: type, sender: Sender, config: Config, prep_address: Callable[..., str] | None) -> None:
        self._kind = kind
        self._sender = sender
        self._options = config.mailer
        self._connections = config.mailer.batch_connections or config.pool.max_connections
        self._prep_address = None if prep_address is None else quick(prep_address)
        self.accepted = 0
        self.unrendered: set[int] = set()  # indices of messages whose failure is nothing that a network does
        self._failures: dict[int, Exception] = {}

    @property
    def failures(self) -> dict[int, Exception]:
        """The index of each failed message and its error, in the order of the messages."""
        return dict(sorted(self._failures.items()))

    def send(self, messages: Iterable[Any]) -> None:
        """Send messages: one by itself, several over several connections at once."""
        if isinstance(messages, Sequence):
            for message in messages:
                record(message, None)  # one that is never reached is not left with the status of an earlier send
            if len(messages) == 1:
                self._send_one(messages)
                return
        may_nest = signals.have_receivers(self._kind)
        self._sender.send_many(self._rendered(messages), self._ended, self._connections, may_nest=may_nest)

    def _send_one(self, messages: Iterable[Any]) -> None:
        for item, envelope in self._rendered(messages):
            job = self._sender.begin(envelope)
            try:
                self._ended(item, self._sender.complete(job))
            except BaseException as interrupt:
                self._ended(item, job.cut_short(interrupt))
                raise

    def _rendered(self, messages: Iterable[Any]) -> Iterator[tuple[_Item, Envelope]]:
        """Render messages one by one, as they are asked for; one that cannot be rendered is a failure of its own."""
        for index, message in enumerate(messages):
            record(message, None)
            try:
                if not message.recipients():
                    continue
                envelope = envelope_of(message, self._prep_address, self._options.finishers)
            except Exception as error:  # noqa: BLE001 - raised when the others have had their turn
                self._failures[index] = error
                self.unrendered.add(index)
                self._conclude(message, status_without_delivery(message, error))
            else:
                yield _Item(index=index, message=message, envelope=envelope), envelope

    def _ended(self, item: _Item, delivery: Delivery) -> None:
        """Take note of what became of a message; its connection is back in the pool by now."""
        if item.is_told:  # an interrupt came while the receivers of a signal were told
            return
        status = status_of(item.envelope, delivery)
        record(item.message, status)
        item.is_told = True
        self._conclude(item.message, status)
        self.accepted += delivery.outcome is Outcome.ACCEPTED
        if isinstance(delivery.error, Exception):
            self._failures[item.index] = delivery.error
        elif delivery.receipt is not None and delivery.receipt.refused:
            self._partially_refused(item.index, delivery)

    def _conclude(self, message: Any, status: SmtpPoolStatus) -> None:
        record(message, status)
        if status.error is None or isinstance(status.error, Exception):  # nobody waits for receivers after a Ctrl-C
            signals.tell(self._kind, message, status)

    def _partially_refused(self, index: int, delivery: Delivery) -> None:
        if delivery.receipt is None:
            raise AssertionError("it was accepted for some")
        partial = PartiallyRefused(delivery.receipt.accepted, delivery.receipt.refused)
        if self._options.on_partial_refusal == "raise":
            self._failures[index] = partial
        elif self._options.on_partial_refusal == "warn":
            records.write(logger, logging.WARNING, "A message was %s", partial)
