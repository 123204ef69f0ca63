"""Errors of the network, kept apart from other exceptions of the same types.

An OSError comes from the network if a single non-blocking call in its own `try` raised it, it has an errno (or comes
from TLS or the resolver), and no signal handler raised it. It is raised as `Trouble`, which is not an OSError: a
handler for it cannot catch a `TimeoutError` of other code. A wait (select, lock, sleep) never raises Trouble.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Callable
from typing import Any, TypeVar

from ..interrupts import from_signal_handler

T = TypeVar("T")

WOULD_BLOCK = (BlockingIOError, InterruptedError)


class Trouble(Exception):
    """A network call failed. `error` is the cause, as a type that callers know."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class PeerClosed(Trouble):
    """The peer closed the connection."""

    def __init__(self) -> None:
        super().__init__(ConnectionResetError(errno.ECONNRESET, "the server closed the connection"))


def is_networks(error: OSError) -> bool:
    """Return whether the error of a single non-blocking call comes from the network."""
    has_number = error.errno is not None or isinstance(error, (ssl.SSLError, socket.gaierror))
    return has_number and not from_signal_handler(error)


def attempt(call: Callable[..., T], *args: Any) -> T:
    """Make one non-blocking call and return its result; raise Trouble for an error of the network."""
    try:
        return call(*args)
    except OSError as error:
        if not is_networks(error):
            raise
        raise Trouble(error) from error


def would_block(error: OSError) -> None:
    """Return if a call would have blocked; otherwise raise Trouble, or the interrupt."""
    trace = error.__traceback__
    if type(error) is BlockingIOError and error.errno is not None and trace is not None and trace.tb_next is None:
        return  # raised by the call itself, and not by a frame of Python: this happens with every message
    if not is_networks(error):
        raise error
    if not isinstance(error, WOULD_BLOCK):
        raise Trouble(error) from error
