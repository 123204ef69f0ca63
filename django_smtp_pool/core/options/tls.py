"""How a server's certificate is checked, as an option: the dict `tls_options`. Pure."""

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
_MADE_OF = ("ca_file", "verify", "minimum_version", "ciphers")  # what a context is made of where none is given


IN_CLEAR = "the connection is not encrypted"


@dataclass(frozen=True, kw_only=True)
class TLSOptions:
    """How the server's certificate is checked, beyond what Django's settings say."""

    ca_file: str | None = option(None, path, "file of CA certificates to trust instead of the system's")
    verify: bool = option(True, flag, "check the certificate and the name in it; False is for tests only")
    minimum_version: str = option("TLSv1.2", choice(*TLS_VERSIONS), "oldest TLS version to accept")
    ciphers: str | None = option(None, nonempty_text, "OpenSSL cipher list")
    server_hostname: str | None = option(None, host_name, "name to ask for and to find in the certificate")
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
