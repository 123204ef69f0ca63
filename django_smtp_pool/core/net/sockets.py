"""Every socket of this process: a forked child closes its copies, and a connection that is closed has really ended."""

from __future__ import annotations

import contextlib
import os
import socket
import weakref

from .trouble import Trouble, attempt

_owner = os.getpid()  # the process that may end the connections

# The fork may happen at any moment, so the child reads this without a lock. Weak references: a socket that an interrupt
# has made unreachable is closed, not kept.
_sockets: weakref.WeakValueDictionary[int, socket.socket] = weakref.WeakValueDictionary()


def track(sock: socket.socket) -> None:
    """Remember a socket that a forked child must not share."""
    _sockets[id(sock)] = sock


def untrack(sock: socket.socket) -> None:
    """Forget a socket that is closed."""
    _sockets.pop(id(sock), None)


def end(sock: socket.socket) -> None:
    """End a connection in both directions, from any thread; the thread that uses it closes the socket.

    `close()` does not do that if a forked child has a copy of the socket. A child closes its copies, except for a
    socket that another thread was creating during the fork. In the child itself, this does nothing.
    """
    if os.getpid() == _owner:
        with contextlib.suppress(Trouble):  # it is not connected, or was closed before
            attempt(sock.shutdown, socket.SHUT_RDWR)


def close_for_good(sock: socket.socket) -> None:
    """End a connection, and close its socket."""
    end(sock)
    sock.close()
    untrack(sock)


def close_inherited() -> None:
    """Close the copies of the parent's sockets in a forked child, without sending an octet."""
    global _owner
    for sock in list(_sockets.values()):
        descriptor = sock.detach()
        if descriptor >= 0:
            os.close(descriptor)
    _sockets.clear()
    _owner = os.getpid()
