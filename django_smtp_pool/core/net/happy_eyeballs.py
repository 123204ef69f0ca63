"""Happy Eyeballs (RFC 8305): connect to several addresses of a server, and use the first that answers."""

from __future__ import annotations

import errno
import ipaddress
import math
import os
import selectors
import socket
from collections import deque
from collections.abc import Sequence

from ..needs import Watched
from .leg import Leg, explained, marked
from .resolve import Address, interleaved, literal
from .sockets import close_for_good, track
from .trouble import Trouble, attempt

ATTEMPT_DELAY = 0.25  # seconds; RFC 8305 §5: "Connection Attempt Delay"

# Errors for an address family that this machine cannot use: they say nothing about the server.
_NO_WAY = frozenset({errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EHOSTUNREACH, errno.ENETDOWN})


class Race(Leg[socket.socket]):
    """Connects to several addresses, and keeps the first connection.

    The address families alternate, beginning with the resolver's first. Each attempt starts `ATTEMPT_DELAY` after the
    one before, or at once if that has failed, and attempts run in parallel. The first to connect wins; the others are
    closed.

    Arguments:
        name: the server's name in errors.
        source: local (IP address, port) to connect from; addresses of the other family are skipped.
    """

    def __init__(self, name: str, addresses: Sequence[Address], source: tuple[str, int] | None = None) -> None:
        self._name = name
        self._source = source
        self._waiting = deque(interleaved(_reachable_from(source, addresses)))
        self._others = [] if self._waiting else list(addresses)
        self._running: dict[socket.socket, Address] = {}
        self._latest: socket.socket | None = None  # the attempt that delays the next one
        self._next_at = -math.inf
        self._failures: list[tuple[Address, OSError]] = []

    @property
    def watched(self) -> Watched:
        """The sockets of the running attempts."""
        return tuple((sock, selectors.EVENT_WRITE) for sock in self._running)

    @property
    def wake_at(self) -> float:
        """The instant at which the next attempt is due."""
        return self._next_at if self._waiting else math.inf

    @property
    def progress(self) -> str:
        """Name the server, and the state of its addresses if there are several."""
        tried = [f"{literal(address)}: no answer" for address in self._running.values()]
        tried += [f"{literal(address)}: {_reason(error)}" for address, error in self._failures]
        return f"connecting to {self._name}" + (f" ({'; '.join(tried)})" if len(tried) > 1 else "")

    def advance(self, now: float) -> socket.socket | None:
        """Continue; return the first socket that is connected, or None.

        Raises Trouble, with the most informative OSError, if no address answers.
        """
        while (winner := self._look()) is None:
            if self._waiting and (self._latest is None or now >= self._next_at):
                self._start(now)
            elif self._running:
                return None
            else:
                raise Trouble(self._all_failed())
        self._drop_all_but(winner)
        return winner

    def _look(self) -> socket.socket | None:
        """Return the first attempt that has succeeded; failed attempts are removed."""
        for sock in _ended(self._running):
            code = attempt(sock.getsockopt, socket.SOL_SOCKET, socket.SO_ERROR)
            if code == 0:
                return sock
            self._fail(sock, code)
        return None

    def _start(self, now: float) -> None:
        """Start connecting to the next address."""
        family, address = self._waiting[0]
        sock = self._latest = attempt(socket.socket, family, socket.SOCK_STREAM)
        self._running[sock] = self._waiting.popleft()
        track(sock)
        # Two attempts cannot use the same local port, so the next waits for the one before.
        self._next_at = math.inf if self._source and self._source[1] else now + ATTEMPT_DELAY
        sock.setblocking(False)
        try:
            if self._source:
                attempt(sock.bind, self._source)
            code = attempt(sock.connect_ex, address)
        except Trouble as trouble:
            code = trouble.error.errno or errno.EINVAL
        if code not in {0, errno.EINPROGRESS, errno.EWOULDBLOCK}:
            self._fail(sock, code)

    def _fail(self, sock: socket.socket, code: int) -> None:
        self._failures.append((self._running[sock], OSError(code, os.strerror(code))))
        self._drop(sock)

    def _drop(self, sock: socket.socket) -> None:
        close_for_good(sock)
        self._running.pop(sock, None)
        if sock is self._latest:
            self._latest = None

    def _drop_all_but(self, winner: socket.socket | None) -> None:
        for sock in [sock for sock in self._running if sock is not winner]:
            self._drop(sock)

    def _all_failed(self) -> OSError:
        if not self._failures:
            error = OSError(errno.EADDRNOTAVAIL, f"could not connect to {self._name}: {self._why_none()}")
            return marked(error, is_final=bool(self._others))
        telling = [error for _, error in self._failures if error.errno not in _NO_WAY] or [self._failures[-1][1]]
        # An error other than a refusal may be temporary.
        unrefused = [error for error in telling if not isinstance(error, ConnectionRefusedError)]
        chosen = (unrefused or telling)[-1]
        return explained(OSError(chosen.errno, self._reasons()), f"could not connect to {self._name}")

    def _reasons(self) -> str:
        """Return each reason, with the addresses it applies to if there are several."""
        reasons: dict[str, list[str]] = {}
        for address, error in self._failures:
            reasons.setdefault(_reason(error), []).append(literal(address))
        if len(self._failures) == 1:
            return next(iter(reasons))
        return "; ".join(f"{reason} ({', '.join(found)})" for reason, found in reasons.items())

    def _why_none(self) -> str:
        if self._source is None or not self._others:
            return "the name has no address"
        found = ", ".join(map(literal, self._others))
        return f"source_address {self._source[0]} has another address family than {found}"

    def close(self) -> None:
        """Close all attempts, including the one that won."""
        self._drop_all_but(None)


def _reachable_from(source: tuple[str, int] | None, addresses: Sequence[Address]) -> list[Address]:
    if source is None:
        return list(addresses)
    family = socket.AF_INET6 if ipaddress.ip_address(source[0]).version == 6 else socket.AF_INET
    return [address for address in addresses if address[0] == family]


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _ended(running: dict[socket.socket, Address]) -> list[socket.socket]:
    """Return the attempts that have succeeded or failed, in the order in which they began."""
    if not running:
        return []
    with attempt(selectors.DefaultSelector) as selector:
        for sock in running:
            attempt(selector.register, sock, selectors.EVENT_WRITE)
        ready = {key.fileobj for key, _ in selector.select(0)}
    return [sock for sock in running if sock in ready]
