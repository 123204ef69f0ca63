"""The fault server where it does not misbehave: it is right, and it tells the truth."""

import base64
import hashlib
import hmac
import smtplib
import socket
import ssl
import sys

import pytest

from tests.servers import Fault, FaultServer, faults
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


# Where it does not misbehave


def test_delivers_and_writes_down_what_it_took(server, client):
    client.ask("MAIL FROM:<a@example.com> BODY=8BITMIME", "RCPT TO:<b@example.com>", 'RCPT TO:<"c>"@example.com>')
    client.ask("DATA")
    assert client.ask("..dot\r\n..\r\n\r\nend\r\n.") == "250 2.0.0 Ok: queued as Q000001\r\n"
    (message,) = server.accepted
    assert message.sender == "a@example.com"
    assert message.recipients == ("b@example.com", '"c>"@example.com')
    assert message.content == b".dot\r\n.\r\n\r\nend\r\n"
    assert (message.parameters, message.connection, message.tls) == (("BODY=8BITMIME",), 1, False)
    assert server.commands("RCPT") == [(1, "RCPT TO:<b@example.com>"), (1, 'RCPT TO:<"c>"@example.com>')]
    assert "C1> <16 octets>" in server.log


def test_takes_an_empty_message(server, client):
    client.ask(*ENVELOPE)
    assert client.ask(".").startswith("250")
    assert server.accepted[0].content == b""


def test_takes_pipelined_groups(server, client):
    client.say("RSET", *ENVELOPE)
    assert [client.hear()[:3] for _ in range(4)] == ["250", "250", "250", "354"]
    client.say("body", ".", *ENVELOPE)
    assert [client.hear()[:3] for _ in range(4)] == ["250", "250", "250", "354"]


@pytest.mark.parametrize("early", ["DATA\r\nbody", "NOOP\r\nNOOP", "EHLO x\r\nNOOP"])
def test_hangs_up_on_what_may_not_be_pipelined(client, early):
    client.ask(*ENVELOPE[:2])
    client.say(early)
    assert client.rest() == (b"554 5.5.0 SMTP synchronization error\r\n", "fin")


def test_hangs_up_on_pipelining_that_was_not_offered():
    with FaultServer(pipelining=False) as server, greeted(server) as client:
        client.say(*ENVELOPE)
        assert client.rest()[0].startswith(b"554 5.5.0")


def test_takes_chunks(server, client):
    client.ask(*ENVELOPE[:2])
    assert client.ask("BDAT 4\r\n.\r").startswith("250 2.0.0 4 octets")
    client.say("BDAT 3 LAST")
    client.sock.sendall(b"..\n")
    assert client.hear().startswith("250 2.0.0 Ok: queued")
    assert server.accepted[0].content == b".\r\r\n..\n"


def test_wants_rset_after_a_refused_chunk(server, client):
    server.fault = Fault(at="bdat", do=faults.code_4xx)
    client.ask(*ENVELOPE[:2])
    assert client.ask("BDAT 2 LAST\r\n").startswith("451")
    assert client.ask("BDAT 2 LAST\r\n").startswith("503")
    assert client.ask("RSET", *ENVELOPE[:2], "BDAT 2 LAST\r\n").startswith("250")
    assert len(server.accepted) == 1


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("DATA", "503"),
        ("BDAT 0 LAST", "503"),
        ("RCPT TO:<a@example.com>", "503"),
        ("MAIL FROM: <a@example.com>", "501"),
        ("MAIL FROM:<a@example.com> RET=FULL", "555"),
        ("MAIL FROM:<a@example.com> SIZE=99999999", "552"),
        ("MAIL FROM:<ä@example.com>", "553"),
        ("MAIL FROM:<ä@example.com> SMTPUTF8", "250"),
        ("MAIL FROM:<>", "250"),
        ("AUTH NTLM", "504"),
        ("AUTH PLAIN !", "501"),
        ("STARTTLS", "503"),
        ("NO\nOP", "500"),
        ("XYZZY", "500"),
        ("HELO client.test", "250"),
        ("QUIT", "221"),
    ],
)
def test_answers_commands(client, line, code):
    assert client.ask(line)[:3] == code


def test_wants_ehlo_first(server):
    with Client(server) as client:
        client.hear()
        assert client.ask("MAIL FROM:<a@example.com>")[:3] == "503"


@pytest.mark.parametrize(("lenient", "code"), [(False, "554"), (True, "354")])
def test_refuses_recipients(server, client, lenient, code):
    server.lenient_data = lenient
    server.refuse_recipients = {"b@example.com": "550 5.1.1 unknown user"}
    assert client.ask(*ENVELOPE[:2]) == "550 5.1.1 unknown user\r\n"
    assert client.ask("DATA")[:3] == code
    assert client.ask(".")[:3] == ("554" if lenient else "500")
    assert server.accepted == []


def test_demands_what_it_is_told_to(server, client):
    server.require_auth = True
    assert client.ask(ENVELOPE[0])[:3] == "530"
    server.max_messages = 1
    client.ask("AUTH PLAIN AHVzZXIAc2VjcmV0")
    assert sent(client)[:3] == "250"
    assert server.accepted[0].user == "user"
    assert client.ask(ENVELOPE[0])[:3] == "421"
    assert client.rest() == (b"", "fin")


def test_greets_the_one_too_many_with_421(server, client):
    server.max_connections = 1
    with Client(server) as another:
        assert another.rest()[0].startswith(b"421")
    client.sock.close()
    with Client(server) as another:  # the first is gone, whether or not its thread has noticed
        assert another.hear().startswith("220")
    assert (server.connections, server.most_open) == (3, 2)
    assert server.wait_for(lambda: server.open_now == 0)


@pytest.mark.skipif(sys.platform != "linux", reason="two sockets may share a port there")
def test_keeps_its_port_while_it_refuses_connections(server):
    server.refuse()
    with socket.socket() as another, pytest.raises(OSError, match="in use"):
        another.bind((server.host, server.port))
    server.listen()


def test_announces_what_it_is_told_to(server, client):
    server.advertise = ["LIMITS MAILMAX=3", "CHUNKING"]
    assert client.ask("EHLO x") == "250-fault.test\r\n250-LIMITS MAILMAX=3\r\n250 CHUNKING\r\n"


def test_refuses_connections_and_admits_them_again(server, client):
    server.refuse()
    with pytest.raises(ConnectionRefusedError):
        Client(server)
    server.listen()
    with Client(server) as another:
        assert another.hear().startswith("220")
    assert client.ask("NOOP").encode() == OK


# TLS and AUTH


def test_forgets_everything_at_starttls():
    with FaultServer(starttls=certificates().server_context(), require_tls=True) as server:
        with greeted(server) as client:
            assert "AUTH" not in client.ask("EHLO x")
            assert client.ask(ENVELOPE[0])[:3] == "530"
            client.secure()
            assert client.ask(ENVELOPE[0])[:3] == "503"
            assert "AUTH" in client.ask("EHLO x")
            sent(client)
        assert server.accepted[0].tls


def test_speaks_tls_from_the_start():
    with FaultServer(implicit_tls=certificates().server_context(client_required=True)) as server:
        context = certificates().client_context()
        certificates().client.configure_cert(context)
        with smtplib.SMTP_SSL("localhost", server.port, context=context, timeout=10) as client:
            client.sendmail("a@example.com", ["b@example.com"], "x" * 3_000_000)
        assert len(server.accepted[0].content) == 3_000_002


@pytest.mark.parametrize(
    ("name", "reason"), [("wrong_host", "mismatch"), ("expired", "expired"), ("unknown", "local issuer")]
)
def test_shows_bad_certificates(name, reason):
    with FaultServer(implicit_tls=certificates().server_context(name)) as server:
        with pytest.raises(ssl.SSLCertVerificationError, match=reason):
            smtplib.SMTP_SSL("localhost", server.port, context=certificates().client_context(), timeout=10)
        assert server.wait_for(lambda: server.open_now == 0)


def test_writes_certificates(tmp_path):
    context = ssl.create_default_context(cafile=certificates().write_authority(tmp_path))
    context.load_cert_chain(*certificates().write_client(tmp_path))
    assert context.get_ca_certs()


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_authenticates(mechanism):
    with FaultServer(auth=(mechanism,)) as server:
        with smtplib.SMTP(server.host, server.port, timeout=10) as client:
            with pytest.raises(smtplib.SMTPAuthenticationError, match="535"):
                client.login("user", "wrong")
            assert client.login("user", "secret")[0] == 235
            client.sendmail("a@example.com", ["b@example.com"], "x")
        assert server.accepted[0].user == "user"


@pytest.mark.parametrize(("token", "code"), [("secret", "235"), ("stale", "535")])
@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
def test_takes_tokens(server, client, mechanism, token, code):
    server.auth = (mechanism,)
    identity = "user=user" if mechanism == "XOAUTH2" else "n,a=user,"
    response = f"{identity}\1auth=Bearer {token}\1\1".encode()
    reply = client.ask(f"AUTH {mechanism} {base64.b64encode(response).decode()}")
    if code == "535":
        assert base64.b64decode(reply[4:]).startswith(b'{"status": "400"')
        reply = client.ask("")
    assert reply[:3] == code


@pytest.mark.parametrize(("password", "code"), [("secret", "235"), ("wrong", "535")])
def test_takes_scram(server, client, password, code):
    server.auth = ("SCRAM-SHA-256",)
    first = client.ask("AUTH SCRAM-SHA-256", encoded("n,,n=user,r=abc"))
    challenge = base64.b64decode(first[4:]).decode()
    nonce, salt, _ = (field[2:] for field in challenge.split(","))
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), 4096)
    key = hmac.digest(salted, b"Client Key", "sha256")
    signed = f"n=user,r=abc,{challenge},c=biws,r={nonce}".encode()
    signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True))).decode()
    reply = client.ask(encoded(f"c=biws,r={nonce},p={proof}"))
    if code == "235":
        expected = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256")
        assert base64.b64decode(reply[4:]) == b"v=" + base64.b64encode(expected)
        reply = client.ask("")
    assert reply[:3] == code


def encoded(text):
    return base64.b64encode(text.encode()).decode()
