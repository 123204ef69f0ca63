"""The way to a server on this machine that listens on a unix socket."""

from __future__ import annotations

import errno
import math
import os
import socket

from ..needs import Watched
from .leg import Leg, marked
from .transport import track, untrack
from .trouble import Trouble, attempt

PAUSE = 0.05  # seconds until the next look at a queue that was full: the kernel tells nobody when there is room

_WHY = {
    errno.ENOENT: "there is no such socket: start the server, or correct the path in host",
    errno.ENOTDIR: "there is no such socket: correct the path in host",
    errno.ECONNREFUSED: "nobody listens there: start the server, or correct the path in host",
    errno.EACCES: "this process may not use it: it needs write permission on the socket, and search permission on its "
    "directories",
    errno.EPROTOTYPE: "it is no stream socket: correct the path in host",
}


class Knock(Leg[socket.socket]):
    """Connects to a unix socket, which succeeds or fails at once; only a full queue is waited for."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._sock: socket.socket | None = None
        self._next_at = math.inf

    @property
    def watched(self) -> Watched:
        """Nothing: there is nothing to wait for but time."""
        return ()

    @property
    def wake_at(self) -> float:
        """The instant of the next try."""
        return self._next_at

    @property
    def progress(self) -> str:
        """Name the socket; what took the time is its queue."""
        return f"connecting to unix:{self._path}, whose queue is full: is the server alive?"

    def advance(self, now: float) -> socket.socket | None:
        """Connect; return the socket, None where the server's queue is full.

        Raises Trouble, final: what is wrong with a path does not pass by itself.
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
            untrack(self._sock)
            self._sock.close()
            self._sock = None
