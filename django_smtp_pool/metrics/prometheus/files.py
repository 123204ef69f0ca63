"""The gauges of Prometheus' multi-process mode: each process writes its own into a file.

It does so a moment after an event, and every `EVERY` seconds while something is going on: a message that begins to
wait causes no event. The housekeeper's thread writes, so a process without mail has none, and a fork finds none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import Gauge, values

from ...core.clock import Clock, SystemClock
from ...core.pool.contracts import Tidiable
from ...core.pool.pool import Pool
from ..figures import CONNECTIONS, GAUGES, RATE_LEFT, WAITING, Labels, Metric, levels

EVERY = 2.0  # seconds

Watch = Callable[[Tidiable, float], None]  # calls `tidy()` at an instant


def is_multiprocess() -> bool:
    """Tell whether PROMETHEUS_MULTIPROC_DIR was set when prometheus_client was imported."""
    return bool(values.ValueClass._multiprocess)


def name_of(metric: Metric) -> str:
    """Return the name of a metric, without the `_total` of a counter."""
    unit = "_seconds" if metric.unit == "s" else ""
    return f"smtp_pool_{metric.name.replace('.', '_')}{unit}"


class GaugeFiles:
    """Writes the gauges of this process.

    Arguments:
        pools: returns the pools of this process.
        watch: calls `tidy()` at an instant, and again as it says.
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
        """Have the gauges written in a moment."""
        self._watch(self, self._clock.monotonic() + self._every)

    def tidy(self) -> float | None:
        """Write the gauges, and return the instant (monotonic) to do so again, None where nothing is going on."""
        found = levels(self._pools())
        gone = self._written - found.keys()
        for (metric, labels), value in [*found.items(), *((key, 0) for key in gone)]:
            self._gauges[metric].labels(*labels).set(value)
        self._written = set(found)
        is_busy = any(_may_change(metric, labels, value) for (metric, labels), value in found.items())
        return self._clock.monotonic() + self._every if is_busy else None

    def tell(self) -> None:
        """Do nothing: there are no news."""


def _gauge(metric: Metric) -> Gauge:
    """Return a gauge that is added up over the processes that live; of a limit, the smallest rest counts."""
    mode: Any = "livemin" if metric is RATE_LEFT else "livesum"
    return Gauge(name_of(metric), metric.help, metric.labels, registry=None, multiprocess_mode=mode)


def _may_change(metric: Metric, labels: Labels, value: float) -> bool:
    """Tell whether a gauge may change although no event follows."""
    if metric is CONNECTIONS:
        return bool(value) and labels[-1] != "idle"
    return metric is RATE_LEFT or (metric is WAITING and bool(value))
