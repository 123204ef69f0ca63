"""A panel for django-debug-toolbar: the mail of one request, its timing, and the dialogue with the server.

Everything is recorded in the context of the request, which is shared by the threads and tasks that Django starts for
it. Outside of a request, nothing is recorded.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from .core.events.events import Event, Line, Observer
from .core.events.records import counted
from .core.options.extras import missing
from .registry import observers
from .signals import message_failed, message_sent
from .status import SmtpPoolStatus

try:
    from debug_toolbar.panels import Panel
except ImportError:
    if (what := missing("toolbar")) is None:
        raise
    raise ImportError(f"django_smtp_pool.toolbar {what}") from None

MOST_MESSAGES = 200  # shown for one request
MOST_LINES = 1000  # of the dialogue, shown for one request


@dataclass(kw_only=True)
class Mail:
    """What a request has sent so far."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)
    count: int = 0
    seconds: float = 0.0


_mail: ContextVar[Mail | None] = ContextVar("django_smtp_pool_toolbar", default=None)


class _Listener(Observer):
    """Records the dialogue, if `debug` is on."""

    def hears(self, kind: type[Event]) -> bool:
        """Return whether lines are recorded for the current request."""
        return kind is Line and _mail.get() is not None

    def notice(self, event: Event) -> None:
        """Record a line; secrets and content are masked already."""
        mail = _mail.get()
        if mail is not None and isinstance(event, Line) and len(mail.lines) < MOST_LINES:
            mail.lines.append({"connection": event.connection, "said": event.said, "text": event.text})


def _note(*, message: Any, status: SmtpPoolStatus, **_: Any) -> None:
    """Record a message that has its final outcome."""
    mail = _mail.get()
    if mail is None:
        return
    mail.count += 1
    mail.seconds += status.waited + status.connected + status.sent
    if mail.count <= MOST_MESSAGES:
        mail.messages.append(_shown(message, status))


def _shown(message: Any, status: SmtpPoolStatus) -> dict[str, Any]:
    words = status.reply if status.reply is not None else status.error
    return {
        "subject": str(message.subject),
        "recipients": ", ".join(status.recipients),
        "outcome": status.outcome.replace("_", " "),
        "words": "" if words is None else str(words),
        "connection": "reused" if status.reused else "new" if status.attempts else "none",
        "attempts": status.attempts,
        **{phase: f"{getattr(status, phase) * 1000:.1f}" for phase in ("waited", "connected", "sent")},
    }


_listener = _Listener()


class MailPanel(Panel):  # type: ignore[misc]
    """The mail of one request."""

    title = "Mail by the SMTP pool"
    nav_title = "Mail"
    template = "django_smtp_pool/toolbar.html"
    is_async = True

    @classmethod
    def ready(cls) -> None:
        """Connect to the signals, and observe the pools of this process; only once."""
        for signal in (message_sent, message_failed):
            signal.connect(_note, dispatch_uid="django_smtp_pool.toolbar")
        observers.add(_listener)

    @property
    def nav_subtitle(self) -> str:
        """The number of messages, and how long they took."""
        return str(self.get_stats().get("summary", ""))

    def enable_instrumentation(self) -> None:
        """Start recording for a request."""
        self._mail = Mail()
        _mail.set(self._mail)

    def disable_instrumentation(self) -> None:
        """Stop recording."""
        _mail.set(None)

    def generate_stats(self, request: Any, response: Any) -> None:  # noqa: ARG002 - the toolbar's
        """Record the data that the panel shows."""
        mail = self._mail
        summary = f"{counted(mail.count, 'message')}, {mail.seconds * 1000:.0f} ms"
        self.record_stats(
            {
                "summary": summary if mail.count else "none",
                "messages": mail.messages,
                "more": max(0, mail.count - len(mail.messages)),
                "lines": mail.lines,
            }
        )
