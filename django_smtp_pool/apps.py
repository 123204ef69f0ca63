"""The app: optional, it brings the system checks and clears the pools when a test changes settings."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.core import checks
from django.core.signals import setting_changed


class DjangoSmtpPoolConfig(AppConfig):
    """Register what Django should know of us."""

    name = "django_smtp_pool"
    verbose_name = "SMTP pool"

    def ready(self) -> None:
        """Register the checks and the clean-up after changed settings."""
        from .checks import check_mailers

        checks.register(check_mailers)
        setting_changed.connect(_close_pools, dispatch_uid="django_smtp_pool.close_pools")


def _close_pools(*, setting: str, **kwargs: Any) -> None:  # noqa: ARG001 - a signal receiver
    if setting == "MAILERS" or setting.startswith("EMAIL_"):
        from .registry import reset

        reset()
