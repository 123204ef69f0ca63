"""Logins by SCRAM and by client certificate, as a mailer has them: by the pool, with faults in the middle."""

import base64
import contextlib
import smtplib
import traceback

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_smtp_pool.core.errors import AuthRefused, NotOffered, ProtocolError
from django_smtp_pool.core.options import extras
from tests.borrowing import borrow
from tests.clocks import LeapingClock, ServersClock
from tests.mailing import backend_for, message
from tests.servers import Fault, FaultServer, faults
from tests.servers.certificates import certificates

EVERY = ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"]
WHO = {"username": "user", "password": "secret"}


def mechanisms(server):
    """Return the mechanisms of the logins that were tried, in order."""
    return [line.split()[1] for _, line in server.commands("AUTH")]


@pytest.fixture(name="server")
def fixture_server():
    """A server with every mechanism of passwords, which wants a login."""
    with FaultServer(auth=EVERY, users={"user": "secret"}, require_auth=True) as server:
        yield server


# SCRAM


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-1"])
@pytest.mark.parametrize(
    ("username", "password"),
    [("user", "secret"), ("a,b=c@example.com", "x,p=y=z"), ("jürgen@example.com", "grün €")],
)
def test_a_proof_logs_in(server, mechanism, username, password):
    server.users = {username: password}
    server.auth = ["PLAIN", "CRAM-MD5", mechanism]
    assert backend_for(server, username=username, password=password).send_messages([message()]) == 1
    assert server.accepted[0].user == username
    assert mechanisms(server) == [mechanism]


@pytest.mark.parametrize("method", ["SCRAM-SHA-1", "scram-sha-256", "CRAM-MD5", "PLAIN"])
def test_the_method_asked_for_is_used(server, method):
    assert backend_for(server, **WHO, auth_method=method).send_messages([message()]) == 1
    assert mechanisms(server) == [method.upper()]


def test_a_wrong_password_is_refused_twice_at_most(server):
    backend = backend_for(server, username="user", password="wrong")
    for number in range(3):
        with pytest.raises(smtplib.SMTPAuthenticationError, match="535"):
            backend.send_messages([message(number)])
    assert mechanisms(server) == ["SCRAM-SHA-256", "PLAIN"]  # and then nobody tries for a while


def test_a_wrong_password_that_is_not_to_be_sent_is_refused_once(server):
    backend = backend_for(server, username="user", password="wrong", auth_method="SCRAM-SHA-256")
    with pytest.raises(smtplib.SMTPAuthenticationError, match="535"):
        backend.send_messages([message()])
    assert mechanisms(server) == ["SCRAM-SHA-256"]


def test_a_server_that_keeps_hashes_refuses_one_proof_of_a_pool(server):
    """Every connection would count as a refused login else."""
    server.fault = Fault(at="auth", do=faults.reply("535 5.7.8 Error: authentication failed"))
    backend = backend_for(server, **WHO, max_messages=1)
    for number in range(4):
        assert backend.send_messages([message(number)]) == 1
    assert mechanisms(server) == ["SCRAM-SHA-256", *["PLAIN"] * 4]


LIES = {
    "another signature": (1, faults.challenge(lambda _: b"v=" + base64.b64encode(bytes(32)))),
    "a signature changed": (1, faults.challenge(lambda said: said.swapcase())),
    "no signature": (1, faults.reply("235 2.7.0 Authentication successful")),
    "no question": (0, faults.reply("235 2.7.0 Authentication successful")),
    "an empty signature": (1, faults.reply("334 ")),
    "another nonce": (0, faults.challenge(lambda said: said.replace(b"r=", b"r=x"))),
    "ten million iterations": (0, faults.challenge(lambda said: said.replace(b"i=4096", b"i=10000000"))),
    "one iteration": (0, faults.challenge(lambda said: said.replace(b"i=4096", b"i=1"))),
    "octets": (0, faults.challenge(lambda _: bytes(range(256)))),
}


@pytest.mark.parametrize(("skip", "lie"), LIES.values(), ids=LIES)
def test_a_server_that_does_not_prove_itself_gets_no_mail_and_no_password(server, skip, lie):
    server.fault = Fault(at="challenge", skip=skip, do=lie)
    mail = message()
    with pytest.raises(ProtocolError) as caught:
        backend_for(server, **WHO).send_messages([mail])
    assert isinstance(caught.value, smtplib.SMTPServerDisconnected)
    assert mail.smtp_pool_status.outcome == "not_sent"
    assert server.wait_for(lambda: server.open_now == 0)
    assert mechanisms(server) == ["SCRAM-SHA-256"]
    assert (server.accepted, server.connections) == ([], 1)


@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize(
    "sin", [faults.reset, faults.fin, faults.vanish, faults.code_421, faults.garbage, faults.stray]
)
def test_a_connection_lost_in_the_middle_is_another_try(server, skip, sin):
    server.fault = Fault(at="challenge", skip=skip, do=sin)
    assert backend_for(server, **WHO).send_messages([message()]) == 1
    assert [each.point for each in server.struck] == ["challenge"]
    assert len(server.accepted) == 1
    assert set(mechanisms(server)) == {"SCRAM-SHA-256"}


def test_a_challenge_that_is_no_base64_is_not_answered(server):
    server.fault = Fault(at="challenge", do=faults.reply("334 not base64!"), times=None)
    with pytest.raises(AuthRefused, match="501"):
        backend_for(server, **WHO, auth_method="SCRAM-SHA-256").send_messages([message()])
    assert not server.accepted


def test_without_the_extra_the_next_mechanism_is_taken(server, monkeypatch):
    monkeypatch.setitem(extras.EXTRAS, "scram", ("no_such_library",))
    assert backend_for(server, **WHO).send_messages([message()]) == 1
    assert mechanisms(server) == ["CRAM-MD5"]


def test_without_the_extra_scram_cannot_be_asked_for(server, monkeypatch):
    monkeypatch.setitem(extras.EXTRAS, "scram", ("no_such_library",))
    with pytest.raises(ImproperlyConfigured, match=r"auth_method SCRAM-SHA-256 needs .*'django-smtp-pool\[scram\]'"):
        backend_for(server, **WHO, auth_method="SCRAM-SHA-256")
    assert server.connections == 0


# Client certificates


@pytest.fixture(params=["starttls", "implicit_tls"])
def secure(request):
    """A server that wants a client certificate and a login, by either way of TLS."""
    context = certificates().server_context(client_required=True)
    with FaultServer(auth=["PLAIN", "EXTERNAL"], require_auth=True, **{request.param: context}) as server:
        yield server


@pytest.fixture
def certified(secure, tmp_path):
    """Options with a client certificate and no password."""
    certificate, key = certificates().write_client(tmp_path)
    return {
        "host": "localhost",
        "use_tls": secure.starttls is not None,
        "use_ssl": secure.implicit_tls is not None,
        "tls_options": {"ca_file": str(certificates().write_authority(tmp_path))},
        "ssl_certfile": str(certificate),
        "ssl_keyfile": str(key),
    }


@pytest.mark.parametrize("method", [None, "EXTERNAL"])
@pytest.mark.parametrize(("username", "user"), [(None, "the certificate's own"), ("user", "user")])
def test_a_certificate_logs_in(secure, certified, method, username, user):
    backend = backend_for(secure, **certified, username=username, auth_method=method)
    assert backend.send_messages([message()]) == 1
    assert secure.accepted[0].user == user
    identity = base64.b64encode((username or "").encode()).decode() or "="
    assert [line for _, line in secure.commands("AUTH")] == [f"AUTH EXTERNAL {identity}"]


def test_a_certificate_that_is_let_in_without_login(secure, certified):
    secure.auth, secure.require_auth = ["PLAIN"], False
    assert backend_for(secure, **certified).send_messages([message()]) == 1
    assert mechanisms(secure) == []


def test_a_login_that_is_asked_for_and_not_offered_is_an_error(secure, certified):
    secure.auth, secure.require_auth = ["PLAIN"], False
    with pytest.raises(NotOffered, match="can only be used with EXTERNAL"):
        backend_for(secure, **certified, auth_method="EXTERNAL").send_messages([message()])
    assert (mechanisms(secure), secure.accepted, secure.connections) == ([], [], 1)


def test_a_refused_certificate_is_not_shown_again_and_again(secure, certified):
    backend = backend_for(secure, **certified, username="nobody")
    for number in range(3):
        with pytest.raises(smtplib.SMTPAuthenticationError, match="535"):
            backend.send_messages([message(number)])
    assert mechanisms(secure) == ["EXTERNAL"]


@pytest.mark.parametrize(("method", "used"), [(None, "PLAIN"), ("EXTERNAL", "EXTERNAL")])
def test_a_password_beside_the_certificate(secure, certified, method, used):
    assert backend_for(secure, **certified, **WHO, auth_method=method).send_messages([message()]) == 1
    assert mechanisms(secure) == [used]


def test_a_name_with_a_line_end_is_no_command(server):
    with pytest.raises(ImproperlyConfigured, match="username must not contain control characters"):
        backend_for(server, username="user\r\nRSET", ssl_certfile="c.pem", use_tls=True, auth_method="EXTERNAL")


def echo(session, proper):
    """Refuse a login, and repeat what was said, and what it means."""
    said = session.server.commands("AUTH")[-1][1].split()[-1]
    meant = base64.b64decode(said).decode().replace("\0", " ").replace("\1", " ")
    session.say(f"535-5.7.8 {said} is wrong\r\n535 5.7.8 {meant}: no such user")
    return 535


@pytest.mark.parametrize(
    "login",
    [
        {"password": "hunter2hunter2", "auth_method": "PLAIN"},
        {"oauth2_token": "hunter2hunter2", "auth_method": "XOAUTH2"},
    ],
)
def test_a_server_that_repeats_the_secret_tells_nobody(caplog, login):
    caplog.set_level("DEBUG", "django_smtp_pool")
    sin = faults.Misbehaviour(name="echo", act=echo, accepts=False)
    with FaultServer(
        users={"user": "hunter2hunter2"}, fault=Fault(at="auth", do=sin, times=None), auth=("PLAIN", "XOAUTH2")
    ) as server:
        with pytest.raises(AuthRefused) as caught:
            backend_for(server, username="user", debug=True, **login).send_messages([message()])
        said = server.commands("AUTH")[-1][1].split()[-1]
    shown = "".join(traceback.format_exception(caught.value))
    for text in (shown, caplog.text, str(caught.value.reply), str(caught.value.smtp_error)):
        assert "hunter2" not in text
        assert said.rstrip("=") not in text
        assert "no such user" in text


def echo_with(beginning, *, challenge=False):
    """Return a misbehaviour: repeat what was said at the last AUTH, after a beginning of a reply."""

    def act(session, proper):
        said = session.server.commands("AUTH")[-1][1].split()[-1]
        meant = base64.b64decode(said).decode().replace("\0", " ").replace("\1", " ")
        text = f"{said} {meant}"
        session.say(beginning + (base64.b64encode(f'{{"status": "{text}"}}'.encode()).decode() if challenge else text))
        return int(beginning[:3]) if beginning[:3].isdigit() else 0

    return faults.Misbehaviour(name=f"echo with {beginning}", act=act, accepts=False)


ECHOES = {
    "it is let in": ("auth", echo_with("235 2.7.0 ")),
    "for now": ("auth", echo_with("454 4.7.0 ")),
    "and ends": ("auth", echo_with("421 4.7.0 ")),
    "with another code": ("auth", echo_with("354 ")),
    "as no reply": ("auth", echo_with("wrong: ")),
    "as no reply, cut in the middle": ("auth", echo_with("x" * 75)),
    "in the explanation": ("challenge", echo_with("334 ", challenge=True)),
    "after the explanation": ("auth", echo_with("535 5.7.8 ")),
    "as another challenge": ("auth", echo_with("334 ")),
    "at MAIL": ("mail", echo_with("550 5.7.1 sent by ")),
}


@pytest.mark.parametrize("name", ECHOES)
@pytest.mark.parametrize("mechanism", ["PLAIN", "XOAUTH2", "OAUTHBEARER"])
def test_no_reply_shows_the_secret_whenever_it_comes(caplog, mechanism, name):
    caplog.set_level("DEBUG", "django_smtp_pool")
    at, sin = ECHOES[name]
    secret = "hunter2hunter2"
    login = {"password": secret} if mechanism == "PLAIN" else {"oauth2_token": secret}
    # Where the secret is wrong, tokens are refused by a challenge first.
    users = {"user": secret if name in {"it is let in", "at MAIL"} else "another"}
    with FaultServer(users=users, fault=Fault(at=at, do=sin, times=None), auth=[mechanism]) as server:
        backend = backend_for(server, username="user", debug=True, auth_method=mechanism, max_requeues=0, **login)
        error = None
        try:
            backend.send_messages([message()])
        except smtplib.SMTPException as caught:
            error = caught
        said = server.commands("AUTH")[-1][1].split()[-1]
        told = repr(backend.pool.stats())
    assert (error is None) == (name == "it is let in")
    shown = "".join(traceback.format_exception(error)) if error else ""
    for text in (shown, repr(vars(error) if error else ""), repr(error), caplog.text, told):
        assert "hunter2" not in text
        assert said.rstrip("=")[:30] not in text


# How often a login is tried


@pytest.mark.parametrize("way", ["one-by-one", "batch"])
@pytest.mark.parametrize(
    "auth", [["PLAIN"], ["CRAM-MD5"], ["CRAM-MD5", "PLAIN"], ["SCRAM-SHA-256", "PLAIN"]], ids="+".join
)
@pytest.mark.parametrize(
    "sin",
    [
        *(faults.reply_and_close(f"{code} no") for code in (535, 501, 504)),
        faults.reset, faults.fin, faults.notify, faults.garbage,
    ],
    ids=lambda sin: sin.name,
)  # fmt: skip
def test_a_server_that_hangs_up_costs_two_logins_at_most(mailer, way, auth, sin):
    with FaultServer(auth=auth, users={"user": "secret"}, fault=Fault(at="auth", do=sin, times=None)) as server:
        backend = mailer(server, clock=ServersClock(server), **WHO)
        mails = [message(1)] if way == "one-by-one" else [message(1), message(2)]
        with pytest.raises(smtplib.SMTPException) as caught:
            backend.send_messages(mails)
        told = [mail.smtp_pool_status.outcome for mail in mails if mail.smtp_pool_status is not None]
        assert set(told) == {"not_sent"}
        said = sin.name.removeprefix("reply ")[:3]
        if said.isdigit():
            assert isinstance(caught.value, AuthRefused)
            assert caught.value.smtp_code == int(said)
        assert 1 <= len(server.commands("AUTH")) <= 2 * len(mails)


@pytest.mark.parametrize("ending", [faults.reset, faults.reply_and_close("535 5.7.8 no")], ids=lambda sin: sin.name)
def test_a_refused_token_is_what_is_raised_where_its_successor_is_hung_up_on(mailer, ending):
    tokens = iter(["first", "second", "third", "fourth"])
    with FaultServer(auth=["XOAUTH2"], users={"user": "none"}) as server:
        server.fault = Fault(at="auth", do=ending, times=None, skip=1)
        backend = mailer(server, clock=ServersClock(server), username="user", oauth2_generator=lambda *_: next(tokens))
        with pytest.raises(AuthRefused, match="535"):
            backend.send_messages([message()])
        assert len(server.commands("AUTH")) == 2


def test_after_a_temporary_refusal_of_a_proof_the_password_is_tried(mailer):
    with FaultServer(auth=["CRAM-MD5", "PLAIN"], users={"user": "secret"}) as server:
        server.fault = Fault(at="auth", do=faults.reply("454 4.7.0 Temporary authentication failure"))
        backend = mailer(server, clock=LeapingClock(), **WHO)
        with contextlib.suppress(smtplib.SMTPException):  # the pool pauses
            backend.send_messages([message(1)])
        backend.pool._clock.advance(60)
        assert backend.send_messages([message(2)]) == 1
        assert mechanisms(server) == ["CRAM-MD5", "PLAIN"]


def test_a_530_after_a_503_is_the_refusal_that_is_raised(mailer):
    with FaultServer(auth=["PLAIN"], require_auth=True) as server:
        server.fault = Fault(at="auth", do=faults.reply("503 5.5.1 already authenticated"), times=None)
        with pytest.raises(smtplib.SMTPSenderRefused) as caught:
            mailer(server, clock=ServersClock(server), **WHO).send_messages([message()])
        assert caught.value.smtp_code == 530
        assert (len(server.commands("AUTH")), server.connections) == (1, 1)


def test_503_to_the_first_login_lets_the_mail_go(mailer):
    with FaultServer(auth=["PLAIN"]) as server:
        server.fault = Fault(at="auth", do=faults.reply("503 5.5.1 already authenticated"), times=None)
        assert mailer(server, **WHO).send_messages([message()]) == 1


@pytest.mark.parametrize(("reply", "ceiling"), [("432 4.7.12 transition", 10), ("432 4.3.2 too many", 1)])
def test_432_is_about_concurrency_unless_a_password_is_wanted(mailer, reply, ceiling):
    with FaultServer(auth=["CRAM-MD5"]) as server:
        backend = mailer(server, clock=ServersClock(server), max_connections=10, max_requeues=0, **WHO)
        assert backend.send_messages([message(1)]) == 1
        server.fault = Fault(at="auth", do=faults.reply(reply), times=None)
        held = borrow(backend._sender)
        with pytest.raises(AuthRefused, match=reply[:3]):
            borrow(backend._sender)
        held.give_back()
        assert backend.pool.stats().max_connections == ceiling
