"""Optional libraries: which extra brings what is missing. Nothing is imported to find out."""

from __future__ import annotations

import importlib.util

EXTRAS = {
    "oauth2": ("authlib", "joserfc", "requests"),
    "proxy": ("python_socks",),
    "ratelimit": ("limits", "redis"),
    "scram": ("scramp",),
    "testing": ("trustme",),
    "toolbar": ("debug_toolbar",),
}


def missing(extra: str) -> str | None:
    """Return what is missing of an extra, and how to install it; None where all is there.

    The text continues the name of the option that needs it.
    """
    absent = [name for name in EXTRAS[extra] if importlib.util.find_spec(name) is None]
    return f"needs {' and '.join(absent)}: pip install 'django-smtp-pool[{extra}]'" if absent else None
