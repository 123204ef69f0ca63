"""Well-known providers: where their servers are, by name, alias or domain. The data is in `services.json`.

If a provider offers STARTTLS, its preset requires it. The user's own options win.
"""

from __future__ import annotations

import difflib
import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .core.options.fields import shown

DATA = Path(__file__).with_name("services.json")

# The TLS mode that is usual on these ports: implicit TLS, or STARTTLS.
PORTS = {465: "implicit", 2465: "implicit", 25: "starttls", 587: "starttls", 2525: "starttls", 2587: "starttls"}
USUAL = {"implicit": 465, "starttls": 587, "none": 25}


@dataclass(frozen=True, kw_only=True)
class Service:
    """One provider.

    Arguments:
        tls: "implicit", "starttls" (required) or "none".
        options: its published limits and login method, as defaults for our options.
        oauth2: its `token_url` and `scope`, as defaults for the option `oauth2`.
    """

    name: str
    description: str
    host: str
    port: int
    tls: str
    aliases: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    oauth2: Mapping[str, str] = field(default_factory=dict)

    @property
    def keys(self) -> tuple[str, ...]:
        """The names by which the provider is found."""
        return tuple(normalise(key) for key in (self.name, *self.aliases, *self.domains))

    def place(
        self,
        *,
        host: str | None = None,
        port: int | str | None = None,
        use_tls: bool | None = None,
        use_ssl: bool | None = None,
        opportunistic_tls: bool | None = None,
    ) -> dict[str, Any]:
        """Return host, port, use_tls and use_ssl: the user's own values, and matching values for the rest.

        A well-known port selects its TLS mode, and a TLS mode selects its port: port 587 for a provider on 465 means
        STARTTLS.
        """
        tls = self._mode(port, use_tls=use_tls, use_ssl=use_ssl)
        if tls == "starttls" and opportunistic_tls and use_tls is None:
            use_tls = False
        return {
            "host": host or self.host,
            "port": port or self._usual_port(tls),
            "use_tls": tls == "starttls" if use_tls is None else use_tls,
            "use_ssl": tls == "implicit" if use_ssl is None else use_ssl,
        }

    def _mode(self, port: int | str | None, *, use_tls: bool | None, use_ssl: bool | None) -> str:
        if use_ssl:
            return "implicit"
        if use_tls:
            return "starttls"
        preset = self.tls
        if preset != "none" and str(port).isdecimal():
            preset = PORTS.get(int(str(port)), preset)
        if preset == "implicit" and use_ssl is not None:
            preset = "starttls"  # not implicit TLS, but still not unencrypted
        if preset == "starttls" and use_tls is not None:
            return "none"
        return preset

    def _usual_port(self, tls: str) -> int:
        is_another_kind = tls != self.tls and "implicit" in {tls, self.tls} and self.tls != "none"
        return USUAL[tls] if is_another_kind else self.port


def normalise(name: str) -> str:
    """Return the lookup key of a name: letters, digits, dots and hyphens; for an address, the part after the "@"."""
    return re.sub(r"[^a-z0-9.-]", "", name.lower().rpartition("@")[2])


@functools.cache
def all_services() -> tuple[Service, ...]:
    """Return all providers, sorted by name."""
    facts = json.loads(DATA.read_text(encoding="utf-8"))
    return tuple(_service(name, **fact) for name, fact in facts.items())


def _service(name: str, *, aliases: list[str] | None = None, domains: list[str] | None = None, **fact: Any) -> Service:
    return Service(name=name, aliases=tuple(aliases or ()), domains=tuple(domains or ()), **fact)


@functools.cache
def _by_key() -> dict[str, Service]:
    return {key: service for service in all_services() for key in service.keys}


def find(name: Any) -> Service:
    """Return a provider by name, alias or domain; case does not matter.

    Raises ValueError, with the nearest name, if there is none.
    """
    if not isinstance(name, str):
        raise ValueError(f"must be the name of a provider, not {shown(name)}")
    service = _by_key().get(normalise(name))
    if service is None:
        raise ValueError(f"must be a known provider, not {shown(name)}{_hint(name)}")
    return service


def _hint(name: str) -> str:
    near = difflib.get_close_matches(normalise(name), _by_key(), 3, 0.55)
    names = list(dict.fromkeys(_by_key()[key].name for key in near))
    if names:
        return f": did you mean {' or '.join(map(repr, names))}?"
    return "; `manage.py smtp_pool services` lists them; or set host and port"


def search(query: str = "") -> list[Service]:
    """Return the providers whose names, domains, hosts or descriptions contain all words of a query."""
    words = query.lower().split()
    return [service for service in all_services() if all(word in _text(service) for word in words)]


def _text(service: Service) -> str:
    named = (service.name, *service.aliases, *service.domains, service.host, service.description, *service.keys)
    return " ".join(named).lower()
