"""One server-side socket, plain or TLS; other threads can interrupt each of its waits.

TLS runs over memory BIOs, so that the raw socket stays available: it can be reset, half-closed or dripped through at
any moment, and a fault can send plaintext on it.
"""

import contextlib
import select
import socket
import ssl
import struct

# Linux reports without reading that the client has closed; elsewhere this is noticed only when the server stops.
PEER_GONE = getattr(select, "POLLRDHUP", 0)
# The TCP states in which the client can still send: ESTABLISHED, FIN_WAIT1, FIN_WAIT2.
PEER_PRESENT = (1, 4, 5)


class SessionEndedError(Exception):
    """Ends the thread of a session: the client has closed, a fault ended it, or the server stops."""


class Wire:
    """Move octets between a client and its session; after wake(), the session's thread calls `woken`."""

    def __init__(self, sock, woken):
        self._sock = sock
        self._woken = woken
        self._tls = None
        self._waker, self._alarm = socket.socketpair()
        for each in (sock, self._waker, self._alarm):
            each.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def tls(self):
        """Return the ssl.SSLObject, or None without TLS."""
        return self._tls

    def wake(self):
        """Interrupt the current wait of the session; other threads may call only this, has_unread() and peer_gone()."""
        with contextlib.suppress(BlockingIOError):  # full of earlier wake-ups, so one is pending
            self._waker.send(b"!")

    def has_unread(self):
        """Return whether octets from the client are still unread."""
        descriptor = self._sock.fileno()
        return descriptor >= 0 and bool(select.select([descriptor], [], [], 0)[0])

    def peer_gone(self):
        """Return whether the client has closed, even if some of its octets are still unread."""
        if not hasattr(socket, "TCP_INFO") or self._sock.family == socket.AF_UNIX:
            return False
        return self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] not in PEER_PRESENT

    def wait(self, mask, seconds=None):
        """Return whether the socket became ready for `mask` within `seconds`."""
        poll = select.poll()
        poll.register(self._alarm, select.POLLIN)
        if mask:
            poll.register(self._sock, mask)
        while True:
            ready = [descriptor for descriptor, _ in poll.poll(None if seconds is None else seconds * 1000)]
            if self._alarm.fileno() in ready:
                self._alarm.recv(4096)
                self._woken()
            else:
                return bool(ready)

    def pause(self, seconds):
        """Wait for `seconds`, unless woken."""
        self.wait(0, seconds)

    def await_departure(self):
        """Return when the client has closed; read nothing."""
        self.wait(PEER_GONE)

    def receive(self, size=65536):
        """Return some octets, or b"" at the end of the connection, whatever its cause."""
        if self._tls is None:
            return self._read(size)
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLWantReadError:
                self._flush()
                self._feed()
            except ssl.SSLError:
                return b""

    def discard(self):
        """Read raw octets and discard them; return whether there were any."""
        return bool(self._read(65536))

    def send(self, data):
        """Send all of `data`, waiting while the client does not read."""
        if self._tls is None:
            self._write(data)
            return
        self._tls.write(data)
        self._flush()

    def secure(self, context):
        """Do the server's part of a TLS handshake."""
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(self._in, self._out, server_side=True)
        try:
            self._shake_hands(tls)
        finally:
            self._flush()  # the alert too, which gives the client the reason
        self._tls = tls

    def half_close(self, *, polite):
        """Send FIN, after a TLS close_notify if `polite`; the client may still send."""
        if polite and self._tls is not None:
            with contextlib.suppress(ssl.SSLError):  # unwrap() wants the client's answer, which is not needed
                self._tls.unwrap()
            self._flush()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def close(self, *, reset=False):
        """Close the socket, with RST instead of FIN if `reset`."""
        if reset:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for each in (self._sock, self._waker, self._alarm):
            each.close()

    def _shake_hands(self, tls):
        while True:
            try:
                return tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._feed()

    def _feed(self):
        if data := self._read(65536):
            self._in.write(data)
        else:
            self._in.write_eof()

    def _flush(self):
        self._write(self._out.read())

    def _read(self, size):
        while True:
            try:
                return self._sock.recv(size)
            except BlockingIOError:
                self.wait(select.POLLIN)
            except OSError:
                return b""

    def _write(self, data):
        left = memoryview(data)
        while left:
            try:
                left = left[self._sock.send(left) :]
            except BlockingIOError:
                self.wait(select.POLLOUT)
            except OSError as error:
                raise SessionEndedError(f"the client has gone: {error}") from error
