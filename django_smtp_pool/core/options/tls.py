"""How to check a server's certificate, as an option: the dict `tls_options`. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .fields import (
    check_fields,
    choice,
    context_source,
    flag,
    host_name,
    made_of,
    nonempty_text,
    option,
    path,
    shown,
)

TLS_VERSIONS = ("TLSv1.2", "TLSv1.3")
_MADE_OF = ("ca_file", "verify", "minimum_version", "ciphers")  # replaced by a context


IN_CLEAR = "the connection is not encrypted"


@dataclass(frozen=True, kw_only=True)
class TLSOptions:
    """How to check the server's certificate, beyond Django's settings."""

    ca_file: str | None = option(None, path, "file of CA certificates to trust instead of the system's")
    verify: bool = option(True, flag, "check the certificate and its host name; False is for tests only")
    minimum_version: str = option("TLSv1.2", choice(*TLS_VERSIONS), "oldest TLS version to accept")
    ciphers: str | None = option(None, nonempty_text, "OpenSSL cipher list")
    server_hostname: str | None = option(None, host_name, "host name for SNI and the certificate. Default: `host`")
    context: Any = option(
        None, context_source, "an SSLContext, a callable that makes one, or the dotted path of either"
    )

    def __post_init__(self) -> None:
        check_fields(self, self._problems)

    def _problems(self) -> Iterator[str]:
        replaced = [key for key in _MADE_OF if getattr(self, key) != TLSOptions.__dataclass_fields__[key].default]
        if self.context is not None and replaced:
            yield f"context replaces {', '.join(replaced)}: set one or the other"


def tls_options(value: Any) -> TLSOptions:
    """Accept a dict."""
    if isinstance(value, TLSOptions):
        return value
    if not isinstance(value, dict):
        raise ValueError(f"must be a dict, not {shown(value)}")
    return made_of(TLSOptions, value)
