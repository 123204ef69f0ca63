"""Connect through a proxy: the dialogue with it, over a socket that is already connected to it.

python-socks (an extra) implements the protocols, but with blocking calls. So it gets no socket, only what the proxy
has sent so far: it runs from the start, stops where it needs more input, and runs again when more has arrived. The
dialogue is only two or three short messages. It needs no thread, no separate time limit and no separate cancellation.
"""

from __future__ import annotations

import errno
import selectors
import socket
from dataclasses import dataclass
from typing import Any

from ..interrupts import from_signal_handler
from ..needs import Watched
from ..options.proxy_url import ProxyURL
from .leg import Leg, marked
from .sockets import close_for_good, track
from .trouble import WOULD_BLOCK, PeerClosed, Trouble, attempt, is_networks

MOST = 65536  # octets of a reply
HTTP = b"HTTP/"
END_OF_HEAD = b"\r\n\r\n"

SOCKS5, BY_PASSWORD = b"\x05", b"\x02"  # RFC 1928 §3

# RFC 1928 §6: for each reply of a SOCKS proxy, the nearest errno, and a description with what to do.
_SOCKS = {
    1: (errno.ECONNABORTED, "it failed without a reason; perhaps it cannot reach the host, or cannot resolve its name"),
    2: (errno.EACCES, "its rules forbid this: ask its administrator to change them"),
    3: (errno.ENETUNREACH, "it cannot reach the host's network"),
    4: (errno.EHOSTUNREACH, "it cannot reach the host, or cannot resolve its name"),
    5: (errno.ECONNREFUSED, "the connection was refused: check host and port"),
    6: (errno.ETIMEDOUT, "the TTL expired"),
    7: (errno.EOPNOTSUPP, "it does not support CONNECT"),
    8: (errno.EAFNOSUPPORT, "it does not support this type of address"),
}
# RFC 9110 §15: the same for CONNECT.
_HTTP = {
    401: (errno.EACCES, "it refused the user and the password"),
    403: (
        errno.EACCES,
        "its rules forbid this: ask its administrator to change them (many proxies allow only port 443)",
    ),
    404: (errno.EHOSTUNREACH, "it cannot find the host"),
    405: (errno.EOPNOTSUPP, "it does not support CONNECT"),
    407: (errno.EACCES, "it requires a valid user and password: check those in the URL"),
    502: (errno.EHOSTUNREACH, "it cannot reach the host, or cannot resolve its name"),
    503: (errno.EHOSTUNREACH, "it is unavailable, or cannot reach the host"),
    504: (errno.ETIMEDOUT, "the host did not answer in time"),
}
HOPELESS = frozenset({errno.EACCES, errno.EOPNOTSUPP, errno.EPROTO})  # whatever the target is
_FINAL = HOPELESS | {errno.ECONNREFUSED, errno.EAFNOSUPPORT}
_NO_LOGIN = "it refused the user and the password: check those in the URL"
_OTHER_LOGIN = "it requires a user and a password, which the URL does not have, or an unsupported login method"


class Tunnel(Leg[socket.socket]):
    """Asks a proxy for a connection to a server. What the server sends afterwards stays in the socket.

    Arguments:
        sock: connected to the proxy; closed together with this object.
        host: the target: the server's name, or its address if the name was resolved here.
        name: the server's name in errors.
    """

    def __init__(self, sock: socket.socket, proxy: ProxyURL, host: str, port: int, *, name: str) -> None:
        self._sock = sock
        self._proxy = proxy
        self._host, self._port = host, port
        self._place = f"{name} port {port}" if name == host else f"{name} ({host}) port {port}"
        self._heard = b""
        self._said = 0  # octets
        track(sock)

    @property
    def watched(self) -> Watched:
        """The socket, for the proxy's reply. The requests are too short to block."""
        return ((self._sock, selectors.EVENT_READ),)

    @property
    def progress(self) -> str:
        """Name the proxy, and the target."""
        return f"waiting for the proxy {self._proxy.place} to connect to {self._place}"

    def advance(self, now: float) -> socket.socket | None:  # noqa: ARG002 - part of the interface
        """Continue; return the socket once it leads to the server, or None while the proxy has not answered.

        Raises Trouble with the proxy's reply, and what to do.
        """
        if self._said == 0:
            self._rehearse(b"")
        while (arrived := self._peek()) is not None:
            script = self._rehearse(self._heard + arrived)
            # Read only what the proxy sent: a server that speaks first may have begun in the same segment.
            self._heard += attempt(self._sock.recv, script.taken - len(self._heard))
            if script.is_over:
                return self._sock
        return None

    def _rehearse(self, heard: bytes) -> Script:
        """Run the dialogue on what has been received, and send what has not been sent yet."""
        script = Script(heard, self._proxy, self._host, self._port)
        if script.failure is not None:
            raise self._refused(script.failure, heard)
        self._say(script)
        return script

    def _say(self, script: Script) -> None:
        # Do not keep the data in a variable: it contains a password.
        try:
            if self._said < len(script.said):
                self._said += self._sock.send(script.said[self._said :])
        except OSError as error:
            if not is_networks(error):
                raise
            raise self._lost(error) from error
        if self._said < len(script.said):
            raise self._error(errno.ENOBUFS, "it does not read any more")

    def _peek(self) -> bytes | None:
        """Return what has arrived, or None if nothing has."""
        try:
            arrived = attempt(self._sock.recv, MOST, socket.MSG_PEEK)
        except Trouble as trouble:
            if isinstance(trouble.error, WOULD_BLOCK):
                return None
            raise self._lost(trouble.error) from trouble.error
        if not arrived:
            raise self._lost(PeerClosed().error)
        if self._is_strange(self._heard + arrived):
            raise self._error(errno.EPROTO, self._strange)
        return arrived

    def _is_strange(self, heard: bytes) -> bool:
        """Return whether this cannot be a reply. SOCKS is checked later; an HTTP head would be waited for."""
        return len(heard) > MOST or (self._proxy.is_http and not HTTP.startswith(heard[: len(HTTP)]))

    def _lost(self, error: OSError) -> Trouble:
        if not isinstance(error, ConnectionError):
            return self._error(error.errno or errno.EIO, error.strerror or str(error))
        hint = "" if self._heard else " without a reply: check scheme and port of the URL"
        return self._error(errno.ECONNRESET, f"it closed the connection{hint}")

    def _refused(self, failure: Failed, heard: bytes) -> Trouble:
        if failure.code is None:
            return self._not_understood(heard)
        known = _HTTP if self._proxy.is_http else _SOCKS
        number, what = known.get(failure.code, (_nearest(failure.code), "it could not connect"))
        return self._error(number, f"{what} ({failure.text})")

    def _not_understood(self, heard: bytes) -> Trouble:
        """Return the error for a failed login, which has no code, or for a reply of another protocol."""
        if not self._proxy.is_http and heard[:1] == SOCKS5:
            if len(heard) == 2:  # the method that it requires is not one of those we offered
                return self._error(errno.EACCES, _OTHER_LOGIN)
            if heard[1:2] == BY_PASSWORD and len(heard) == 4:
                return self._error(errno.EACCES, _NO_LOGIN)
        return self._error(errno.EPROTO, self._strange)

    @property
    def _strange(self) -> str:
        kind = "HTTP" if self._proxy.is_http else "SOCKS5"
        return f"it does not speak {kind}: check scheme and port of the URL"

    def _error(self, number: int, text: str) -> Trouble:
        what = f"could not connect to {self._place} through the proxy {self._proxy.place}: {text}"
        return Trouble(marked(OSError(number, what), is_final=number in _FINAL))

    def close(self) -> None:
        """Close the socket."""
        close_for_good(self._sock)


def _nearest(code: int) -> int:
    """Return the errno for an HTTP status that is not in the table: a 5xx may be temporary."""
    return errno.ECONNABORTED if code >= 500 or code in {408, 429} else errno.EPROTO


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A negative reply, as python-socks reports it; a failed login has no code."""

    text: str
    code: int | None = None


class _MoreWantedError(Exception):
    """Raised if the dialogue needs more input."""


class Script:
    """The dialogue with a proxy, on the input so far.

    For python-socks, this object is both the preceding proxy (`forward`) and the socket.
    """

    def __init__(self, heard: bytes, proxy: ProxyURL, host: str, port: int) -> None:
        from python_socks import ProxyError, ProxyType
        from python_socks.sync import Proxy

        self._heard = heard
        self._whole_heads = proxy.is_http
        self.taken = 0
        self.said = b""
        self.failure: Failed | None = None
        self.is_over = False
        kind = ProxyType.HTTP if proxy.is_http else ProxyType.SOCKS5
        this: Any = self
        dialogue: Any = Proxy(kind, proxy.host, proxy.port, proxy.username, proxy.password, rdns=True, forward=this)
        try:
            dialogue.connect(host, port)
            self.is_over = True
        except _MoreWantedError:
            self.taken = len(heard)
        except ProxyError as error:
            self.failure = Failed(text=str(error), code=error.error_code)
        except (ValueError, IndexError) as error:  # unexpected octets
            if from_signal_handler(error):
                raise
            self.failure = Failed(text=str(error))

    def connect(self, *_: Any, **__: Any) -> Script:
        """Return this object as the socket."""
        return self

    def sendall(self, data: bytes) -> None:
        """Record what should be sent."""
        self.said += data

    def recv(self, size: int) -> bytes:
        """Return the next input; for HTTP, a complete head and nothing after it."""
        end = min(self.taken + size, len(self._heard))
        if self._whole_heads:
            found = self._heard.find(END_OF_HEAD, self.taken)
            end = self.taken if found < 0 else found + len(END_OF_HEAD)
        if end == self.taken:
            raise _MoreWantedError
        data, self.taken = self._heard[self.taken : end], end
        return data

    def close(self) -> None:
        """Do nothing: `Tunnel` closes the socket."""
