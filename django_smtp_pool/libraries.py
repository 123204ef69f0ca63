"""Options that need an optional library: what is missing, and which extra brings it."""

from __future__ import annotations

from .core.net import proxy as tunnel
from .core.options.options import SCRAM_MECHANISMS, PoolOptions, ServerOptions
from .core.rate_limit import redis as rate_storage
from .core.smtp import scram
from .oauth2 import generators as oauth2


def missing_extra(server: ServerOptions, pool: PoolOptions) -> str | None:
    """Return the option that cannot be used, and what to install for it; None where all is there."""
    wants = (
        ("oauth2", server.oauth2 is not None, oauth2.missing_extra),
        (f"auth_method {server.auth_method}", server.auth_method in SCRAM_MECHANISMS, scram.missing_extra),
        ("proxy", server.proxy is not None, tunnel.missing_extra),
        ("rate_storage", pool.rate_storage is not None, rate_storage.missing_extra),
    )
    found = ((option, missing()) for option, is_set, missing in wants if is_set)
    return next((f"{option} {what}" for option, what in found if what), None)
