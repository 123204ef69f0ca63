"""The app: optional, it brings the system checks."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks


class DjangoSmtpPoolConfig(AppConfig):
    """Register what Django should know of us."""

    name = "django_smtp_pool"
    verbose_name = "SMTP pool"

    def ready(self) -> None:
        """Register the checks."""
        from .checks import check_mailers

        checks.register(check_mailers)
