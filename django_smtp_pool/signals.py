"""Signals. They are sent robustly, in the thread that sent the message, after its connection is back in the pool.

`message_sent` and `message_failed`: sender is the backend's class; `message`, `status`, and `error` of a failure.
`connection_opened` and `connection_closed`: sender is `Pool`; `server`, `connection` (its number), and for
the latter `reason` and `messages`.
"""

from __future__ import annotations

from django.dispatch import Signal

from .core.events import Closed, Event, Observer, Opened
from .core.pool import Pool

message_sent = Signal()
message_failed = Signal()
connection_opened = Signal()
connection_closed = Signal()


class SignalObserver(Observer):
    """Send a signal for each event of a connection."""

    def notice(self, event: Event) -> None:
        """Send the signal that belongs to an event, if there is one."""
        if isinstance(event, Opened):
            connection_opened.send_robust(sender=Pool, server=event.server, connection=event.connection)
        elif isinstance(event, Closed):
            connection_closed.send_robust(
                sender=Pool,
                server=event.server,
                connection=event.connection,
                reason=event.reason,
                messages=event.messages,
            )
