"""The app, which starts recording what happens in the pools."""

from __future__ import annotations

import os
from typing import Any

from django.apps import AppConfig, apps
from django.core import checks


class DashboardConfig(AppConfig):
    """Record what happens in the pools, for the page in the admin."""

    name = "django_smtp_pool.dashboard"
    label = "smtp_pool"
    verbose_name = "SMTP"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Observe each pool that is made from now on; only once, even if the apps are loaded again."""
        from ..registry import registry
        from .recorder import recorder

        checks.register(check_admin)
        if recorder.watch not in registry.watchers:
            registry.watchers.append(recorder.watch)
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=recorder.start_over)


def check_admin(app_configs: Any, **kwargs: Any) -> list[checks.CheckMessage]:  # noqa: ARG001 - a check
    """Report an error if the admin, which shows the page, is not installed."""
    if apps.is_installed("django.contrib.admin"):
        return []
    text = "django_smtp_pool.dashboard is a page in Django's admin, and the admin is not installed."
    return [checks.Error(text, hint="Add 'django.contrib.admin' to INSTALLED_APPS.", id="smtp_pool.E006")]
