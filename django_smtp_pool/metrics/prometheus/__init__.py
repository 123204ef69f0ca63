"""Metrics for Prometheus, as an app: `"django_smtp_pool.metrics.prometheus"` in INSTALLED_APPS, or `install()`."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured

from ...core.options import extras

_installed: dict[int, Any] = {}  # by the registry's id


def install(registry: Any = None) -> None:
    """Measure the pools of this process from now on; a second call changes nothing.

    Arguments:
        registry: a `CollectorRegistry`; by default `prometheus_client.REGISTRY`. Not used in multi-process mode.

    Raises ImproperlyConfigured if prometheus_client is not installed.
    """
    if (what := extras.missing("prometheus")) is not None:
        raise ImproperlyConfigured(f"{__name__} {what}")
    from prometheus_client import REGISTRY

    from ...registry import observers
    from ...registry import registry as pools
    from .collector import PrometheusObserver
    from .files import GaugeFiles, is_multiprocess

    registry = REGISTRY if registry is None else registry
    if id(registry) in _installed:
        return
    files = GaugeFiles(pools.pools, pools.look_after) if is_multiprocess() else None
    observer = PrometheusObserver(pools.pools, files)
    if files is None:
        registry.register(observer)
    _installed[id(registry)] = registry  # kept alive, so that no other object gets its id
    observers.add(observer)
