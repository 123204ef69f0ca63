"""The transport over socket pairs: what has left, what has come, in clear and under TLS."""

import contextlib
import errno
import socket
import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_smtp_pool.core.net import sockets as net_sockets
from django_smtp_pool.core.net.transport import Transport
from django_smtp_pool.core.net.trouble import PeerClosed
from tests.core.fakes import until
from tests.core.troubles import trouble
from tests.servers.certificates import certificates

MUCH = 2**20


@contextlib.contextmanager
def pair(*, small=False):
    """Yield a transport and its peer's socket."""
    ours, peer = socket.socketpair()
    if small:
        for sock in (ours, peer):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    transport = Transport(ours)
    peer.setblocking(False)
    try:
        yield transport, peer
    finally:
        transport.close()
        peer.close()


@contextlib.contextmanager
def tcp_pair():
    """Yield a transport and its peer's socket, over TCP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        peer, _ = listener.accept()
    transport = Transport(ours)
    try:
        yield transport, peer
    finally:
        transport.close()
        peer.close()


def drained(peer):
    """Return all that lies in a socket."""
    octets = bytearray()
    with contextlib.suppress(BlockingIOError, ConnectionResetError):  # a reset: something of ours was unread
        while more := peer.recv(65536):
            octets += more
    return bytes(octets)


class TLSPeer:
    """The server's side of TLS, pumped by hand."""

    def __init__(self, sock, *, maximum=None):
        self.sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = certificates().server_context(maximum=maximum)
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def take(self):
        self._incoming.write(drained(self.sock))

    def give(self):
        self.sock.setblocking(True)
        self.sock.sendall(self._outgoing.read())
        self.sock.setblocking(False)

    def shake(self, *, say=b""):
        """Go on with the handshake; when it is complete, say something in the same write."""
        self.take()
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            self.give()
            return False
        if say:
            self.tls.write(say)
        self.give()
        return True

    def read(self):
        self.take()
        clear = bytearray()
        with contextlib.suppress(ssl.SSLWantReadError):
            while more := self.tls.read(65536):
                clear += more
        return bytes(clear)

    def write(self, octets):
        self.tls.write(octets)
        self.give()

    def say_farewell(self):
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.give()


@contextlib.contextmanager
def tls_pair(*, small=False, maximum=None, greeting=b""):
    """Yield a transport and its peer with TLS between them."""
    with pair() as (transport, sock):
        peer = TLSPeer(sock, maximum=maximum)
        context = certificates().client_context()
        done = {"ours": False, "peer": False}
        for _ in range(10):
            done["ours"] = done["ours"] or transport.shake_hands(context, "localhost")
            done["peer"] = done["peer"] or peer.shake(say=greeting)
            if all(done.values()):
                break
        assert all(done.values())
        if small:
            for each in (transport._sock, sock):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
                each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        yield transport, peer


PAIRS = pytest.mark.parametrize("make", [pair, tls_pair])


def reader(peer):
    return peer.read if isinstance(peer, TLSPeer) else lambda: drained(peer)


# Writing


@PAIRS
def test_what_was_put_arrives_in_order(make):
    with make() as (transport, peer):
        assert transport.put([b"a" * MUCH, b"", b"b" * 10, b"c" * MUCH]) == 2 * MUCH + 10
        heard = bytearray()
        while transport.wants_write:
            transport.flush()
            heard += reader(peer)()
        assert bytes(heard) == b"a" * MUCH + b"b" * 10 + b"c" * MUCH


@PAIRS
def test_small_pieces_leave_in_one_write(make):
    with make() as (transport, peer):
        transport.put([b"hello", b"world"])
        assert not transport.all_left
        transport.flush()
        assert transport.all_left
        assert reader(peer)() == b"helloworld"


@PAIRS
def test_all_has_left_exactly_when_the_kernel_has_the_last_octet(make):
    with make(small=True) as (transport, peer):
        content = bytes(range(256)) * 2048
        transport.put([content, b".\r\n"])
        heard, rounds = bytearray(), 0
        while not transport.all_left:
            transport.flush()
            assert transport.all_left == (not transport.wants_write)
            heard += reader(peer)()
            rounds += 1
        heard += reader(peer)()
        assert rounds > 1
        assert bytes(heard) == content + b".\r\n"


@settings(max_examples=30)
@given(st.lists(st.integers(0, 90_000), min_size=1, max_size=5), st.lists(st.integers(0, 40_000), max_size=200))
def test_all_left_is_exact_whatever_the_kernel_takes(sizes, takes):
    """No socket has taken the last octet while `all_left` is False, nor is it False once one has."""
    takes, taken = list(takes), [0]

    class Kernel:
        def send(self, view):
            count = min(len(view), takes.pop(0)) if takes else len(view)
            if not count:
                raise BlockingIOError(errno.EAGAIN, "not now")
            taken[0] += count
            return count

    with pair() as (transport, _):
        real, transport._sock = transport._sock, Kernel()
        size = transport.put([b"x" * each for each in sizes])
        while transport.wants_write:
            transport.flush()
            assert transport.all_left == (taken[0] == size)
        assert taken[0] == size
        transport._sock = real


@pytest.mark.parametrize("make", [pair, tls_pair])
def test_an_error_leaves_no_doubt_about_what_has_not_left(make):
    with make() as (transport, peer):
        (peer.sock if isinstance(peer, TLSPeer) else peer).close()
        transport.put([b"MAIL"])
        with trouble(OSError):
            transport.flush()
        assert not transport.all_left


@pytest.mark.parametrize("make", [pair, tls_pair])
def test_an_interrupt_in_the_last_send_leaves_the_doubt_standing(make):
    with make() as (transport, _):
        real = transport._sock

        class Interrupted:
            def send(self, view):
                real.send(view)
                raise KeyboardInterrupt

        transport._sock = Interrupted()
        transport.put([b".\r\n"])
        with pytest.raises(KeyboardInterrupt):
            transport.flush()
        assert transport.all_left
        transport._sock = real


def test_an_interrupt_before_the_last_send_leaves_none():
    with pair() as (transport, _):
        real = transport._sock

        class Interrupted:
            def send(self, view):
                raise KeyboardInterrupt

        transport._sock = Interrupted()
        transport.put([b"x" * MUCH, b".\r\n"])
        with pytest.raises(KeyboardInterrupt):
            transport.flush()
        assert not transport.all_left
        transport._sock = real


class Recording:
    """A socket that notes how it is called."""

    def __init__(self, real):
        self._real = real
        self.calls = []

    def __getattr__(self, name):
        return getattr(self._real, name)

    def send(self, data):
        self.calls.append(("send", len(data)))
        return self._real.send(data)

    def recv(self, size):
        self.calls.append(("recv", size))
        return self._real.recv(size)


def test_many_pieces_go_by_few_calls():
    pieces = [bytes([number % 256]) * 57 for number in range(5000)]
    with pair() as (transport, peer):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MUCH)
        real, transport._sock = transport._sock, Recording(transport._sock)
        assert transport.put(pieces) == 57 * 5000
        heard = b""
        while transport.wants_write:
            transport.flush()
            heard += drained(peer)
        assert heard + drained(peer) == b"".join(pieces)
        assert max(size for _, size in transport._sock.calls) == 131072, "joined, but not all at once"
        assert transport.all_left
        transport._sock = real


def test_many_pieces_under_tls_make_full_records():
    pieces = [bytes([number % 256]) * 57 for number in range(5000)]
    with tls_pair() as (transport, peer):
        transport.put(pieces)
        taken = 0
        heard = b""
        while transport.wants_write:
            taken += transport.flush()
            heard += peer.read()
        assert heard + peer.read() == b"".join(pieces)
        assert taken < 57 * 5000 * 1.01  # not a record for each piece
        assert transport.all_left


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=3000), st.lists(st.integers(0, 200_000), max_size=50))
@settings(max_examples=20)
def test_no_octet_of_many_pieces_is_lost_or_doubled(sizes, takes):
    takes, heard = list(takes), bytearray()

    class Kernel:
        def send(self, view):
            count = min(len(view), takes.pop(0)) if takes else len(view)
            if not count:
                raise BlockingIOError(errno.EAGAIN, "not now")
            heard.extend(bytes(view)[:count])
            return count

    said = b"".join(bytes([number % 251]) * size for number, size in enumerate(sizes))
    with pair() as (transport, _):
        real, transport._sock = transport._sock, Kernel()
        transport.put([bytes([number % 251]) * size for number, size in enumerate(sizes)] * 3)
        while transport.wants_write:
            transport.flush()
            assert transport.all_left == (len(heard) == 3 * len(said))
        assert bytes(heard) == said * 3
        transport._sock = real


@PAIRS
def test_a_burst_of_replies_takes_one_call(make):
    with make() as (transport, peer):
        getattr(peer, "write", getattr(peer, "send", None))(b"250 one\r\n250 two\r\n354 three\r\n")
        real, transport._sock = transport._sock, Recording(transport._sock)
        assert transport.receive() == b"250 one\r\n250 two\r\n354 three\r\n"
        assert transport._sock.calls == [("recv", 8192)]
        transport._sock = real


def test_nothing_to_say_has_all_left():
    with pair() as (transport, _):
        assert transport.all_left
        transport.put([b"", b""])
        assert transport.all_left
        assert transport.flush() == 0


# Reading


@PAIRS
def test_what_arrives_is_received(make):
    with make() as (transport, peer):
        assert transport.receive() == b""
        getattr(peer, "write", getattr(peer, "send", None))(b"250 ok\r\n")
        assert transport.receive() == b"250 ok\r\n"


@PAIRS
def test_what_was_said_before_the_end_is_heard_before_the_end(make):
    with make() as (transport, peer):
        getattr(peer, "write", getattr(peer, "send", None))(b"250 ok\r\n")
        (peer.sock if isinstance(peer, TLSPeer) else peer).close()
        assert transport.receive() == b"250 ok\r\n"
        with pytest.raises(PeerClosed):
            transport.receive()


def test_what_was_said_before_a_reset_is_heard_before_the_reset():
    with tcp_pair() as (transport, peer):
        peer.sendall(b"250 ok\r\n")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        until(lambda: reset_arrived(transport))
        assert transport.receive() == b"250 ok\r\n"
        with trouble(ConnectionResetError):
            transport.receive()


def reset_arrived(transport):
    import select

    poll = select.poll()
    poll.register(transport.fileno(), 0)
    return bool(poll.poll(0))


def test_what_was_said_before_a_farewell_of_tls_is_heard_and_then_the_end():
    with tls_pair() as (transport, peer):
        peer.write(b"250 ok\r\n")
        peer.say_farewell()
        assert transport.receive() == b"250 ok\r\n"
        with pytest.raises(PeerClosed):
            transport.receive()
        assert not transport.is_quiet()


@pytest.mark.parametrize("maximum", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_what_comes_with_the_end_of_the_handshake_is_heard(maximum):
    """A greeting behind implicit TLS may lie in the same segment as the server's last word of the handshake."""
    with tls_pair(maximum=maximum, greeting=b"220 hi\r\n") as (transport, _):
        assert transport.receive() == b"220 hi\r\n"


def test_garbage_under_tls_is_an_error():
    with tls_pair() as (transport, peer):
        peer.sock.send(b"250 this is no record\r\n")
        with trouble(ssl.SSLError):
            transport.receive()


def test_no_more_is_read_at_once_than_a_little():
    with pair() as (transport, peer):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MUCH)
        with contextlib.suppress(BlockingIOError):
            while True:
                peer.send(b"x" * 65536)
        assert len(transport.receive()) <= 2 * 65536


@pytest.mark.parametrize("context", ["unknown", "wrong_host", "expired"])
def test_a_bad_certificate_ends_the_handshake(context):
    with pair() as (transport, sock):
        peer = TLSPeer(sock)
        peer.tls = certificates().server_context(context).wrap_bio(peer._incoming, peer._outgoing, server_side=True)
        with trouble(ssl.SSLCertVerificationError):
            shaken(transport, peer)


def shaken(transport, peer):
    context = certificates().client_context()
    for _ in range(10):
        transport.shake_hands(context, "localhost")
        peer.shake()


# Silence


@PAIRS
def test_a_silent_peer_is_quiet(make):
    with make() as (transport, _):
        assert transport.is_quiet()


@PAIRS
def test_a_peer_that_spoke_or_left_is_not_quiet(make):
    with make() as (transport, peer):
        getattr(peer, "write", getattr(peer, "send", None))(b"421 bye\r\n")
        assert not transport.is_quiet()
    with make() as (transport, peer):
        (peer.sock if isinstance(peer, TLSPeer) else peer).close()
        assert not transport.is_quiet()


def test_tcp_is_told_not_to_wait_for_more():
    with tcp_pair() as (transport, _):
        assert transport._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert transport._sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


# Ends


@PAIRS
def test_closing_says_nothing(make):
    with make() as (transport, peer):
        sock = peer.sock if isinstance(peer, TLSPeer) else peer
        drained(sock)
        transport.put([b"half a mess"])
        transport.close()
        assert drained(sock) == b""


def test_open_sockets_are_tracked_until_closed():
    with pair() as (transport, _):
        assert transport._sock in net_sockets._sockets.values()
        transport.close()
        assert transport._sock not in net_sockets._sockets.values()
