"""Connect to a server on this machine that listens on a unix socket."""

from __future__ import annotations

import errno
import math
import os
import socket

from ..needs import Watched
from .leg import Leg, marked
from .sockets import close_for_good, track
from .trouble import Trouble, attempt

PAUSE = 0.05  # seconds until the next attempt after the queue was full: the kernel does not report when there is room

_WHY = {
    errno.ENOENT: "the socket does not exist: start the server, or correct the path in host",
    errno.ENOTDIR: "the socket does not exist: correct the path in host",
    errno.ECONNREFUSED: "no server listens there: start the server, or correct the path in host",
    errno.EACCES: "this process may not use it: it needs write permission on the socket, and search permission on its "
    "directories",
    errno.EPROTOTYPE: "it is not a stream socket: correct the path in host",
}


class Knock(Leg[socket.socket]):
    """Connects to a unix socket, which succeeds or fails at once; it waits only while the queue is full."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._sock: socket.socket | None = None
        self._next_at = math.inf

    @property
    def watched(self) -> Watched:
        """Nothing: it only waits for time to pass."""
        return ()

    @property
    def wake_at(self) -> float:
        """The instant of the next attempt."""
        return self._next_at

    @property
    def progress(self) -> str:
        """Name the socket; only a full queue takes time."""
        return f"connecting to unix:{self._path}, whose queue is full: is the server alive?"

    def advance(self, now: float) -> socket.socket | None:
        """Connect; return the socket, or None if the server's queue is full.

        Raises Trouble, always final: a wrong path does not become right by itself.
        """
        self._sock = attempt(socket.socket, socket.AF_UNIX, socket.SOCK_STREAM)
        track(self._sock)
        self._sock.setblocking(False)
        try:
            code = attempt(self._sock.connect_ex, self._path)
        except Trouble as trouble:
            code = trouble.error.errno or errno.EINVAL
        if code == 0:
            return self._sock
        self.close()
        if code != errno.EAGAIN:
            text = f"could not connect to unix:{self._path}: {_WHY.get(code, os.strerror(code))}"
            raise Trouble(marked(OSError(code, text), is_final=code in _WHY))
        self._next_at = now + PAUSE
        return None

    def close(self) -> None:
        """Close the socket."""
        if self._sock is not None:
            close_for_good(self._sock)
            self._sock = None
