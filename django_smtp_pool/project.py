"""Read the project's settings."""

from __future__ import annotations

from typing import Any

import django
from django.conf import Settings, UserSettingsHolder, global_settings, settings
from django.core.exceptions import ImproperlyConfigured


def settings_named(names: frozenset[str]) -> dict[str, Any]:
    """Return those of the named settings that are set.

    Every new backend asks for all of our settings, and finding out through `settings` that one is missing is slow. So
    this looks into Django's settings objects.
    """
    found: dict[str, Any] = {}
    deleted: set[str] = set()
    settings.DEFAULT_CHARSET  # noqa: B018 - reading any setting loads them
    layer: Any = vars(settings)["_wrapped"]
    while layer is not global_settings:
        if layer.__class__ is not Settings and layer.__class__ is not UserSettingsHolder:  # a class of the project
            return {name: getattr(settings, name) for name in names if hasattr(settings, name)}
        values = vars(layer)
        for name in values.keys() & names:
            if name not in found and name not in deleted:
                found[name] = values[name]
        deleted |= values.get("_deleted", deleted)
        layer = values.get("default_settings", global_settings)
    return found


def is_set(setting: str) -> bool:
    """Return whether the user's settings contain a setting. It is not read, so Django warns about nothing."""
    return bool(settings.is_overridden(setting))  # type: ignore[misc]  # django-stubs does not know it


def uses_mailers(alias: str | None) -> bool:
    """Return whether the server and the account come from MAILERS alone."""
    return alias is not None or (django.VERSION >= (6, 1) and hasattr(settings, "MAILERS"))


def complaint(text: str, alias: str | None) -> ImproperlyConfigured:
    """Return the error for an invalid option: InvalidMailer under MAILERS, as Django raises it."""
    if alias is not None and django.VERSION >= (6, 1):
        from django.core.mail import InvalidMailer

        error: ImproperlyConfigured = InvalidMailer(text, alias=alias)
        return error
    return ImproperlyConfigured(text)
