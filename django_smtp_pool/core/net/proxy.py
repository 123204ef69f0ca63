"""Through a proxy: the dialogue with it, on a socket that is connected to it already.

The protocols are python-socks' (an extra), whose code blocks. So it is given no socket but what the proxy has said so
far: it runs from the start, is stopped where it wants to hear more, and runs again when more has come. It takes two or
three short messages; and no thread is needed, no time limit of its own, and no other way to give up.
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
from .transport import track, untrack
from .trouble import WOULD_BLOCK, PeerClosed, Trouble, attempt, is_networks

MOST = 65536  # octets of an answer
HTTP = b"HTTP/"
END_OF_HEAD = b"\r\n\r\n"

SOCKS5, BY_PASSWORD = b"\x05", b"\x02"  # RFC 1928 §3

# RFC 1928 §6: what a SOCKS proxy says, the error that is nearest, and what there is to do.
_SOCKS = {
    1: (errno.ECONNABORTED, "it failed, and does not say why: it may not reach the host, or not know the name"),
    2: (errno.EACCES, "its rules do not allow that: have them changed"),
    3: (errno.ENETUNREACH, "it finds no network on the way"),
    4: (errno.EHOSTUNREACH, "it does not reach the host, or does not know the name"),
    5: (errno.ECONNREFUSED, "no mail server listens there: check host and port"),
    6: (errno.ETIMEDOUT, "the way is too long (TTL expired)"),
    7: (errno.EOPNOTSUPP, "it does not do CONNECT"),
    8: (errno.EAFNOSUPPORT, "it does not know this kind of address"),
}
# RFC 9110 §15, likewise for CONNECT.
_HTTP = {
    401: (errno.EACCES, "it wants another user and password"),
    403: (errno.EACCES, "its rules do not allow that: have them changed (many allow port 443 alone)"),
    404: (errno.EHOSTUNREACH, "it does not find the host"),
    405: (errno.EOPNOTSUPP, "it does not do CONNECT"),
    407: (errno.EACCES, "it wants a user and a password, or others: check those in the URL"),
    502: (errno.EHOSTUNREACH, "it does not reach the host, or does not know the name"),
    503: (errno.EHOSTUNREACH, "it cannot do that now, or does not reach the host"),
    504: (errno.ETIMEDOUT, "it has waited for the host in vain"),
}
HOPELESS = frozenset({errno.EACCES, errno.EOPNOTSUPP, errno.EPROTO})  # whatever it is asked for
_FINAL = HOPELESS | {errno.ECONNREFUSED, errno.EAFNOSUPPORT}
_NO_LOGIN = "it does not take the user and the password: check those in the URL"
_OTHER_LOGIN = "it wants a login that the URL does not have, or a kind of it that we do not know"


class Tunnel(Leg[socket.socket]):
    """Asks a proxy for a connection to a server; what the server says at once stays in the socket.

    Arguments:
        sock: connected to the proxy; closed with the leg.
        host: what the proxy is told: the server's name, or its address where that was looked up here.
        name: what errors call the server.
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
        """The proxy's answer. What we say is too short to wait for."""
        return ((self._sock, selectors.EVENT_READ),)

    @property
    def progress(self) -> str:
        """Name the proxy, and what it was asked for."""
        return f"waiting for the proxy {self._proxy.place} to connect to {self._place}"

    def advance(self, now: float) -> socket.socket | None:  # noqa: ARG002 - as every leg
        """Go on; return the socket, whose other end is the server now, None while the proxy is silent.

        Raises Trouble with what the proxy says, and what to do.
        """
        if self._said == 0:
            self._rehearse(b"")
        while (arrived := self._peek()) is not None:
            script = self._rehearse(self._heard + arrived)
            # Only what the proxy said is taken: a server that speaks first may have begun in the same segment.
            self._heard += attempt(self._sock.recv, script.taken - len(self._heard))
            if script.is_over:
                return self._sock
        return None

    def _rehearse(self, heard: bytes) -> Script:
        """Run the dialogue as far as what was heard allows, and say what has not been said yet."""
        script = Script(heard, self._proxy, self._host, self._port)
        if script.failure is not None:
            raise self._refused(script.failure, heard)
        self._say(script)
        return script

    def _say(self, script: Script) -> None:
        # No variable holds what is said: there is a password in it.
        try:
            if self._said < len(script.said):
                self._said += self._sock.send(script.said[self._said :])
        except OSError as error:
            if not is_networks(error):
                raise
            raise self._lost(error) from error
        if self._said < len(script.said):
            raise self._error(errno.ENOBUFS, "it takes nothing any more")

    def _peek(self) -> bytes | None:
        """Return what has arrived, None for nothing yet."""
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
        """Tell what can be no answer. Of SOCKS that is seen octet by octet; a head of HTTP would be waited for."""
        return len(heard) > MOST or (self._proxy.is_http and not HTTP.startswith(heard[: len(HTTP)]))

    def _lost(self, error: OSError) -> Trouble:
        if not isinstance(error, ConnectionError):
            return self._error(error.errno or errno.EIO, error.strerror or str(error))
        hint = "" if self._heard else ", without a word: check scheme and port of the URL"
        return self._error(errno.ECONNRESET, f"it closed the connection{hint}")

    def _refused(self, failure: Failed, heard: bytes) -> Trouble:
        if failure.code is None:
            return self._not_understood(heard)
        known = _HTTP if self._proxy.is_http else _SOCKS
        number, what = known.get(failure.code, (_nearest(failure.code), "it did not connect"))
        return self._error(number, f"{what} ({failure.text})")

    def _not_understood(self, heard: bytes) -> Trouble:
        """Return the error for a login that failed, which has no code of its own; and for what is no such protocol."""
        if not self._proxy.is_http and heard[:1] == SOCKS5:
            if len(heard) == 2:  # the method that it wants is none of those that we have offered
                return self._error(errno.EACCES, _OTHER_LOGIN)
            if heard[1:2] == BY_PASSWORD and len(heard) == 4:
                return self._error(errno.EACCES, _NO_LOGIN)
        return self._error(errno.EPROTO, self._strange)

    @property
    def _strange(self) -> str:
        kind = "HTTP" if self._proxy.is_http else "SOCKS5"
        return f"what listens there does not speak {kind}: check scheme and port of the URL"

    def _error(self, number: int, text: str) -> Trouble:
        what = f"could not connect to {self._place} through the proxy {self._proxy.place}: {text}"
        return Trouble(marked(OSError(number, what), is_final=number in _FINAL))

    def close(self) -> None:
        """Close the socket."""
        untrack(self._sock)
        self._sock.close()


def _nearest(code: int) -> int:
    """Return the error for a status of HTTP that has none of its own: a 5xx may pass."""
    return errno.ECONNABORTED if code >= 500 or code in {408, 429} else errno.EPROTO


@dataclass(frozen=True, kw_only=True)
class Failed:
    """What python-socks makes of an answer that is no consent; of a login that failed there is no code."""

    text: str
    code: int | None = None


class _MoreWantedError(Exception):
    """The dialogue goes on when more has been heard."""


class Script:
    """The dialogue with a proxy, as far as what it has said allows.

    To python-socks this is the proxy before the one that it asks (`forward`), and the socket to it, too.
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
        except (ValueError, IndexError) as error:  # octets that it did not expect
            if from_signal_handler(error):
                raise
            self.failure = Failed(text=str(error))

    def connect(self, *_: Any, **__: Any) -> Script:
        """Be the socket."""
        return self

    def sendall(self, data: bytes) -> None:
        """Note what is to be said."""
        self.said += data

    def recv(self, size: int) -> bytes:
        """Return what was heard next; of HTTP, a whole head and nothing behind it."""
        end = min(self.taken + size, len(self._heard))
        if self._whole_heads:
            found = self._heard.find(END_OF_HEAD, self.taken)
            end = self.taken if found < 0 else found + len(END_OF_HEAD)
        if end == self.taken:
            raise _MoreWantedError
        data, self.taken = self._heard[self.taken : end], end
        return data

    def close(self) -> None:
        """Leave that to those who have the real socket."""
