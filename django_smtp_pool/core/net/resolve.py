"""Resolve names to addresses, with the system's resolver in a thread, and decide the order to try them in."""

from __future__ import annotations

import encodings.idna  # noqa: F401 - or the first lookup imports it, and a fork meanwhile leaves its lock to the child
import errno
import ipaddress
import selectors
import socket
import threading
from collections.abc import Callable, Generator, Iterable
from typing import Any

from ..interrupts import from_signal_handler
from ..needs import Watched
from ..options.fields import is_ip_address
from .leg import Leg, explained
from .sockets import track, untrack
from .trouble import Trouble, attempt

Address = tuple[socket.AddressFamily, tuple[Any, ...]]
Resolve = Callable[[str, int], list[Address]]


def resolve(host: str, port: int) -> list[Address]:
    """Return the TCP addresses of a host, in the system's order of preference."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [(family, address) for family, _, _, _, address in found]


class Resolving(Leg[list[Address]]):
    """A look-up in a short-lived thread, because the system's resolver has no timeout."""

    def __init__(self, host: str, port: int, look_up: Resolve) -> None:
        self._host, self._port, self._look_up = host, port, look_up
        self._ours, self._threads = attempt(socket.socketpair)
        for end in (self._ours, self._threads):
            track(end)
        self._found: list[Address] | BaseException | None = None
        try:
            threading.Thread(target=self._run, name="django-smtp-pool-resolver", daemon=True).start()
        except RuntimeError as error:  # no more threads may be available: that fails one dial, not a batch
            untrack(self._threads)
            self._threads.close()
            self.close()
            if from_signal_handler(error):
                raise
            raise Trouble(OSError(errno.ENOMEM, f"could not resolve {host}: {error}")) from error

    def _run(self) -> None:
        try:
            self._found = self._look_up(self._host, self._port)
        except BaseException as error:  # noqa: BLE001 - raised where the result is read
            self._found = error
        finally:
            # Closing our end is the signal: the other end becomes readable.
            untrack(self._threads)
            self._threads.close()

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when the result is there."""
        return self._ours.fileno()

    @property
    def watched(self) -> Watched:
        """The end that becomes readable when the result is there."""
        return ((self, selectors.EVENT_READ),)

    @property
    def progress(self) -> str:
        """Name the host."""
        return f"resolving {self._host}"

    def advance(self, now: float) -> list[Address] | None:  # noqa: ARG002 - part of the interface
        """Return the addresses, or None while there is no result; raise Trouble if the look-up failed."""
        found = self._found
        if found is not None:
            self.close()
        if isinstance(found, BaseException):
            raise self._judged(found)
        return found

    def _judged(self, error: BaseException) -> BaseException:
        """Return the trouble for a failed look-up, or the interrupt that was raised in the resolver's greenlet."""
        if not isinstance(error, Exception) or from_signal_handler(error):
            return error
        if isinstance(error, OSError):
            clear = error
        elif isinstance(error, UnicodeError):
            clear = OSError(errno.EINVAL, f"{self._host!r} is not a host name: {error}")
        else:  # from a resolver that replaces the system's
            clear = OSError(errno.EIO, f"the resolver failed: {type(error).__name__}: {error}")
        return Trouble(explained(clear, f"could not resolve {self._host}"))

    def close(self) -> None:
        """Stop waiting; the thread ends when the system's resolver returns."""
        untrack(self._ours)
        self._ours.close()


def numeric(host: str, port: int) -> Address:
    """Return the address for an IP literal without a zone.

    It does not use getaddrinfo(): up to Python 3.11, its idna codec would wrap an interrupt in another exception.
    """
    if ipaddress.ip_address(host).version == 4:
        return socket.AF_INET, (host, port)
    return socket.AF_INET6, (host, port, 0, 0)


def addresses_of(host: str, port: int, look_up: Resolve) -> Generator[Leg[Any], Any, list[Address]]:
    """Find the addresses of a host; an IP address needs no leg."""
    if is_ip_address(host):
        return [numeric(host, port)] if "%" not in host else attempt(resolve, host, port)
    found: list[Address] = yield Resolving(host, port, look_up)
    return found


def interleaved(addresses: Iterable[Address]) -> list[Address]:
    """Return addresses with alternating families, beginning with the family of the first (RFC 8305 §4)."""
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    rounds = max(map(len, families.values()), default=0)
    return [family[turn] for turn in range(rounds) for family in families.values() if turn < len(family)]


def literal(address: Address) -> str:
    """Return only the IP address, as text."""
    return str(address[1][0])
