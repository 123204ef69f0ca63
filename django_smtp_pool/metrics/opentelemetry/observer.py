"""OpenTelemetry: metrics, and a span for each message, which is created when the outcome is known."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from opentelemetry import context as contexts
from opentelemetry import metrics, trace

from ... import __version__
from ...core.clock import Clock, SystemClock
from ...core.events.events import Attempted, Event, Finished
from ...core.pool.pool import Pool
from ..figures import COUNTERS, GAUGES, HISTOGRAMS, RATE_LEFT, Labels, Measurement, Metric, levels
from ..intake import Intake
from .spans import Trace, Tried, write

SCOPE = "django_smtp_pool"


class _Seen(NamedTuple):
    """The data of an event; there is a trace if a message has its final outcome."""

    measurements: list[Measurement]
    trace: Trace | None


class OpenTelemetryObserver(Intake):
    """Turns events into spans and metrics.

    Arguments:
        pools: returns the pools of this process.
    """

    def __init__(
        self,
        pools: Callable[[], Iterable[Pool[Any]]],
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__()
        self._pools = pools
        self._clock = clock or SystemClock()
        self._tracer = trace.get_tracer(SCOPE, __version__, tracer_provider)
        self._earlier: weakref.WeakKeyDictionary[Any, list[Tried]] = weakref.WeakKeyDictionary()
        meter = metrics.get_meter(SCOPE, __version__, meter_provider)
        self._add: dict[Metric, Callable[..., None]] = {
            **{each: meter.create_counter(_name(each), each.unit, each.help).add for each in COUNTERS},
            **{each: _histogram(meter, each).record for each in HISTOGRAMS},
        }
        self._attributes: dict[tuple[Metric, Labels], dict[str, str]] = {}
        for metric in GAUGES:
            # The other gauges may be summed over processes; the rest of a rate limit may not.
            kind = "gauge" if metric is RATE_LEFT else "up_down_counter"
            create = getattr(meter, f"create_observable_{kind}")
            create(_name(metric), [partial(self._levels, metric)], metric.unit, metric.help)

    def _levels(self, metric: Metric, _: Any) -> list[metrics.Observation]:
        return [
            metrics.Observation(value, dict(zip(metric.labels, labels, strict=True)))
            for (of, labels), value in levels(self._pools()).items()
            if of is metric
        ]

    def _seen(self, event: Event) -> _Seen:
        found = None
        if isinstance(event, Attempted):
            self._earlier.setdefault(event.delivery, []).append(Tried.of(event.delivery))
        elif isinstance(event, Finished):
            earlier = self._earlier.pop(event.delivery, [])
            found = Trace(
                server=event.server,
                outcome=event.outcome.value,
                receipt=event.delivery.receipt,
                recipients=len(event.envelope.recipients),
                size=event.envelope.content.size,
                begun=event.delivery.begun,
                tries=[*earlier, Tried.of(event.delivery)],
                now=self._clock.monotonic(),
                wall=self._clock.wall(),
                context=contexts.get_current(),
            )
        return _Seen(self.measured(event), found)

    def _take(self, seen: _Seen) -> None:
        for metric, labels, value in seen.measurements:
            attributes = self._attributes.get((metric, labels))
            if attributes is None:
                attributes = self._attributes[metric, labels] = dict(zip(metric.labels, labels, strict=True))
            self._add[metric](value, attributes)
        if seen.trace is not None:
            write(self._tracer, seen.trace)


def _name(metric: Metric) -> str:
    return f"smtp_pool.{metric.name}"


def _histogram(meter: metrics.Meter, metric: Metric) -> metrics.Histogram:
    return meter.create_histogram(
        _name(metric), metric.unit, metric.help, explicit_bucket_boundaries_advisory=metric.buckets
    )
