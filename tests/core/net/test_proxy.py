"""The dialogue with a proxy, spoken by hand: octets split anywhere, every refusal, and a server that speaks at once."""

import base64
import contextlib
import errno
import select
import socket
import traceback

import pytest

from django_smtp_pool.core.net.connect import Dial
from django_smtp_pool.core.net.proxy import Tunnel
from django_smtp_pool.core.net.transport import Transport
from django_smtp_pool.core.options.host import Target
from django_smtp_pool.core.options.proxy_url import proxy_url
from django_smtp_pool.core.replies import ReplyParser
from django_smtp_pool.core.smtp.steps import Connect, Patience
from tests.clocks import ManualClock
from tests.core.fakes import until
from tests.core.troubles import trouble
from tests.mailing import backend_for, message
from tests.running import Channel, Run

NOW = 1000.0
SOCKS = "socks5://proxy.example:1080"
SOCKS_LOGIN = "socks5://ann:hidden@proxy.example:1080"
HTTP = "http://proxy.example:8080"
HTTP_LOGIN = "http://ann:hidden@proxy.example:8080"
BANNER = b"220 mail.example ESMTP\r\n"

ASKED = b"\x05\x01\x00\x03\x0cmail.example\x00\x19"  # RFC 1928 §4: CONNECT, a name, port 25
GRANTED = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x12\x34"
BASIC = base64.b64encode(b"ann:hidden")

# URL: pairs of what we say (its beginning and its end) and what the proxy says then
DIALOGUES = {
    SOCKS: [(b"\x05\x01\x00", b"\x05\x00"), (ASKED, GRANTED)],
    SOCKS_LOGIN: [
        (b"\x05\x02\x00\x02", b"\x05\x02"),
        (b"\x01\x03ann\x06hidden", b"\x01\x00"),
        (ASKED, b"\x05\x00\x00\x03\x09localhost\x12\x34"),
    ],
    HTTP: [(b"CONNECT mail.example:25 HTTP/1.1\r\n", b"HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\n")],
    HTTP_LOGIN: [(b"Proxy-Authorization: Basic " + BASIC + b"\r\n", b"HTTP/1.1 200 OK\r\n\r\n")],
}


@contextlib.contextmanager
def tunnel(url, host="mail.example"):
    """Yield the tunnel and the proxy's socket."""
    ours, proxys = socket.socketpair()
    ours.setblocking(False)
    proxys.setblocking(False)
    it = Tunnel(ours, proxy_url(url), host, 25, name="mail.example")
    try:
        yield it, proxys
    finally:
        it.close()
        proxys.close()
        assert ours.fileno() < 0


def said(proxys):
    with contextlib.suppress(BlockingIOError):
        return proxys.recv(4096)
    return b""


def failed(url, *answers, close=False):
    """Return what a tunnel says when a proxy has answered so; each answer follows something of ours."""
    with tunnel(url) as (it, proxys):
        for answer in answers:
            assert it.advance(NOW) is None
            assert said(proxys)
            proxys.send(answer)
        if close:
            assert it.advance(NOW) is None
            proxys.close()
        with trouble(OSError, r"could not connect to mail.example port 25 through the proxy ") as caught:
            it.advance(NOW)
    return caught.value


@pytest.mark.parametrize("url", DIALOGUES)
def test_what_is_said(url):
    with tunnel(url) as (it, proxys):
        for ours, answer in DIALOGUES[url]:
            assert it.advance(NOW) is None
            assert ours in said(proxys)
            proxys.send(answer)
        assert it.advance(NOW) is it._sock


@pytest.mark.parametrize("url", DIALOGUES)
def test_octet_by_octet(url):
    with tunnel(url) as (it, proxys):
        assert it.advance(NOW) is None
        for ours, answer in DIALOGUES[url]:
            assert ours in said(proxys)
            for octet in answer[:-1]:
                proxys.send(bytes([octet]))
                assert it.advance(NOW) is None
                assert said(proxys) == b""
            proxys.send(answer[-1:])
            last = it.advance(NOW)
        assert last is it._sock


@pytest.mark.parametrize("url", DIALOGUES)
def test_a_server_that_speaks_at_once_is_heard(url):
    """Its greeting comes in one segment with the proxy's last word: not an octet of it may be lost."""
    with tunnel(url) as (it, proxys):
        *others, (_, last) = DIALOGUES[url]
        for _, answer in others:
            assert it.advance(NOW) is None
            proxys.send(answer)
        assert it.advance(NOW) is None
        proxys.send(last + BANNER)
        channel = Channel(transport=Transport(it.advance(NOW)))
        assert ReplyParser().feed(channel.transport.receive())[0].code == 220


@pytest.mark.parametrize(
    ("code", "number", "is_final"),
    [
        (1, errno.ECONNABORTED, False),
        (2, errno.EACCES, True),
        (3, errno.ENETUNREACH, False),
        (4, errno.EHOSTUNREACH, False),
        (5, errno.ECONNREFUSED, True),
        (6, errno.ETIMEDOUT, False),
        (7, errno.EOPNOTSUPP, True),
        (8, errno.EAFNOSUPPORT, True),
    ],
)
def test_refusals_of_socks(code, number, is_final):
    error = failed(SOCKS, b"\x05\x00", bytes([5, code, 0, 1, 0, 0, 0, 0, 0, 0]))
    assert (error.errno, error.is_final) == (number, is_final)
    assert "through the proxy socks5://proxy.example:1080: " in str(error)


@pytest.mark.parametrize(
    ("status", "number", "is_final"),
    [
        ("400 Bad Request", errno.EPROTO, True),
        ("401 Unauthorized", errno.EACCES, True),
        ("403 Filtered", errno.EACCES, True),
        ("405 No", errno.EOPNOTSUPP, True),
        ("407 Proxy Authentication Required", errno.EACCES, True),
        ("429 Too Many", errno.ECONNABORTED, False),
        ("500 Unable to connect", errno.ECONNABORTED, False),
        ("502 Bad Gateway", errno.EHOSTUNREACH, False),
        ("503 Busy", errno.EHOSTUNREACH, False),
        ("504 Late", errno.ETIMEDOUT, False),
    ],
)
def test_refusals_of_http(status, number, is_final):
    error = failed(HTTP, f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno".encode())
    assert (error.errno, error.is_final) == (number, is_final)
    assert str(error).endswith(f"({status})")


@pytest.mark.parametrize(
    ("url", "answers", "text"),
    [
        (SOCKS, [b"\x05\xff"], "it requires a user and a password, which the URL does not have"),
        (SOCKS, [b"\x05\x02"], "it requires a user and a password, which the URL does not have"),
        (SOCKS_LOGIN, [b"\x05\x01"], "it requires a user and a password, which the URL does not have"),
        (SOCKS_LOGIN, [b"\x05\x02", b"\x01\x01"], "it refused the user and the password"),
    ],
)
def test_logins_that_are_refused(url, answers, text):
    error = failed(url, *answers)
    assert isinstance(error, PermissionError)
    assert error.is_final
    assert text in str(error)
    frames = traceback.StackSummary.extract(traceback.walk_tb(error.__traceback__), capture_locals=True)
    ours = [frame for frame in frames if "/core/net/proxy.py" in frame.filename]
    assert len(ours) > 1
    assert not any("hidden" in str(frame.locals) for frame in ours)
    assert "hidden" not in str(error)


@pytest.mark.parametrize(
    ("url", "answer"),
    [
        (SOCKS, BANNER),
        (SOCKS, b"HTTP/1.0 400 Bad Request\r\n\r\n"),
        (SOCKS, b"\x04\x00"),
        (HTTP, BANNER),
        (HTTP, b"\x05\xff"),
        (HTTP, b"HTTP/1.1 no\r\n\r\n"),
        (HTTP, b"HTTP/1.1\r\n\r\n"),
        (HTTP, b"HTTP/1.1 200 OK\r\n" + b"x" * 70000),
    ],
)
def test_what_is_no_such_proxy(url, answer):
    error = failed(url, answer)
    assert (error.errno, error.is_final) == (errno.EPROTO, True)
    kind = "HTTP" if url == HTTP else "SOCKS5"
    assert str(error).endswith(f"it does not speak {kind}: check scheme and port of the URL")


def test_an_answer_of_socks_that_makes_no_sense():
    assert failed(SOCKS, b"\x05\x00", b"\x05\x00\x00\x03\x01\xff\x00\x19").errno == errno.EPROTO
    assert failed(SOCKS, b"\x05\x00", b"\x05\x00\x00\x07").errno == errno.EPROTO


def test_a_proxy_that_hangs_up():
    error = failed(SOCKS, close=True)
    assert isinstance(error, ConnectionResetError)
    assert not error.is_final
    assert "without a reply: check scheme and port of the URL" in str(error)
    assert str(failed(SOCKS, b"\x05\x00", close=True)).endswith("it closed the connection")


def test_a_proxy_that_is_gone_before_we_speak():
    with tunnel(SOCKS) as (it, proxys):
        proxys.close()
        with trouble(ConnectionResetError, r"it closed the connection without a reply"):
            it.advance(NOW)


# The whole way: names, addresses, and several tries


def looking_up(**names):
    """Return a resolver that knows these names alone."""

    def look_up(host, port):
        try:
            found = names[host.partition(".")[0]]
        except KeyError:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
        return [(socket.AF_INET, (address, at or port)) for address, at in found]

    return look_up


class ScriptedProxy:
    """A listener that answers each connection by hand."""

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.opened = []
        return self

    def __exit__(self, *_):
        for each in (*self.opened, self.listener):
            each.close()

    def accept(self):
        """Return the next connection to the proxy."""
        sock, _ = self.listener.accept()
        self.opened.append(sock)
        return sock


def dial_through(proxy, scheme, host="mail.example"):
    url = proxy_url(f"{scheme}://proxy.example:{proxy.port}")
    names = looking_up(proxy=[("127.0.0.1", proxy.port)], mail=[("192.0.2.1", None), ("192.0.2.2", None)])
    return Dial(Target(host=host, port=25, proxy=url), names)


def until_ready(dial, sock):
    """Advance a dial until a socket of the proxy has something to read, or to accept."""
    until(lambda: dial.advance(NOW) or select.select([sock], [], [], 0)[0])


def until_said(dial, sock, size):
    """Advance a dial until the proxy has heard something; return that."""
    until_ready(dial, sock)
    return sock.recv(size)


def ended(dial):
    """Advance a dial to its end; return the transport."""
    until(lambda: dial.advance(NOW))
    return dial.advance(NOW)


def test_socks5_is_told_addresses_one_after_the_other():
    with ScriptedProxy() as proxy, contextlib.closing(dial_through(proxy, "socks5")) as dial:
        for last in (1, 2):
            until_ready(dial, proxy.listener)
            sock = proxy.accept()
            assert until_said(dial, sock, 3) == b"\x05\x01\x00"
            sock.send(b"\x05\x00")
            assert until_said(dial, sock, 100) == b"\x05\x01\x00\x01" + bytes([192, 0, 2, last]) + b"\x00\x19"
            sock.send(b"\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00" if last == 1 else GRANTED)
        ended(dial).close()


def test_what_the_last_address_said_is_told():
    with ScriptedProxy() as proxy, contextlib.closing(dial_through(proxy, "socks5")) as dial:
        for code in (4, 5):
            until_ready(dial, proxy.listener)
            sock = proxy.accept()
            until_said(dial, sock, 3)
            sock.send(b"\x05\x00")
            until_said(dial, sock, 100)
            sock.send(bytes([5, code, 0, 1, 0, 0, 0, 0, 0, 0]))
        with trouble(ConnectionRefusedError, r"mail.example \(192.0.2.2\) port 25 through the proxy"):
            ended(dial)


def test_a_proxy_that_does_not_want_us_is_asked_once():
    with ScriptedProxy() as proxy, contextlib.closing(dial_through(proxy, "socks5")) as dial:
        until_ready(dial, proxy.listener)
        sock = proxy.accept()
        until_said(dial, sock, 3)
        sock.send(b"\x05\xff")
        with trouble(PermissionError, r"it requires a user and a password"):
            ended(dial)


@pytest.mark.parametrize("scheme", ["socks5h", "http"])
def test_names_that_the_proxy_resolves_are_not_looked_up_here(scheme):
    with ScriptedProxy() as proxy, contextlib.closing(dial_through(proxy, scheme, host="bücher.example")) as dial:
        until_ready(dial, proxy.listener)
        sock = proxy.accept()
        if scheme == "socks5h":
            until_said(dial, sock, 3)
            sock.send(b"\x05\x00")
        assert b"xn--bcher-kva.example" in until_said(dial, sock, 1000)


def test_a_name_that_is_none():
    with ScriptedProxy() as proxy:
        with trouble(OSError, r"is not a host name") as caught:
            dial_through(proxy, "socks5h", host=f"{'x' * 64}.example")
        assert caught.value.is_final


def test_a_name_that_is_none_is_not_tried_twice():
    with ScriptedProxy() as proxy:
        proxy.host = "\u00fc" * 60 + ".example"  # more than 63 octets, once encoded
        mail = message()
        with pytest.raises(OSError, match=r"is not a host name"):
            backend_for(proxy, proxy=f"socks5h://127.0.0.1:{proxy.port}").send_messages([mail])
        assert mail.smtp_pool_status.attempts == 1


def test_a_name_that_nobody_knows():
    with ScriptedProxy() as proxy, contextlib.closing(dial_through(proxy, "socks5", host="other.example")) as dial:
        with trouble(socket.gaierror, r"could not resolve other.example") as caught:
            ended(dial)
        assert caught.value.is_final


def test_no_proxy_there():
    with ScriptedProxy() as proxy:
        dial = dial_through(proxy, "socks5h")
    text = r"could not connect to the proxy socks5h://proxy.example:\d+: "
    with contextlib.closing(dial), trouble(ConnectionRefusedError, text):
        ended(dial)


def test_a_proxy_that_is_silent_is_named_when_the_time_is_up():
    clock = ManualClock()
    with ScriptedProxy() as proxy:
        url = proxy_url(f"socks5://ann:hidden@127.0.0.1:{proxy.port}")

        def dialogue():
            yield Connect(target=Target(host="127.0.0.2", port=25, proxy=url))

        it = Run(dialogue(), Channel(), clock=clock, patience=dict.fromkeys(Patience, 30.0))
        it.start()
        sock = proxy.accept()
        until(lambda: it.advance() or "waiting" in it.life.gi_yieldfrom.gi_frame.f_locals["dial"].progress)
        clock.advance(30)
        it.advance()
        text = r"timed out after 30.0 s waiting for the proxy socks5://127.0.0.1:\d+ to connect to 127.0.0.2 port 25"
        with pytest.raises(TimeoutError, match=text):
            it.result()
        sock.settimeout(20)
        while sock.recv(100):  # what we said, and then the end: nothing is left open
            pass
