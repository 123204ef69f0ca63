"""TCP connections in the making: resolve the name, try each address; never blocks the thread that drives it."""

from __future__ import annotations

import errno
import ipaddress
import os
import selectors
import socket
import threading
from collections.abc import Callable
from typing import Any, Protocol

from .options import UNIX, is_unix
from .steps import Connect
from .transport import Transport, track, untrack

Address = tuple[socket.AddressFamily, Any]
Resolve = Callable[[str, int], list[Address]]


class HasFileno(Protocol):
    """Something that can be watched; told from others by what it is, since descriptors are used again."""

    def fileno(self) -> int:
        """Return the descriptor."""
        ...


def resolve(host: str, port: int) -> list[Address]:
    """Return the TCP addresses of a host, in the system's order of preference."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [(family, address) for family, _, _, _, address in found]


class Resolving:
    """A look-up in a short-lived thread: the system's resolver cannot be given a time limit."""

    def __init__(self, host: str, port: int, look_up: Resolve) -> None:
        self._host, self._port, self._look_up = host, port, look_up
        self._ours, self._threads = socket.socketpair()
        for end in (self._ours, self._threads):
            track(end)
        self._found: list[Address] | OSError | None = None
        threading.Thread(target=self._run, name="django-smtp-pool-resolver", daemon=True).start()

    def _run(self) -> None:
        try:
            self._found = self._look_up(self._host, self._port)
        except OSError as error:
            self._found = error
        except UnicodeError as error:
            self._found = OSError(errno.EINVAL, f"{self._host!r} is no host name: {error}")
        finally:
            # Closing our end is the signal; whoever waits sees the other end readable.
            untrack(self._threads)
            self._threads.close()

    def fileno(self) -> int:
        """Return a descriptor that becomes readable with the answer."""
        return self._ours.fileno()

    def answer(self) -> list[Address] | None:
        """Return the addresses, None while there is no answer yet; raise OSError where the look-up failed."""
        if isinstance(self._found, OSError):
            raise self._found
        return self._found

    def close(self) -> None:
        """Stop waiting; the thread ends when the system's resolver does."""
        untrack(self._ours)
        self._ours.close()


class Dial:
    """One connection in the making, advanced whenever its descriptor is ready."""

    def __init__(self, step: Connect, look_up: Resolve = resolve) -> None:
        self._step = step
        self._resolving: Resolving | None = None
        self._sock: socket.socket | None = None
        self._failure: OSError | None = None
        self._addresses: list[Address] = []
        if is_unix(step.host):
            self._addresses = [(socket.AF_UNIX, step.host.removeprefix(UNIX))]
        elif _is_literal(step.host):
            self._addresses = resolve(step.host, step.port)
        else:
            self._resolving = Resolving(step.host, step.port, look_up)

    @property
    def watched(self) -> tuple[tuple[HasFileno, int], ...]:
        """What to wait for, each with its selectors events: it changes as the dial goes on."""
        if self._resolving is not None:
            return ((self._resolving, selectors.EVENT_READ),)
        return ((self._sock, selectors.EVENT_WRITE),) if self._sock is not None else ()

    @property
    def progress(self) -> str:
        """Say what the dial is doing, for the error when its time is up."""
        return f"resolving {self._step.host}" if self._resolving else f"connecting to {self._place}"

    @property
    def _place(self) -> str:
        return self._step.host if is_unix(self._step.host) else f"{self._step.host} port {self._step.port}"

    def advance(self) -> Transport | None:
        """Go on; return the transport once connected, None while there is more to wait for.

        Raises OSError (of the type that the last address failed with) where no address answers.
        """
        if self._resolving and not self._take_answer(self._resolving):
            return None
        while True:
            if self._sock is None and not self._try_next():
                continue
            sock = self._sock
            if sock is None:
                raise AssertionError("_try_next opened one")
            if _still_connecting(sock):
                return None
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code == 0:
                return Transport(sock)  # and it is ours too until we are dropped: an interrupt leaves it to nobody
            self._fail(OSError(code, os.strerror(code)))

    def _take_answer(self, resolving: Resolving) -> bool:
        try:
            found = resolving.answer()
        except OSError as error:
            raise _explained(error, f"could not resolve {self._step.host}") from error
        if found is None:
            return False
        self._addresses = list(found)
        resolving.close()
        self._resolving = None
        return True

    def _try_next(self) -> bool:
        """Start connecting to the next address; return False where that failed at once."""
        if not self._addresses:
            raise self._all_failed()
        family, address = self._addresses.pop(0)
        try:
            self._sock = socket.socket(family, socket.SOCK_STREAM)
            track(self._sock)
            self._sock.setblocking(False)
            if self._step.source_address:
                self._sock.bind(self._step.source_address)
            code = self._sock.connect_ex(address)
        except OSError as error:
            self._fail(error)
            return False
        # A unix socket connects at once or not at all: there, EAGAIN is a server with too many in its queue.
        under_way = {0, errno.EINPROGRESS} if family == socket.AF_UNIX else {0, errno.EINPROGRESS, errno.EWOULDBLOCK}
        if code not in under_way:
            self._fail(OSError(code, os.strerror(code)))
            return False
        return True

    def _fail(self, error: OSError) -> None:
        self._failure = error
        self._drop_socket()

    def _all_failed(self) -> OSError:
        if self._failure is None:
            return OSError(errno.EADDRNOTAVAIL, f"{self._step.host} has no address")
        return _explained(self._failure, f"could not connect to {self._place}")

    def _drop_socket(self) -> None:
        if self._sock is not None:
            untrack(self._sock)
            self._sock.close()
            self._sock = None

    def close(self) -> None:
        """Give up."""
        self._drop_socket()
        if self._resolving:
            self._resolving.close()
            self._resolving = None


def _still_connecting(sock: socket.socket) -> bool:
    """Tell whether a connect is still under way: neither established nor failed."""
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_WRITE)
        return not selector.select(0)


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _explained(error: OSError, what: str) -> OSError:
    """Return the same type of error with a text that names the server; `is_final` where trying again is in vain."""
    text = f"{what}: {error.strerror or error}"
    number = error.errno if error.errno is not None else 0
    unknown_host = isinstance(error, socket.gaierror) and number != socket.EAI_AGAIN
    clear = socket.gaierror(number, text) if isinstance(error, socket.gaierror) else OSError(number, text)
    clear.is_final = unknown_host or isinstance(clear, (ConnectionRefusedError, FileNotFoundError, PermissionError))  # type: ignore[attr-defined]
    return clear
