"""Spans and metrics for OpenTelemetry, as an app: `"django_smtp_pool.metrics.opentelemetry"`, or `install()`."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured

from ...core.options import extras

_installed: list[Any] = []


def install(tracer_provider: Any = None, meter_provider: Any = None) -> None:
    """Trace and measure the pools of this process from now on; a second call changes nothing.

    Arguments:
        tracer_provider, meter_provider: by default the global ones of the API, even if they are set later.

    Raises ImproperlyConfigured if opentelemetry-api is not installed.
    """
    if (what := extras.missing("opentelemetry")) is not None:
        raise ImproperlyConfigured(f"{__name__} {what}")
    from ...registry import observers
    from ...registry import registry as pools
    from .observer import OpenTelemetryObserver

    if not _installed:
        _installed.append(OpenTelemetryObserver(pools.pools, tracer_provider, meter_provider))
        observers.add(_installed[0])
