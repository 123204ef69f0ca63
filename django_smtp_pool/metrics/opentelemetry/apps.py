"""The app that traces and measures for OpenTelemetry."""

from __future__ import annotations

from django.apps import AppConfig

from . import install


class OpenTelemetryConfig(AppConfig):
    """Trace and measure the pools of every process of the project."""

    name = "django_smtp_pool.metrics.opentelemetry"
    label = "smtp_pool_opentelemetry"
    verbose_name = "SMTP pool: OpenTelemetry"

    def ready(self) -> None:
        """Start tracing and measuring."""
        install()
