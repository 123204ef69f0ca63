"""The metrics, in one table for Prometheus and OpenTelemetry, and what each event adds to them.

Labels have few values: servers, outcomes, stages, reasons. An address, a user name or a reply is never a value.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..core.errors import (
    SETUP_STAGES,
    DeliveryUnknown,
    Outcome,
    PoolClosed,
    PoolFull,
    PoolTimeout,
    RateLimited,
    RateStorageUnavailable,
    Stage,
    is_failure,
)
from ..core.events.events import (
    Attempted,
    Closed,
    DialFailed,
    Event,
    Finished,
    LeftInDoubt,
    Opened,
    RateStorageFailed,
)
from ..core.pool.pool import Pool

SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Metric:
    """One metric; `smtp_pool_` or `smtp_pool.` comes before its name.

    Arguments:
        unit: in the notation of OpenTelemetry: "s", or what is counted, in braces.
        buckets: the upper bounds; only for histograms.
    """

    name: str
    help: str
    labels: tuple[str, ...]
    unit: str
    buckets: tuple[float, ...] = ()


MESSAGES = Metric(
    name="messages",
    help="Messages, by outcome, and by whether their connection had carried others before",
    labels=("server", "outcome", "reused"),
    unit="{message}",
)
FAILURES = Metric(
    name="failures",
    help="Messages that were not accepted, by outcome and by the stage at which they failed",
    labels=("server", "outcome", "stage"),
    unit="{message}",
)
RETRIES = Metric(
    name="retries",
    help="Attempts that failed and were followed by another one, by stage",
    labels=("server", "stage"),
    unit="{attempt}",
)
OPENED = Metric(
    name="opened_connections",
    help="Connections that became ready",
    labels=("server",),
    unit="{connection}",
)
CLOSED = Metric(
    name="closed_connections",
    help="Connections that were closed, by reason",
    labels=("server", "reason"),
    unit="{connection}",
)
FAILED = Metric(
    name="failed_connections",
    help="Connections that could not be opened, by stage; refused logins have the stage auth",
    labels=("server", "stage"),
    unit="{connection}",
)
OUTAGES = Metric(
    name="rate_storage_outages",
    help="How often the storage of a shared rate limit stopped answering",
    labels=("server",),
    unit="{outage}",
)
DURATION = Metric(
    name="message.duration",
    help="Seconds that a message spent waiting for a connection, opening one, and with the server",
    labels=("server", "phase"),
    unit="s",
    buckets=SECONDS,
)
ATTEMPTS = Metric(
    name="message.attempts",
    help="Connections that a message was tried on",
    labels=("server",),
    unit="{attempt}",
    buckets=(1, 2, 3, 5, 10),
)
ROUND_TRIPS = Metric(
    name="message.round_trips",
    help="How often a message waited for an answer of the server",
    labels=("server",),
    unit="{round_trip}",
    buckets=(1, 2, 3, 4, 5, 10, 20),
)
CONNECTIONS = Metric(
    name="connections",
    help="Connections, by state: connecting, busy or idle",
    labels=("server", "state"),
    unit="{connection}",
)
MAX_CONNECTIONS = Metric(
    name="max_connections",
    help="The limit of connections in force",
    labels=("server",),
    unit="{connection}",
)
WAITING = Metric(
    name="waiting_messages",
    help="Messages that wait for a connection",
    labels=("server",),
    unit="{message}",
)
RATE_LEFT = Metric(
    name="rate_left",
    help="What may still be sent under a rate limit",
    labels=("server", "limit"),
    unit="{message}",
)

COUNTERS = (MESSAGES, FAILURES, RETRIES, OPENED, CLOSED, FAILED, OUTAGES)
HISTOGRAMS = (DURATION, ATTEMPTS, ROUND_TRIPS)
GAUGES = (CONNECTIONS, MAX_CONNECTIONS, WAITING, RATE_LEFT)

KINDS = frozenset({Attempted, Closed, DialFailed, Finished, LeftInDoubt, Opened, RateStorageFailed})

Labels = tuple[str, ...]
Measurement = tuple[Metric, Labels, float]


def stage_of(error: BaseException | None) -> str:
    """Return the stage at which something failed, as the value of a label."""
    stage = getattr(error, "stage", None)
    if isinstance(stage, Stage):
        return stage.name.lower()
    if isinstance(error, (PoolTimeout, PoolFull, PoolClosed)):
        return "pool"
    if isinstance(error, (RateLimited, RateStorageUnavailable)):
        return "rate_limit"
    if isinstance(error, DeliveryUnknown):
        return "content"
    return "other" if error is None or is_failure(error) else "interrupt"


def zeros(server: str) -> list[Measurement]:
    """Return zeros for the counters of alerts: if a counter appears with the value 1, `increase()` does not see it."""
    found: list[Measurement] = [
        (MESSAGES, (server, outcome.value, reused), 0) for outcome in Outcome for reused in ("false", "true")
    ]
    return found + [(FAILED, (server, stage.name.lower()), 0) for stage in SETUP_STAGES]


def measured(event: Event) -> list[Measurement]:
    """Return what an event adds to counters and histograms."""
    server = event.server
    if isinstance(event, Finished):
        return _of_message(server, event.outcome.value, event.delivery)
    if isinstance(event, Opened):
        return [(OPENED, (server,), 1)]
    if isinstance(event, Closed):
        return [(CLOSED, (server, event.reason), 1)]
    if isinstance(event, DialFailed):
        return [(FAILED, (server, stage_of(event.error)), 1)]
    if isinstance(event, Attempted):
        return [(RETRIES, (server, stage_of(event.error)), 1)]
    return [(OUTAGES, (server,), 1)] if isinstance(event, RateStorageFailed) else []


def _of_message(server: str, outcome: str, delivery: Any) -> list[Measurement]:
    found: list[Measurement] = [
        (MESSAGES, (server, outcome, "true" if delivery.reused else "false"), 1),
        (ATTEMPTS, (server,), delivery.attempts),
        (DURATION, (server, "wait"), delivery.waited),
    ]
    if delivery.connected:
        found.append((DURATION, (server, "connect"), delivery.connected))
    if delivery.channel is not None:
        found.append((DURATION, (server, "server"), delivery.sent))
        found.append((ROUND_TRIPS, (server,), delivery.round_trips))
    if delivery.receipt is None:
        found.append((FAILURES, (server, outcome, stage_of(delivery.error)), 1))
    return found


def levels(pools: Iterable[Pool[Any]]) -> dict[tuple[Metric, Labels], float]:
    """Return the values of the gauges; pools of one server with different options are added up."""
    found: dict[tuple[Metric, Labels], float] = {}
    for pool in pools:
        server, stats = pool.name, pool.stats()
        for state in ("connecting", "busy", "idle"):
            _add(found, (CONNECTIONS, (server, state)), getattr(stats, state))
        _add(found, (MAX_CONNECTIONS, (server,)), stats.max_connections)
        _add(found, (WAITING, (server,)), stats.waiting)
        for limit, left in stats.rate_left.items():  # pools of one account share it: the smallest value counts
            key = RATE_LEFT, (server, limit)
            found[key] = min(left, found.get(key, left))
    return found


def _add(found: dict[tuple[Metric, Labels], float], key: tuple[Metric, Labels], value: float) -> None:
    found[key] = found.get(key, 0) + value
