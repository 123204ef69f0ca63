"""What the network does to one call of ours, told from an exception that only happens to look like it.

An OSError is the network's if it left a single non-blocking call in its own `try`, carries an error number (or is one
of TLS or of the resolver), and no signal handler raised it. It goes on as `Trouble`, which is no OSError: whoever
handles trouble cannot take anybody's `TimeoutError` for it. A wait (select, a lock, a sleep) never makes trouble.
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
    """A call on the network failed. `error` says how, in the type that callers know."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class PeerClosed(Trouble):
    """The peer has closed the connection."""

    def __init__(self) -> None:
        super().__init__(ConnectionResetError(errno.ECONNRESET, "the server closed the connection"))


def is_networks(error: OSError) -> bool:
    """Return whether an error that left a single non-blocking call is the network's."""
    has_number = error.errno is not None or isinstance(error, (ssl.SSLError, socket.gaierror))
    return has_number and not from_signal_handler(error)


def attempt(call: Callable[..., T], *args: Any) -> T:
    """Make one call that does not block and return its answer; raise Trouble for the network's error."""
    try:
        return call(*args)
    except OSError as error:
        if not is_networks(error):
            raise
        raise Trouble(error) from error


def would_block(error: OSError) -> None:
    """Return where a call had to be left for later; raise Trouble, or the interrupt that the error is."""
    if not is_networks(error):
        raise error
    if not isinstance(error, WOULD_BLOCK):
        raise Trouble(error) from error
