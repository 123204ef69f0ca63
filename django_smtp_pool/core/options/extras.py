"""Optional libraries: which extra brings what is missing. Nothing is imported to find out."""

from __future__ import annotations

import functools
import importlib.util

EXTRAS = {
    "oauth2": ("authlib", "joserfc", "requests"),
    "proxy": ("python_socks",),
    "ratelimit": ("limits", "redis"),
    "scram": ("scramp",),
    "testing": ("trustme",),
}


def missing(extra: str) -> str | None:
    """Return what is missing of an extra, and how to install it; None where all is there.

    The text continues the name of the option that needs it.
    """
    absent = [name for name in EXTRAS[extra] if not _is_there(name)]
    return f"needs {' and '.join(absent)}: pip install 'django-smtp-pool[{extra}]'" if absent else None


@functools.cache
def _is_there(library: str) -> bool:
    # Not at every login: where a signal handler raises meanwhile, Python's lock for imports is never let go of.
    return importlib.util.find_spec(library) is not None
