"""The app config. The app is optional; it registers the system checks."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks


class DjangoSmtpPoolConfig(AppConfig):
    """Registers the system checks with Django."""

    name = "django_smtp_pool"
    verbose_name = "SMTP pool"

    def ready(self) -> None:
        """Register the system checks."""
        from .checks import check_mailers

        checks.register(check_mailers)
