"""One non-blocking socket, in clear or under TLS: it moves octets both ways and knows no SMTP.

TLS runs over `ssl.MemoryBIO`, so the ciphertext is ours: we know which octets the kernel was given. That
decides whether a lost message may have been accepted (`all_left`). A transport belongs to no thread.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import weakref
from collections import deque
from collections.abc import Iterable

_READ = 8192  # octets read at a time: replies of four octets each would make thousands of objects
_READS = 8  # in a row, before somebody looks at the clock
_SLICE = 131072  # octets encrypted, or handed to the kernel, at a time: a large message needs no second copy
_JOIN = 131072  # pieces below this travel in one write
_BURST = 4 * _SLICE  # octets handed over between two looks at what the peer has to say

# Every socket of this process, so that a forked child can close its copies; the child may be forked at any moment
# and reads it without a lock. Weak: a connection that an interrupt made everybody lose is closed, and not kept.
_sockets: weakref.WeakValueDictionary[int, socket.socket] = weakref.WeakValueDictionary()


def track(sock: socket.socket) -> None:
    """Remember a socket that a forked child must not share."""
    _sockets[id(sock)] = sock


def untrack(sock: socket.socket) -> None:
    """Forget a socket that is closed, or that somebody else tracks now."""
    _sockets.pop(id(sock), None)


class Transport:
    """A connected socket and what is still to be written to it."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        if sock.family in {socket.AF_INET, socket.AF_INET6}:
            # Nagle's algorithm would cost a round trip for each group of commands.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._sock = sock
        self._tls: ssl.SSLObject | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._unsent: deque[memoryview] = deque()
        self._ciphertext = memoryview(b"")
        self._farewell = False
        self._has_remainder = False
        self.all_left = True
        track(sock)

    def fileno(self) -> int:
        """Return the descriptor to watch."""
        return self._sock.fileno()

    @property
    def local_address(self) -> str | None:
        """The IP address of our end, where it has one."""
        if self._sock.family not in {socket.AF_INET, socket.AF_INET6}:
            return None
        return str(self._sock.getsockname()[0])

    @property
    def wants_write(self) -> bool:
        """Whether there is something that the kernel has not taken yet."""
        return bool(self._unsent or self._ciphertext or self._outgoing.pending)

    def put(self, pieces: Iterable[bytes]) -> int:
        """Queue octets and return how many; `flush` hands them over."""
        pieces = tuple(piece for piece in pieces if piece)
        size = sum(map(len, pieces))
        if size <= _JOIN and pieces:
            pieces = (b"".join(pieces),)
        self._unsent.extend(memoryview(piece) for piece in pieces)
        self.all_left = not pieces
        return size

    def flush(self) -> int:
        """Hand over as much as the kernel takes now, up to a burst, and return how many octets that was.

        `all_left` becomes True just before the call that holds the last octet queued, and False again when
        that call did not take it: so an interrupt in between leaves the doubt standing.
        """
        return self._flush_tls() if self._tls else self._flush_clear()

    def _flush_clear(self) -> int:
        taken = 0
        while self._unsent and taken < _BURST:
            view = self._unsent[0]
            count = self._hand_over(view[:_SLICE], last=len(self._unsent) == 1 and len(view) <= _SLICE)
            taken += count
            if count == len(view):
                self._unsent.popleft()
            else:
                self._unsent[0] = view[count:]
                if count < min(len(view), _SLICE):
                    break
        return taken

    def _flush_tls(self) -> int:
        taken = 0
        while taken < _BURST and self._fill_ciphertext():
            count = self._hand_over(self._ciphertext, last=not self._unsent)
            taken += count
            self._ciphertext = self._ciphertext[count:]
            if self._ciphertext:
                break
        return taken

    def _fill_ciphertext(self) -> bool:
        if not self._ciphertext:
            if self._unsent and not self._encrypt_slice():
                return False
            if self._outgoing.pending:
                self._ciphertext = memoryview(self._outgoing.read())
        return bool(self._ciphertext)

    def _encrypt_slice(self) -> bool:
        if self._tls is None:
            raise AssertionError("only called under TLS")
        view = self._unsent[0]
        try:
            count = self._tls.write(view[:_SLICE])
        except ssl.SSLWantReadError:
            # The peer renegotiates: what it waits for goes out first.
            return bool(self._outgoing.pending)
        if count == len(view):
            self._unsent.popleft()
        else:
            self._unsent[0] = view[count:]
        return True

    def _hand_over(self, view: memoryview, *, last: bool) -> int:
        if not last:
            self.all_left = False
            return self._send(view)
        already = self.all_left
        self.all_left = True
        try:
            count = self._send(view)
        except OSError:
            self.all_left = already
            raise
        self.all_left = already or count == len(view)
        return count

    def _send(self, view: memoryview) -> int:
        try:
            return self._sock.send(view)
        except (BlockingIOError, InterruptedError):
            return 0

    def receive(self) -> bytes:
        """Return what has arrived, b"" for nothing yet; never blocks.

        Raises EOFError where the peer has closed the connection, OSError where it was reset.
        """
        arrived = bytearray()
        for _ in range(_READS):  # under TLS a peer could go on for ever with what is not content
            if len(arrived) >= _READ:
                break
            try:
                more = self._receive_once()
            except (OSError, EOFError):
                if arrived:  # what the peer said before it went counts; its going is seen next time
                    break
                raise
            if more is None:
                break
            arrived += more
            if self._tls is None and len(more) < _READ:  # nothing else has arrived: asking once more is a call saved
                break
        return bytes(arrived)

    def _receive_once(self) -> bytes | None:
        if self._farewell:
            raise EOFError
        if self._has_remainder:
            self._has_remainder = False
            return self._decrypt(b"")
        try:
            raw = self._sock.recv(_READ)
        except (BlockingIOError, InterruptedError):
            return None
        if not raw:
            raise EOFError
        return raw if self._tls is None else self._decrypt(raw)

    def _decrypt(self, raw: bytes) -> bytes:
        if self._tls is None:
            raise AssertionError("only called under TLS")
        self._incoming.write(raw)
        clear = bytearray()
        while not self._farewell:
            try:
                piece = self._tls.read(_READ)
            except ssl.SSLWantReadError:
                return bytes(clear)
            except ssl.SSLZeroReturnError:
                piece = b""
            except ssl.SSLError:
                if clear:
                    self._farewell = True
                    break
                raise
            self._farewell = not piece  # close_notify: nothing follows, whether or not the socket closes
            clear += piece
        if clear:
            return bytes(clear)
        raise EOFError

    def begin_tls(self, context: ssl.SSLContext, server_hostname: str) -> None:
        """Start TLS; call `shake_hands` whenever the socket is ready, until it returns True."""
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)

    def shake_hands(self) -> bool:
        """Go on with the handshake and return whether it is complete."""
        if self._tls is None:
            raise AssertionError("begin_tls comes first")
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self.flush()
                try:
                    raw = self._sock.recv(_READ)
                except (BlockingIOError, InterruptedError):
                    return False
                if not raw:
                    raise EOFError from None
                self._incoming.write(raw)
            except ssl.SSLError:
                self._say_why()
                raise
            else:
                # The greeting may have come in one segment with the last octets of the handshake.
                self._has_remainder = True
                self.flush()
                return True

    def _say_why(self) -> None:
        """Let the alert that tells the peer what is wrong go out, if it can."""
        try:
            self.flush()
        except OSError:
            return

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS session, for those who want to show its version or certificate."""
        return self._tls

    def is_quiet(self) -> bool:
        """Tell, without waiting, whether the peer has neither closed nor said anything unasked.

        Under TLS a session ticket may lie in the socket; it is read and does no harm.
        """
        try:
            return not self.receive()
        except (OSError, EOFError):
            return False

    def close(self) -> None:
        """Close the socket at once: nothing more is written, no TLS farewell either."""
        untrack(self._sock)
        self._unsent.clear()
        self._sock.close()

    def __del__(self) -> None:
        """Close a connection that nobody has any more."""
        with contextlib.suppress(AttributeError):  # interrupted before there was one
            self._sock.close()


def close_inherited() -> None:
    """Close the copies of the parent's sockets in a forked child, without an octet on the wire."""
    for sock in list(_sockets.values()):
        descriptor = sock.detach()
        if descriptor >= 0:
            os.close(descriptor)
    _sockets.clear()
