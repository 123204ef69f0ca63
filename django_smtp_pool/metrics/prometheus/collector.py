"""The metrics for Prometheus: counters and histograms change with events, gauges are read when Prometheus asks.

In multi-process mode, one process answers for all, with the files that each of them writes: see `files.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import Counter, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily

from ...core.events.events import Event
from ...core.pool.pool import Pool
from ..figures import COUNTERS, GAUGES, HISTOGRAMS, Labels, Measurement, Metric, levels
from ..intake import Intake
from .files import GaugeFiles, name_of

LONGEST_WAIT = 1.0  # seconds for which a scrape waits until no message uses the library


class PrometheusObserver(Intake):
    """Counts events, and is a collector for `prometheus_client`.

    Arguments:
        pools: returns the pools of this process.
        files: only in multi-process mode.
    """

    def __init__(self, pools: Callable[[], Iterable[Pool[Any]]], files: GaugeFiles | None = None) -> None:
        super().__init__()
        self._pools = pools
        self._files = files
        self._metrics: dict[Metric, Any] = {
            **{each: Counter(name_of(each), each.help, each.labels, registry=None) for each in COUNTERS},
            **{
                each: Histogram(name_of(each), each.help, each.labels, buckets=each.buckets, registry=None)
                for each in HISTOGRAMS
            },
        }
        self._children: dict[tuple[Metric, Labels], Callable[[float], None]] = {}

    def notice(self, event: Event) -> None:
        """Count an event, and in multi-process mode request that the gauges are written."""
        super().notice(event)
        if self._files is not None:
            self._files.ask()

    def _seen(self, event: Event) -> list[Measurement]:
        return self.measured(event)

    def _take(self, seen: list[Measurement]) -> None:
        for metric, labels, value in seen:
            add = self._children.get((metric, labels))
            if add is None:
                child = self._metrics[metric].labels(*labels)
                add = self._children[metric, labels] = child.observe if metric.buckets else child.inc
            add(value)

    def collect(self) -> list[Any]:
        """Return all metrics of this process; `prometheus_client` calls this."""
        self.pass_on()
        lock = self.lock
        is_mine = lock.acquire(timeout=LONGEST_WAIT)
        try:
            found = [family for metric in self._metrics.values() for family in metric.collect()]
        finally:
            if is_mine:
                lock.release()
        self.pass_on()  # events that arrived meanwhile
        families = {each: GaugeMetricFamily(name_of(each), each.help, labels=each.labels) for each in GAUGES}
        for (metric, labels), value in levels(self._pools()).items():
            families[metric].add_metric(labels, value)
        return [*found, *families.values()]
