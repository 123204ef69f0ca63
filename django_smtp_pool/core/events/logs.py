"""Events as log records. None is above WARNING: a failing mail must not cause another by AdminEmailHandler."""

from __future__ import annotations

import logging

from ..errors import Outcome
from .events import (
    Attempted,
    Closed,
    DialFailed,
    Event,
    Finished,
    Learnt,
    Line,
    Observer,
    Opened,
    RateStorageBack,
    RateStorageFailed,
)
from .records import write

_pool = logging.getLogger("django_smtp_pool.pool")
_connection = logging.getLogger("django_smtp_pool.connection")
_sender = logging.getLogger("django_smtp_pool.sender")
_wire = logging.getLogger("django_smtp_pool.wire")


class LogObserver(Observer):
    """Write events to the package's loggers: INFO for connections, DEBUG for messages, WARNING for doubt."""

    def notice(self, event: Event) -> None:
        """Log one event."""
        if isinstance(event, Line):
            write(_wire, logging.DEBUG, "#%d %s %s", event.connection, ">" if event.said else "<", event.text)
        elif isinstance(event, Opened):
            write(
                _connection, logging.INFO, "#%d to %s opened in %.3f s", event.connection, event.server, event.seconds
            )
        elif isinstance(event, Closed):
            write(
                _connection,
                logging.INFO,
                "#%d to %s closed after %d messages: %s",
                event.connection,
                event.server,
                event.messages,
                event.reason,
            )
        elif isinstance(event, DialFailed):
            write(_pool, logging.INFO, "No connection to %s: %s", event.server, event.error)
        elif isinstance(event, Learnt):
            write(_pool, logging.WARNING, "%s: %s: %s", event.server, event.what, event.why)
        elif isinstance(event, RateStorageFailed):
            consequence = "nothing is sent" if event.nothing_goes else "this process keeps the limit for itself alone"
            text = "%s: rate limit: %s gave no answer, and until it does, %s: %s"
            write(_pool, logging.WARNING, text, event.server, event.storage, consequence, event.error)
        elif isinstance(event, RateStorageBack):
            write(_pool, logging.WARNING, "%s: rate limit: %s answers again", event.server, event.storage)
        elif isinstance(event, Attempted):
            # A connection that died while it was idle is no news: the message takes another one at once.
            level = logging.INFO if event.reused and not event.retry_after else logging.WARNING
            at = f" at {event.stage.value}" if event.stage is not None else ""
            text = "A message was not sent by %s%s, trying again in %.2f s: %s"
            write(_sender, level, text, event.server, at, event.retry_after, event.error)
        else:
            self._finished(event)

    def _finished(self, event: Finished) -> None:
        if event.outcome is Outcome.UNKNOWN:
            write(_sender, logging.WARNING, "Outcome unknown at %s: %s", event.server, event.delivery.error)
        else:
            write(_sender, logging.DEBUG, "%s by %s: %s", event.outcome.value, event.server, event.delivery.summary)
