"""What the project's settings say, as far as it takes a look into Django's settings objects."""

from __future__ import annotations

from typing import Any

import django
from django.conf import Settings, UserSettingsHolder, global_settings, settings
from django.core.exceptions import ImproperlyConfigured


def settings_named(names: frozenset[str]) -> dict[str, Any]:
    """Return the settings of these names that there are.

    Every new backend asks for all of ours, and Python takes long to find that one is missing: so this looks into
    Django's settings objects.
    """
    found: dict[str, Any] = {}
    deleted: set[str] = set()
    settings.DEFAULT_CHARSET  # noqa: B018 - they are read now, if they were not yet
    layer: Any = vars(settings)["_wrapped"]
    while layer is not global_settings:
        if layer.__class__ is not Settings and layer.__class__ is not UserSettingsHolder:  # somebody else's
            return {name: getattr(settings, name) for name in names if hasattr(settings, name)}
        values = vars(layer)
        for name in values.keys() & names:
            if name not in found and name not in deleted:
                found[name] = values[name]
        deleted |= values.get("_deleted", deleted)
        layer = values.get("default_settings", global_settings)
    return found


def is_set(setting: str) -> bool:
    """Tell whether the user's settings name a setting; asking does not read it, so it warns of nothing."""
    return bool(settings.is_overridden(setting))  # type: ignore[misc]  # django-stubs does not know it


def uses_mailers(alias: str | None) -> bool:
    """Tell whether identity comes from MAILERS alone."""
    return alias is not None or (django.VERSION >= (6, 1) and hasattr(settings, "MAILERS"))


def complaint(text: str, alias: str | None) -> ImproperlyConfigured:
    """Return the error for a bad option: InvalidMailer under MAILERS, as Django raises it."""
    if alias is not None and django.VERSION >= (6, 1):
        from django.core.mail import InvalidMailer

        error: ImproperlyConfigured = InvalidMailer(text, alias=alias)
        return error
    return ImproperlyConfigured(text)
