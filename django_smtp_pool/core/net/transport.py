"""One non-blocking socket, with or without TLS: it moves octets in both directions and knows no SMTP.

    put -> _unsent -> [TLS: _tls -> _outgoing -> _ciphertext] -> kernel
    receive <- [TLS: _tls <- _incoming] <- kernel

When a connection is lost, one question decides about the message: may its last octet have left this machine? Then the
server may have accepted the message, and it must not be sent again. `all_left` answers it. It becomes True just before
the system call that is given the last octet, and False again only if that call returns and did not take the octet, or
fails. If an interrupt occurs during the call, it stays True: in case of doubt, the message is in doubt.

With `ssl.SSLSocket`, this would be impossible: it encrypts and writes in one call. So TLS runs over `ssl.MemoryBIO`,
which only encrypts, and this module hands the ciphertext to the kernel itself.

Nothing here blocks or waits, and a transport is not bound to a thread: a driver waits for the socket (`fileno`).
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Sequence

from .sockets import close_for_good, end, track
from .trouble import WOULD_BLOCK, PeerClosed, Trouble, attempt, is_networks, would_block

Piece = bytes | bytearray | memoryview

_READ = 8192  # octets to read at a time; replies of four octets each would become thousands of objects
_READS = 8  # reads in a row, before the caller checks its timeout
_SLICE = 131072  # octets to encrypt, to join or to hand to the kernel at a time; a large message has no second copy
_RECORD = 16384  # octets in one TLS record
_BURST = 4 * _SLICE  # octets to write before the caller reads again


class Transport:
    """A connected socket, and the octets that are still to be written to it."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        if sock.family in {socket.AF_INET, socket.AF_INET6}:
            # TCP_NODELAY: Nagle's algorithm would cost a round trip for each group of commands.
            attempt(sock.setsockopt, socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            attempt(sock.setsockopt, socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._sock = sock
        self.fileno = sock.fileno  # for the drivers, which ask for the descriptor at every wait
        self._tls: ssl.SSLObject | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._unsent: deque[memoryview] = deque()
        self._left = 0  # octets in `_unsent`
        self._ciphertext = memoryview(b"")
        self._peer_closed = False
        self._has_remainder = False
        self.all_left = True
        track(sock)

    @property
    def local_address(self) -> str | None:
        """The IP address of the local end, or None for a Unix socket."""
        if self._sock.family not in {socket.AF_INET, socket.AF_INET6}:
            return None
        return str(self._sock.getsockname()[0])

    @property
    def wants_write(self) -> bool:
        """Whether there are octets that the kernel has not taken yet."""
        return bool(self._unsent or self._ciphertext or self._outgoing.pending)

    def put(self, pieces: Sequence[Piece]) -> int:
        """Queue octets and return how many; `flush` writes them. Large pieces are not copied."""
        size = sum(map(len, pieces))
        if size <= _SLICE:
            pieces = (b"".join(pieces),)
        self._unsent.extend([memoryview(piece) for piece in pieces if piece])
        self._left += size
        self.all_left = not size
        return size

    def flush(self) -> int:
        """Write as much as the kernel takes now, at most a burst, and return how many octets that was.

        `all_left` becomes True just before the call with the last queued octet, and False again if that call did not
        take it. After an interrupt in between it stays True.
        """
        if self._tls is not None:
            return self._flush_tls(self._tls)
        taken = 0
        while self._unsent and taken < _BURST:
            octets = self._next_octets(_SLICE)
            count = self._hand_over(octets, is_last=len(octets) == self._left)
            self._forget(count)
            taken += count
            if count < len(octets):
                break
        return taken

    def _flush_tls(self, tls: ssl.SSLObject) -> int:
        taken = 0
        while taken < _BURST and self._fill_ciphertext(tls):
            count = self._hand_over(self._ciphertext, is_last=not self._unsent)
            taken += count
            self._ciphertext = self._ciphertext[count:]
            if self._ciphertext:
                break
        return taken

    def _next_octets(self, size: int) -> memoryview:
        """Return the next octets to write, at most `size`; small pieces are joined, so that they need one call."""
        unsent = self._unsent
        first = unsent[0]
        if len(first) >= _RECORD or len(unsent) == 1:
            return first[:size]
        views = []
        while size and unsent:
            view = unsent.popleft()
            if len(view) > size:
                unsent.appendleft(view[size:])
            views.append(view[:size])
            size -= len(views[-1])
        unsent.appendleft(memoryview(b"".join(views)))
        return unsent[0]

    def _forget(self, count: int) -> None:
        """Remove the first octets of the queue, which were written or encrypted."""
        self._left -= count
        first = self._unsent[0]
        if count < len(first):
            self._unsent[0] = first[count:]
        else:
            self._unsent.popleft()

    def _fill_ciphertext(self, tls: ssl.SSLObject) -> bool:
        if not self._ciphertext:
            while self._unsent and self._outgoing.pending < _SLICE and self._encrypt_record(tls):
                pass
            if self._outgoing.pending:
                self._ciphertext = memoryview(self._outgoing.read())
        return bool(self._ciphertext)

    def _encrypt_record(self, tls: ssl.SSLObject) -> bool:
        """Encrypt some octets; return False if the peer renegotiates, since the handshake must be written first."""
        octets = self._next_octets(_RECORD)
        try:
            count = tls.write(octets)
        except ssl.SSLError as error:
            if not is_networks(error):
                raise
            if not isinstance(error, ssl.SSLWantReadError):
                raise Trouble(error) from error
            return False
        self._forget(count)
        return True

    def _hand_over(self, octets: memoryview, *, is_last: bool) -> int:
        """Give octets to the kernel, and return how many it took; `is_last`: none are queued after them."""
        already = self.all_left
        self.all_left = already or is_last  # here, doubt begins
        try:
            count = self._sock.send(octets)
        except OSError as error:
            if not is_networks(error):  # an interrupt: the kernel may have taken the octets before it
                raise
            self.all_left = already
            if isinstance(error, WOULD_BLOCK):
                return 0
            raise Trouble(error) from error
        self.all_left = already or (is_last and count == len(octets))
        return count

    def receive(self) -> bytes:
        """Return what has arrived, or b"" if nothing has; never blocks. One call returns a burst of replies.

        Raises PeerClosed if the peer has closed the connection, and Trouble if it was reset.
        """
        return self._take() if self._tls is None else self._receive_tls(self._tls)

    def _take(self) -> bytes:
        """Return the next octets as they arrived, or b"" if there are none."""
        try:
            raw = self._sock.recv(_READ)
        except OSError as error:
            would_block(error)
            return b""
        if not raw:
            raise PeerClosed
        return raw

    def _receive_tls(self, tls: ssl.SSLObject) -> bytes:
        if self._peer_closed:
            raise PeerClosed
        has_remainder, self._has_remainder = self._has_remainder, False
        clear = bytearray(self._decrypt(tls, b"") if has_remainder else b"")
        for _ in range(_READS):  # a peer could send TLS records without content forever
            if len(clear) >= _READ:
                break
            try:
                raw = self._take()
                if not raw:
                    break
                clear += self._decrypt(tls, raw)
            except Trouble:
                if clear:  # first return what the peer sent before it closed; the next call raises
                    break
                raise
            if clear and len(raw) < _READ:  # nothing else has arrived, so this saves a system call
                break
        return bytes(clear)

    def _decrypt(self, tls: ssl.SSLObject, raw: bytes) -> bytes:
        """Return the content that can be decrypted now; raise PeerClosed if there is none and none follows."""
        self._incoming.write(raw)
        clear = bytearray()
        # Only while there is something to read: ssl raises an exception otherwise, and its origin has to be found.
        while not self._peer_closed and (self._incoming.pending or tls.pending()):
            try:
                piece = tls.read(_READ)
            except ssl.SSLError as error:
                if not is_networks(error):
                    raise
                if isinstance(error, ssl.SSLWantReadError):
                    return bytes(clear)
                if not clear and not isinstance(error, ssl.SSLZeroReturnError):
                    raise Trouble(error) from error
                piece = b""
            self._peer_closed = not piece  # close_notify, or an error: nothing follows, even if the socket stays open
            clear += piece
        if self._peer_closed and not clear:
            raise PeerClosed
        return bytes(clear)

    def shake_hands(self, context: ssl.SSLContext, server_hostname: str) -> bool:
        """Start TLS, or continue, and return whether the handshake is complete; call again when the socket is ready."""
        if self._tls is None:
            name: str | bytes = server_hostname
            if type(context) is ssl.SSLContext and server_hostname.isascii():
                name = server_hostname.encode()  # a str is encoded by idna, which wraps interrupts up to Python 3.11
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        while True:
            is_done = self._handshake_step(self._tls)
            self.flush()
            if is_done:
                # The greeting may have arrived in one segment with the last octets of the handshake.
                self._has_remainder = True
                return True
            raw = self._take()
            if not raw:
                return False
            self._incoming.write(raw)

    def _handshake_step(self, tls: ssl.SSLObject) -> bool:
        try:
            tls.do_handshake()
        except ssl.SSLError as error:
            if not is_networks(error):
                raise
            if isinstance(error, ssl.SSLWantReadError):
                return False
            self._send_alert()
            raise Trouble(error) from error
        return True

    def _send_alert(self) -> None:
        """Write the TLS alert that tells the peer what is wrong, if possible."""
        try:
            self.flush()
        except Trouble:
            return

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS session, to show its version or certificate; None without TLS."""
        return self._tls

    def is_quiet(self) -> bool:
        """Return, without waiting, whether the peer has neither closed the connection nor sent anything.

        Under TLS, the socket may contain a session ticket, which is read and does no harm.
        """
        try:
            return not self.receive()
        except Trouble:
            return False

    def close(self) -> None:
        """Close the socket at once; nothing more is written, not even the close_notify of TLS."""
        close_for_good(self._sock)
        self._unsent.clear()
        self._left = 0

    def sever(self) -> None:
        """End the connection in both directions, from any thread; the thread that uses it closes the socket."""
        end(self._sock)

    def __del__(self) -> None:
        """Close a connection that has become unreachable."""
        with contextlib.suppress(AttributeError):  # `__init__` was interrupted
            self._sock.close()
