"""Optional libraries: which are missing, and which extra installs them. Nothing is imported to find out."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator, Mapping
from typing import Any

from .server import SCRAM_MECHANISMS

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


def missing_extras(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield a problem for each option whose library is missing, with the command that installs it.

    Arguments:
        values: by key, as the user wrote them, before they are checked.
    """
    wanted = values.get("auth_method")
    method = wanted.upper() if isinstance(wanted, str) else None
    wants = (
        ("oauth2", "oauth2", "oauth2" in values),
        (f"auth_method {method}", "scram", method in SCRAM_MECHANISMS),
        ("proxy", "proxy", "proxy" in values),
        ("rate_storage", "ratelimit", "rate_storage" in values),
    )
    found = ((option, missing(extra)) for option, extra, is_set in wants if is_set)
    return (f"{option} {what}" for option, what in found if what)


@functools.cache
def _is_there(library: str) -> bool:
    # Not at every login: if a signal handler raises during the search, Python's import lock stays held.
    return importlib.util.find_spec(library) is not None
