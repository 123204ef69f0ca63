"""Options that need an optional library: what is missing, and which extra brings it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .core.options import extras
from .core.options.options import SCRAM_MECHANISMS


def missing_extras(values: Mapping[str, Any]) -> Iterator[str]:
    """Return the options that cannot be used, each with what to install for it.

    Arguments:
        values: by key, as the user wrote them; they may be wrong otherwise.
    """
    wanted = values.get("auth_method")
    method = wanted.upper() if isinstance(wanted, str) else None
    wants = (
        ("oauth2", "oauth2", "oauth2" in values),
        (f"auth_method {method}", "scram", method in SCRAM_MECHANISMS),
        ("proxy", "proxy", "proxy" in values),
        ("rate_storage", "ratelimit", "rate_storage" in values),
    )
    found = ((option, extras.missing(extra)) for option, extra, is_set in wants if is_set)
    return (f"{option} {what}" for option, what in found if what)
