"""Open a connection: the legs of the way to a server, one after the other. None of them blocks."""

from __future__ import annotations

import errno
import math
import socket
from collections.abc import Callable, Generator
from typing import Any

from ..needs import Watched
from ..options.host import Target, socket_path
from ..options.proxy_url import ProxyURL
from .happy_eyeballs import Race
from .leg import Leg, marked
from .proxy import HOPELESS, Tunnel
from .resolve import Resolve, addresses_of, literal, resolve
from .transport import Transport
from .trouble import Trouble
from .unix_socket import Knock

Way = Generator[Leg[Any], Any, socket.socket]


class Dial:
    """A connection that is being opened; it is advanced when something that it watches is ready, or when it is due."""

    def __init__(self, target: Target, look_up: Resolve = resolve) -> None:
        self._way = _way(target, look_up)
        self._leg: Leg[Any] | None = None
        self._transport: Transport | None = None
        self._go_on(lambda: next(self._way))

    @property
    def watched(self) -> Watched:
        """The objects to wait for, with their selectors events; this changes as the dial advances."""
        return self._leg.watched if self._leg is not None else ()

    @property
    def wake_at(self) -> float:
        """The instant (monotonic) at which to advance even if nothing is ready, because another attempt is due."""
        return self._leg.wake_at if self._leg is not None else math.inf

    @property
    def progress(self) -> str:
        """Describe the current step, for the error after a timeout."""
        return self._leg.progress if self._leg is not None else "connecting"

    def advance(self, now: float) -> Transport | None:
        """Continue; return the transport when connected, or None if there is more to wait for.

        Raises Trouble, with the most informative OSError, if the server cannot be reached.
        """
        while self._transport is None and self._leg is not None:
            try:
                found = self._leg.advance(now)
            except Trouble as trouble:
                self._leg.close()
                self._go_on(lambda trouble=trouble: self._way.throw(trouble))  # type: ignore[misc]
            else:
                if found is None:
                    return None
                self._go_on(lambda found=found: self._way.send(found))  # type: ignore[misc]
        return self._transport

    def _go_on(self, resume: Callable[[], Leg[Any]]) -> None:
        # A socket belongs to the leg that made it until the next owner has it, so that an interrupt leaks no socket.
        try:
            self._leg = resume()
        except StopIteration as stop:
            self._transport = Transport(stop.value)

    def close(self) -> None:
        """Stop, and close all sockets."""
        if self._leg is not None:
            self._leg.close()


def _way(target: Target, look_up: Resolve) -> Way:
    path = socket_path(target.host)
    sock: socket.socket
    if path is not None:
        sock = yield Knock(path)
    elif target.proxy is not None:
        sock = yield from _through(target.proxy, target, look_up)
    else:
        addresses = yield from addresses_of(target.host, target.port, look_up)
        sock = yield Race(f"{target.host} port {target.port}", addresses, target.source_address)
    return sock


def _through(proxy: ProxyURL, target: Target, look_up: Resolve) -> Way:
    """Connect through a proxy: to the name, or to each address in turn if names are resolved here."""
    names = [_in_ascii(target.host)]
    if not proxy.resolves:
        found = yield from addresses_of(target.host, target.port, look_up)
        names = [literal(address) for address in found]
    failure: Trouble | None = None
    for name in names:
        # A proxy that refused one address needs a new connection for the next.
        addresses = yield from addresses_of(proxy.host, proxy.port, look_up)
        sock: socket.socket = yield Race(f"the proxy {proxy.place}", addresses)
        try:
            sock = yield Tunnel(sock, proxy, name, target.port, name=target.host)
        except Trouble as trouble:
            if trouble.error.errno in HOPELESS:
                raise
            failure = trouble
        else:
            return sock
    nowhere = OSError(errno.EADDRNOTAVAIL, f"could not connect to {target.host}: the name has no address")
    raise failure or Trouble(nowhere)


def _in_ascii(host: str) -> str:
    if host.isascii() and max(map(len, host.split("."))) < 64:
        return host  # not by the idna codec, which up to Python 3.11 wraps an interrupt in another one
    try:
        return host.encode("idna").decode()
    except UnicodeError as error:
        clear = OSError(errno.EINVAL, f"{host!r} is not a host name: {error}")
        raise Trouble(marked(clear, is_final=True)) from error
