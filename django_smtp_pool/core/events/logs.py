"""Events as log records, at most WARNING: a failing message must not cause another one by AdminEmailHandler."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ..errors import Outcome
from ..replies import queue_id_of
from .events import (
    Attempted,
    Closed,
    DialFailed,
    Event,
    Finished,
    Learnt,
    LeftInDoubt,
    Line,
    Observer,
    Opened,
    RateStorageBack,
    RateStorageFailed,
)
from .records import counted, write

_pool = logging.getLogger("django_smtp_pool.pool")
_connection = logging.getLogger("django_smtp_pool.connection")
_sender = logging.getLogger("django_smtp_pool.sender")
_wire = logging.getLogger("django_smtp_pool.wire")

Words = tuple[Any, ...]  # a text and its arguments


def _storage_failed(event: RateStorageFailed) -> Words:
    consequence = "nothing is sent" if event.nothing_goes else "this process keeps the limit for itself alone"
    text = "%s: rate limit: %s did not answer; until it does, %s: %s"
    return text, event.server, event.storage, consequence, event.error


def _attempted(event: Attempted) -> Words:
    when = f"in {event.retry_after:.2f} s" if event.retry_after else "at once"
    text = "Attempt %d to send a message by %s failed, trying again %s: %s"
    return text, event.attempts, event.server, when, event.error


def _closed(event: Closed) -> Words:
    messages = counted(event.messages, "message")
    return "#%d to %s closed after %s: %s", event.connection, event.server, messages, event.reason


# The logger, the level and the text of each kind of event.
_KINDS: dict[type[Event], tuple[logging.Logger, int, Callable[[Any], Words]]] = {
    Line: (_wire, logging.DEBUG, lambda e: ("#%d %s %s", e.connection, ">" if e.said else "<", e.text)),
    Opened: (_connection, logging.INFO, lambda e: ("#%d to %s opened in %.3f s", e.connection, e.server, e.seconds)),
    Closed: (_connection, logging.INFO, _closed),
    DialFailed: (_pool, logging.INFO, lambda e: ("No connection to %s: %s", e.server, e.error)),
    Learnt: (_pool, logging.WARNING, lambda e: ("%s: %s: %s", e.server, e.what, e.why)),
    RateStorageFailed: (_pool, logging.WARNING, _storage_failed),
    RateStorageBack: (_pool, logging.WARNING, lambda e: ("%s: rate limit: %s answers again", e.server, e.storage)),
    Attempted: (_sender, logging.WARNING, _attempted),
    Finished: (_sender, logging.DEBUG, lambda e: ("%s by %s: %s", e.outcome.value, e.server, e.delivery.summary)),
    LeftInDoubt: (_sender, logging.WARNING, lambda e: ("Outcome unknown at %s: %s", e.server, e.delivery.error)),
}


class LogObserver(Observer):
    """Logs events: INFO for connections, DEBUG for messages, WARNING for retries and unknown outcomes."""

    def hears(self, kind: type[Event]) -> bool:
        """Return whether the logger of a kind is enabled."""
        logger, level, _ = _KINDS[kind]
        return logger.isEnabledFor(level)

    def notice(self, event: Event) -> None:
        """Log one event."""
        logger, level, in_words = _KINDS[type(event)]
        if logger.isEnabledFor(level):
            text, *values = in_words(event)
            write(logger, level, text, *values, extra=_extra(event))


def _extra(event: Event) -> dict[str, object]:
    """Return the attributes of a record, for formatters and filters."""
    extra: dict[str, object] = {"server": event.server}
    if isinstance(event, Attempted):
        extra |= {"outcome": Outcome.NOT_SENT.value, "attempts": event.attempts}
    elif isinstance(event, Finished):
        receipt = event.delivery.receipt
        queue_id = queue_id_of(receipt.reply.text) if receipt is not None else None
        extra |= {"outcome": event.outcome.value, "attempts": event.delivery.attempts, "queue_id": queue_id}
    return extra
