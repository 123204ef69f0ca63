"""The gauges of Prometheus' multi-process mode: each process writes its gauges into a file.

It writes them `EVERY` seconds after an event, and again every `EVERY` seconds while a gauge may change without an
event, as when a message begins to wait. The housekeeper's thread does that, so a process that sends no mail needs no
thread, and there is no additional thread during a fork.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import Gauge, values

from ...core.clock import Clock, SystemClock
from ...core.pool.housekeeper import Tidiable
from ...core.pool.pool import Pool
from ..figures import CONNECTIONS, GAUGES, RATE_LEFT, WAITING, Labels, Metric, levels

EVERY = 2.0  # seconds

Watch = Callable[[Tidiable, float], None]  # calls `tidy()` at an instant


def is_multiprocess() -> bool:
    """Return whether PROMETHEUS_MULTIPROC_DIR was set when prometheus_client was imported."""
    return bool(values.ValueClass._multiprocess)


def name_of(metric: Metric) -> str:
    """Return the name of a metric, without the `_total` of a counter."""
    unit = "_seconds" if metric.unit == "s" else ""
    return f"smtp_pool_{metric.name.replace('.', '_')}{unit}"


class GaugeFiles:
    """Writes the gauges of this process.

    Arguments:
        pools: returns the pools of this process.
        watch: calls `tidy()` at an instant, and again at those that it returns.
    """

    has_news = False

    def __init__(
        self, pools: Callable[[], Iterable[Pool[Any]]], watch: Watch, clock: Clock | None = None, every: float = EVERY
    ) -> None:
        self._pools = pools
        self._watch = watch
        self._clock = clock or SystemClock()
        self._every = every
        self._gauges = {each: _gauge(each) for each in GAUGES}
        self._written: set[tuple[Metric, Labels]] = set()

    def ask(self) -> None:
        """Request that the gauges are written after `every` seconds."""
        self._watch(self, self._clock.monotonic() + self._every)

    def tidy(self) -> float | None:
        """Write the gauges, and return the instant (monotonic) to do so again, or None if they cannot change."""
        found = levels(self._pools())
        gone = self._written - found.keys()
        for (metric, labels), value in [*found.items(), *((key, 0) for key in gone)]:
            self._gauges[metric].labels(*labels).set(value)
        self._written = set(found)
        is_busy = any(_may_change(metric, labels, value) for (metric, labels), value in found.items())
        return self._clock.monotonic() + self._every if is_busy else None

    def tell(self) -> None:
        """Do nothing: there are no events for observers."""


def _gauge(metric: Metric) -> Gauge:
    """Return a gauge that is summed over the live processes; for a rate limit, the smallest value counts."""
    mode: Any = "livemin" if metric is RATE_LEFT else "livesum"
    return Gauge(name_of(metric), metric.help, metric.labels, registry=None, multiprocess_mode=mode)


def _may_change(metric: Metric, labels: Labels, value: float) -> bool:
    """Return whether a gauge may change without an event."""
    if metric is CONNECTIONS:
        return bool(value) and labels[-1] != "idle"
    return metric is RATE_LEFT or (metric is WAITING and bool(value))
