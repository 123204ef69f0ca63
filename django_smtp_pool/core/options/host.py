"""Where a server is, by what the user calls it: a name, an IP address, or a unix socket. Pure."""

from __future__ import annotations

import ipaddress
import os
from typing import Any

from .fields import host_name, nonempty_text, shown

UNIX = "unix:"  # before the path of a socket, as a host
LONGEST_PATH = 103  # octets: what every system takes


def socket_path(host: str) -> str | None:
    """Return the path of a unix socket, None for a host that is reached by TCP."""
    return host.removeprefix(UNIX) if host.startswith(UNIX) else None


def server_host(value: Any) -> str:
    """Accept a name, an IP address, or `unix:/path`."""
    host = nonempty_text(value)
    path = socket_path(host)
    if path is not None and not (path.startswith("/") and len(os.fsencode(path)) <= LONGEST_PATH):
        raise ValueError(
            f"must be unix: and an absolute path of at most {LONGEST_PATH} octets, as in 'unix:/run/mail.sock', "
            f"not {shown(host)}"
        )
    return host if path is not None else host_name(host)


def place_of(host: str, port: int) -> str:
    """Return "host:port", or "unix:/path", as logs and errors name a server."""
    return host if socket_path(host) is not None else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine by its name alone: `localhost`, a loopback IP literal, a unix socket."""
    if host.lower() == "localhost" or socket_path(host) is not None:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
