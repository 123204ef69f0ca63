"""The fault server where it misbehaves: every sin is what its name says, where and when it was told to."""

import smtplib
import threading

import pytest

from tests.servers import POINTS, Fault, FaultServer, RandomFaults, faults
from tests.servers.certificates import certificates
from tests.servers.client import ENVELOPE, OK, Client, greeted, sent


@pytest.fixture
def server():
    with FaultServer(chunking=True) as server:
        yield server


@pytest.fixture
def client(server):
    with greeted(server) as client:
        yield client


# The catalogue: what a client hears when it meets each at NOOP, and how that ends

SINS = {
    "hang": (b"", "silence"),
    "stall": (b"", "silence"),
    "reset": (b"", "rst"),
    "fin": (b"", "fin"),
    "vanish": (b"", "fin"),
    "notify": (b"", "fin"),
    "code_421": (b"421 4.3.0 fault.test Service not available, closing\r\n", "fin"),
    "code_4xx": (b"451 4.3.0 Error: queue file write error\r\n", "open"),
    "code_5xx": (b"554 5.7.1 Not this one\r\n", "open"),
    "garbage": (b"HTTP/1.1 400 Bad Request\r\n", "open"),
    "binary": (bytes(range(256)) + b"\r\n", "open"),
    "overlong": (b"250 2.0.0 Ok" + b"x" * 100_000 + b"\r\n", "open"),
    "endless": (b"250-and another thing\r\n" * 50_000, "more"),
    "torrent": (b"250\n" * 50_000, "more"),
    "unending": (b"250 " + b"x" * 100_000, "more"),
    "drip": (b"250-drip\r\n25", "more"),
    "differing_codes": (b"550-first this\r\n" + OK, "open"),
    "code_1xx": (b"150 About to\r\n", "open"),
    "code_2xx": (b"250 2.0.0 Fine\r\n", "open"),
    "code_3xx": (b"354 go on\r\n", "open"),
    "code_6xx": (b"650 6.0.0 Beyond\r\n", "open"),
    "empty_lines": (b"250-first\r\n\r\n" + OK, "open"),
    "nothing_but_empty": (b"\r\n", "open"),
    "truncated": (b"250", "fin"),
    "truncated_text": (b"250 2.0.0 Ok", "fin"),
    "truncated_multiline": (b"250-first\r\n", "fin"),
    "truncated_then_hang": (b"250 2.0.0 Ok", "silence"),
    "stray": (OK + b"250 2.0.0 And one more\r\n", "open"),
    "stray_421": (OK + b"421 4.4.2 fault.test closing\r\n", "fin"),
    "proper_then_reset": (OK, "rst"),
    "proper_then_hang": (OK, "silence"),
    "bare_code": (b"250\r\n", "open"),
    "chopped": (OK, "open"),
    "ticked": (OK, "open"),
    "wordy": (b"".join(b"250-line %d\r\n" % number for number in range(20)) + OK, "open"),
    "latin_1": (b"250 2.0.0 Ok Bon app\xe9tit\r\n", "open"),
    "early_552": (b"552 5.3.4 Error: message file too big\r\n", "fin"),
    "early_250": (b"250 2.0.0 Ok\r\n", "rst"),
}


def test_every_sin_is_tested_and_says_what_it_is():
    assert SINS.keys() == faults.CATALOGUE.keys()
    assert all(sin.__doc__.endswith(".") for sin in faults.CATALOGUE.values())


@pytest.mark.parametrize("name", SINS)
def test_sins_as_it_says(server, client, name):
    octets, end = SINS[name]
    server.fault = Fault(at="noop", do=faults.CATALOGUE[name])
    client.say("NOOP")
    assert server.wait_for(lambda: server.struck)
    server.tick(100)
    assert heard(client, len(octets)) == octets
    assert ENDS[end](server, client)


def heard(client, size):
    octets = b""
    while len(octets) < size and (more := client.sock.recv(size - len(octets))):
        octets += more
    return octets


def falls_silent(server, client):
    client.say("NOOP")
    return server.wait_for(lambda: server.hung == 1) and client.there() == b""


ENDS = {
    "silence": falls_silent,
    "rst": lambda server, client: client.rest() == (b"", "rst"),
    "fin": lambda server, client: client.rest() == (b"", "fin"),
    "open": lambda server, client: client.ask("NOOP").encode() == OK,
    "more": lambda server, client: client.sock.recv(1),
}


def test_gives_up_when_the_client_of_an_endless_reply_goes(server, client):
    server.fault = Fault(at="noop", do=faults.endless)
    client.say("NOOP")
    client.sock.recv(1)
    client.sock.close()
    assert server.wait_for(lambda: server.open_now == 0)


def test_injects_behind_starttls():
    with FaultServer(starttls=certificates().server_context()) as server, greeted(server) as client:
        server.fault = Fault(at="starttls", do=faults.stray)
        client.say("STARTTLS")
        assert heard(client, 48) == b"220 2.0.0 Ready to start TLS\r\n250 2.0.0 And one "


# Where and when


ANSWERS = [point for point in POINTS if point not in ("connect", "tls", "body", "after")]


@pytest.mark.parametrize("point", ANSWERS)
def test_hits_at_each_answer(point):
    with FaultServer(chunking=True, starttls=certificates().server_context()) as server:
        server.fault = Fault(at=point, do=faults.bare_code)
        with Client(server) as client:
            talk_about_everything(client)
        assert [strike.point for strike in server.struck] == [GENERAL.get(point, point)]
        assert len(server.accepted) == 2
        assert any(line.split("> ")[1].isdigit() for line in server.log if line.startswith("S"))


GENERAL = {"next": "mail", "bdat": "end"}  # what is written down names the point more generally


def talk_about_everything(client):
    client.hear()
    client.ask("EHLO x")
    client.secure()
    client.ask("HELO x", "EHLO x", "AUTH PLAIN", "AHVzZXIAc2VjcmV0", "NOOP", "XYZZY")
    sent(client)
    client.ask("RSET", *ENVELOPE[:2], "BDAT 2 LAST\r\n", "QUIT")


# smtplib loses the socket of a handshake that the server resets early, and Python closes it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("point", ["connect", "tls"])
def test_hits_before_the_banner(point):
    fault = Fault(at=point, do=faults.reset)
    with FaultServer(fault=fault, implicit_tls=certificates().server_context()) as server:
        with pytest.raises(ConnectionResetError):
            smtplib.SMTP_SSL("localhost", server.port, context=certificates().client_context(), timeout=10)
        assert [strike.point for strike in server.struck] == [point]


def test_hits_in_the_middle_of_data(server, client):
    server.fault = Fault(at="body", do=faults.early_552)
    client.ask(*ENVELOPE)
    client.sock.sendall(b"x" * 6_000_000)  # the server reads on, so that the client hears it out
    assert client.rest() == (b"552 5.3.4 Error: message file too big\r\n", "fin")
    assert server.accepted == []


def test_hits_in_the_middle_of_a_chunk(server, client):
    server.fault = Fault(at="body", do=faults.vanish)
    client.ask(*ENVELOPE[:2])
    client.say("BDAT 6000000 LAST")
    with pytest.raises(ConnectionError):
        client.sock.sendall(b"x" * 6_000_000)  # the server does not: RST
    assert server.accepted == []


def test_may_go_on_after_an_early_answer(server, client):
    server.body_after = 0
    server.fault = Fault(at="body", do=faults.code_4xx)
    client.ask(*ENVELOPE)
    assert client.hear()[:3] == "451"
    client.say(".", "NOOP")
    assert client.hear().encode() == OK
    assert server.accepted == []


def test_hits_right_after_acceptance(server, client):
    server.fault = Fault(at="after", do=faults.code_421)
    assert sent(client).startswith("250")
    assert client.rest() == (b"421 4.4.2 fault.test Error: timeout exceeded\r\n", "fin")
    assert len(server.accepted) == 1


def test_counts_chances(server, client):
    server.fault = [
        Fault(at=("noop", "rset"), do=faults.code_4xx, times=2, skip=1),
        Fault(at="noop", do=faults.code_5xx),
    ]
    codes = [client.ask(line)[:3] for line in ["NOOP", "RSET", "NOOP", "NOOP", "NOOP"]]
    assert codes == ["554", "451", "451", "250", "250"]


@pytest.mark.parametrize(("when", "codes"), [("fresh", ["451", "250"]), ("reused", ["250", "451"])])
def test_tells_fresh_from_reused(server, client, when, codes):
    server.fault = Fault(at="noop", do=faults.code_4xx, times=None, when=when)
    first = client.ask("NOOP")[:3]
    sent(client)
    assert [first, client.ask("NOOP")[:3]] == codes


def test_knows_no_other_points():
    with pytest.raises(ValueError, match="unknown point: finger"):
        Fault(at="finger", do=faults.reset)
    with pytest.raises(ValueError, match="fresh or reused"):
        Fault(at="mail", do=faults.reset, when="tuesday")


def test_draws_the_same_faults_for_the_same_seed():
    def codes(seed):
        with FaultServer() as server, greeted(server) as client:
            server.fault = RandomFaults(rate=0.5, seed=seed, points=["noop"], choices=[faults.code_4xx])
            return [client.ask("NOOP")[:3] for _ in range(30)]

    assert codes(1) == codes(1) != codes(2)
    assert set(codes(1)) == {"250", "451"}


# The truth


@pytest.mark.parametrize("do", [faults.ticked, faults.accepted_then(faults.hang)])
def test_writes_down_before_it_replies(server, client, do):
    server.fault = Fault(at="end", do=do)
    client.ask(*ENVELOPE)
    client.say(".")
    assert server.wait_for(lambda: server.accepted)
    assert client.there() == b""


@pytest.mark.parametrize(
    ("do", "accepted"),
    [
        (faults.reset, 0),
        (faults.accepted_then(faults.reset), 1),
        (faults.truncated, 1),
        (faults.refused_then(faults.truncated), 0),
        (faults.reply_and_close("452 4.3.1 full"), 0),
        (faults.reply("250 fine"), 1),
    ],
)
@pytest.mark.parametrize("command", ["DATA", "BDAT"])
def test_takes_or_drops_what_it_says(server, client, do, accepted, command):
    server.fault = Fault(at="end", do=do)
    client.ask(*ENVELOPE[:2])
    if command == "DATA":
        client.ask("DATA")
    client.say("." if command == "DATA" else "BDAT 0 LAST")
    assert server.wait_for(lambda: server.struck)
    client.sock.close()
    assert server.wait_for(lambda: server.open_now == 0)
    assert len(server.accepted) == accepted


def test_holds_at_a_gate_until_released(server):
    server.hold("MAIL")
    clients = [greeted(server) for _ in range(3)]
    for number, client in enumerate(clients, 1):
        client.say(ENVELOPE[0])
        assert server.wait_for(lambda number=number: server.held == number)
    server.release(1)
    assert clients[0].hear().startswith("250")
    assert (server.held, clients[1].there(), clients[2].there()) == (2, b"", b"")
    server.release()
    assert [client.hear()[:3] for client in clients[1:]] == ["250", "250"]
    assert (server.most_open, server.held) == (3, 0)
    for client in clients:
        client.sock.close()


@pytest.mark.parametrize(
    ("how", "end"),
    [
        ("fin", (b"", "fin")),
        ("notify", (b"", "fin")),
        ("rst", (b"", "rst")),
        ("421", (b"421 4.4.2 fault.test Error: timeout exceeded\r\n", "fin")),
    ],
)
def test_closes_idle_connections(server, client, how, end):
    with greeted(server) as busy:
        busy.ask(*ENVELOPE)
        assert server.close_idle(how) == 1
        assert client.rest() == end
        assert busy.ask(".").startswith("250")


def test_drops_idle_connections_silently_or_speaks_unasked(server, client):
    assert server.close_idle(faults.code_4xx) == 1
    assert client.there().startswith(b"451")
    assert client.ask("NOOP").encode() == OK
    assert server.close_idle("silent") == server.hung == 1
    client.say("NOOP")
    assert client.there() == b""


# The end


def test_stops_whatever_its_sessions_do():
    with FaultServer(starttls=certificates().server_context()) as server:
        server.hold("rset")
        clients = [greeted(server) for _ in range(8)]
        for client, do in zip(clients, ["hang", "stall", "fin", "drip", "endless", "ticked"], strict=False):
            server.fault = Fault(at="noop", do=faults.CATALOGUE[do])
            client.say("NOOP")
            assert server.wait_for(lambda do=do: any(strike.name == do for strike in server.struck))
        clients[6].say("RSET")
        clients[7].ask("STARTTLS")
        assert server.wait_for(lambda: server.held == 1)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fault-")]
    assert server.open_now == 0
    for client in clients:
        assert client.rest()
        client.sock.close()


def test_owns_up_to_its_own_mistakes():
    broken = faults.Misbehaviour(name="broken", act=lambda session, proper: 1 // 0)
    fault = Fault(at="banner", do=broken)
    with pytest.raises(ZeroDivisionError), FaultServer(fault=fault) as server, Client(server) as client:
        client.rest()
