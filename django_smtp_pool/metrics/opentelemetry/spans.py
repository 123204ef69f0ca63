"""The spans of a message, created when it has its outcome, so that an interrupt or a fork leaves no span open.

    smtp.send
      smtp.wait, smtp.connect, smtp.conversation    for each attempt

A delivery records how long each phase took, and when the last one ended. A gap between them is a pause: the rate limit,
or the time before another attempt. No attribute contains an address or the server's words, which may contain one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode

from ...core.replies import queue_id_of
from ..figures import stage_of

SHORTEST_WAIT = 0.001  # seconds; a shorter wait for a connection has no span

Attributes = dict[str, str | int | bool]


class Tried(NamedTuple):
    """The state of a delivery when an attempt ended; seconds are sums over all attempts so far."""

    error: BaseException | None
    attempts: int
    reused: bool
    waited: float
    connected: float
    sent: float
    round_trips: int
    elapsed: float | None  # seconds since the delivery began, or None if the attempt was not ended

    @classmethod
    def of(cls, delivery: Any) -> Tried:
        """Return the current state of a delivery."""
        ended, asked_at = delivery.ended, delivery.asked_at
        return cls(
            error=delivery.error if delivery.receipt is None else None,
            attempts=delivery.attempts,
            reused=delivery.reused,
            waited=delivery.waited,
            connected=delivery.connected,
            sent=delivery.sent,
            round_trips=delivery.round_trips,
            elapsed=None if ended is None or asked_at is None else ended - asked_at,
        )


NOTHING = Tried(None, 0, False, 0.0, 0.0, 0.0, 0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A message that has its final outcome.

    Arguments:
        begun: instant (monotonic) at which its delivery began.
        now, wall: the present, monotonic and since the epoch.
        context: the context of the caller, with the parent span.
    """

    server: str
    outcome: str
    receipt: Any
    recipients: int
    size: int
    begun: float
    tries: list[Tried]
    now: float
    wall: float
    context: Context

    def end(self, tried: Tried) -> float:
        """Return the instant (monotonic) at which an attempt ended."""
        return self.now if tried.elapsed is None else min(self.now, self.begun + tried.elapsed)

    def epoch(self, instant: float) -> int:
        """Return an instant (monotonic) as nanoseconds since the epoch."""
        return int((self.wall - (self.now - instant)) * 1e9)


class _Phase(NamedTuple):
    """A part of an attempt; instants are monotonic."""

    name: str
    attempt: int
    start: float
    end: float
    error: BaseException | None


def write(tracer: trace.Tracer, of: Trace) -> None:
    """Create the spans of a message."""
    phases = list(_phases(of))
    start = min([of.begun, *(phase.start for phase in phases)])
    span = tracer.start_span(
        "smtp.send", of.context, SpanKind.CLIENT, _attributes(of), start_time=of.epoch(start), record_exception=False
    )
    if span.is_recording():
        inside = trace.set_span_in_context(span, of.context)
        for phase in phases:
            child = tracer.start_span(
                phase.name, inside, SpanKind.INTERNAL, {"smtp.attempt": phase.attempt}, start_time=of.epoch(phase.start)
            )
            _mark(child, phase.error)
            child.end(of.epoch(phase.end))
        _mark(span, of.tries[-1].error)
        if of.receipt is not None and (queue_id := queue_id_of(of.receipt.reply.text)) is not None:
            span.set_attribute("smtp.queue_id", queue_id)
    span.end(of.epoch(of.end(of.tries[-1])))


def _phases(of: Trace) -> Iterator[_Phase]:
    """Return the parts of each attempt, in order; an error belongs to the last part of its attempt."""
    before = NOTHING
    for tried in of.tries:
        found, end, error = [], of.end(tried), tried.error
        for name, seconds in (
            ("smtp.conversation", tried.sent - before.sent),
            ("smtp.connect", tried.connected - before.connected),
            ("smtp.wait", tried.waited - before.waited),
        ):
            if seconds > (SHORTEST_WAIT if name == "smtp.wait" else 0.0):
                found.append(_Phase(name, tried.attempts, end - seconds, end, error))
                end, error = end - seconds, None
        yield from reversed(found)
        before = tried


def _attributes(of: Trace) -> Attributes:
    last = of.tries[-1]
    host, _, port = of.server.rpartition(":")
    found: Attributes = {"server.address": host, "server.port": int(port)} if port.isdigit() else {}
    found = found or {"server.address": of.server}
    found |= {
        "smtp.outcome": of.outcome,
        "smtp.attempts": last.attempts,
        "smtp.connection.reused": last.reused,
        "smtp.round_trips": last.round_trips,
        "smtp.recipients": of.recipients,
        "smtp.message.size": of.size,
    }
    return found


def _mark(span: trace.Span, error: BaseException | None) -> None:
    """Mark a span as failed, without the words of the server."""
    if error is None:
        return
    kind, stage, reply = type(error).__name__, stage_of(error), getattr(error, "reply", None)
    span.set_attribute("error.type", kind)
    span.set_attribute("smtp.stage", stage)
    said = ""
    if reply is not None:
        span.set_attribute("smtp.reply.code", reply.code)
        said = f" ({reply.code}{' ' + '.'.join(map(str, reply.enhanced)) if reply.enhanced else ''})"
    span.set_status(Status(StatusCode.ERROR, f"{kind} at {stage}{said}"))
