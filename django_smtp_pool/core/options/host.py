"""The host of a server: a name, an IP address, or a unix socket. Pure."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Any

from .fields import host_name, nonempty_text, shown
from .proxy_url import ProxyURL

UNIX = "unix:"  # prefix of a host that is the path of a socket
LONGEST_PATH = 103  # octets, within the limit of every system
LONGEST_NAME = 253  # octets (RFC 1035 section 2.3.4)

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where to connect to, and how.

    Arguments:
        host: a name, an IP address, or `unix:/path`.
        source_address: local (IP address, port) to connect from.
        proxy: connect through this proxy; None for a direct connection.
    """

    host: str
    port: int
    source_address: tuple[str, int] | None = None
    proxy: ProxyURL | None = None


def socket_path(host: str) -> str | None:
    """Return the path of a unix socket; None for a host that is reached by TCP."""
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


def greeting_name(value: Any) -> str:
    """Accept a name for EHLO: a host name, an IP address, or an address literal such as `[192.0.2.1]`."""
    name = nonempty_text(value)
    bare = name.removeprefix("[").removesuffix("]") if name.startswith("[") and name.endswith("]") else name
    literal = address_literal(bare.removeprefix("IPv6:") if bare is not name else bare)
    if literal is not None:
        return literal
    # Host names have no underscores, but they are in use, and most servers accept them.
    if not is_host_name(name.replace("_", "x")):
        raise ValueError(
            "must be a host name, as in 'mail.example.com', or an address literal, as in '[192.0.2.1]', "
            f"not {shown(name)}"
        )
    return name.removesuffix(".")


def name_to_greet_with(machine: str, local_address: str | None) -> str:
    """Return a name for this machine that servers accept in EHLO (RFC 5321 section 4.1.1.1).

    Arguments:
        machine: its name. A name without a dot, as in containers, is not used: a server cannot look it up.
        local_address: the IP address of our end of the connection, or None.
    """
    name = machine.removesuffix(".")
    if "." in name and is_host_name(name) and address_literal(name) is None:
        return name
    return address_literal(local_address or "") or address_literal(name) or "[127.0.0.1]"


def is_host_name(name: str) -> bool:
    """Return whether a text is a host name (RFC 1123 section 2.1), with or without the final dot."""
    name = name.removesuffix(".")
    return len(name) <= LONGEST_NAME and _NAME.fullmatch(name) is not None


def address_literal(address: str) -> str | None:
    """Return an IP address as a literal (RFC 5321 section 4.1.3), or None if it is not an IP address."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return f"[{ip}]" if ip.version == 4 else f"[IPv6:{ip}]"


def place_of(host: str, port: int) -> str:
    """Return "host:port", or "unix:/path", for logs and errors."""
    return host if socket_path(host) is not None else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, judged by its name: `localhost`, a loopback address or a unix socket."""
    if host.lower() == "localhost" or socket_path(host) is not None:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
