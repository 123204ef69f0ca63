"""The app that measures for Prometheus."""

from __future__ import annotations

from django.apps import AppConfig

from . import install


class PrometheusConfig(AppConfig):
    """Measure the pools of every process of the project."""

    name = "django_smtp_pool.metrics.prometheus"
    label = "smtp_pool_prometheus"
    verbose_name = "SMTP pool: Prometheus"

    def ready(self) -> None:
        """Start measuring."""
        install()
