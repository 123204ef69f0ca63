"""Options that need an optional library: which library is missing, and which extra installs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .core.options import extras
from .core.options.options import SCRAM_MECHANISMS


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
    found = ((option, extras.missing(extra)) for option, extra, is_set in wants if is_set)
    return (f"{option} {what}" for option, what in found if what)
