"""Optional libraries: which are missing, and which extra installs them. Nothing is imported to find out."""

from __future__ import annotations

import functools
import importlib.util

EXTRAS = {
    "oauth2": ("authlib", "joserfc", "requests"),
    "opentelemetry": ("opentelemetry",),
    "prometheus": ("prometheus_client",),
    "proxy": ("python_socks",),
    "ratelimit": ("limits", "redis"),
    "scram": ("scramp",),
    "testing": ("trustme",),
    "toolbar": ("debug_toolbar",),
}


def missing(extra: str) -> str | None:
    """Return which libraries of an extra are missing, and how to install them; None if none is missing.

    The text follows the name of the option that needs the extra.
    """
    absent = [name for name in EXTRAS[extra] if not _is_there(name)]
    return f"needs {' and '.join(absent)}: pip install 'django-smtp-pool[{extra}]'" if absent else None


@functools.cache
def _is_there(library: str) -> bool:
    # Not at every login: if a signal handler raises during the search, Python's import lock stays held.
    return importlib.util.find_spec(library) is not None
