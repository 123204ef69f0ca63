"""`manage.py smtp_pool verify`: each step, what was found, and what to do about a failure."""

import io
import json
import re
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from django_smtp_pool.core.errors import AuthRefused, DataRefused, Stage, refusal
from django_smtp_pool.core.options.options import ServerOptions
from django_smtp_pool.verify import advice as advice_module
from django_smtp_pool.verify.advice import advice_for
from django_smtp_pool.verify.refusals import KNOWN
from django_smtp_pool.verify.verification import patient
from tests import ports
from tests.backend.project import HAS_MAILERS, POOLED, project
from tests.core.transcript import reply_of
from tests.servers import Fault, FaultServer, faults
from tests.servers.certificates import certificates

pytestmark = pytest.mark.filterwarnings("ignore:The EMAIL_", "ignore:get_connection", "ignore:Django 2028")


@pytest.fixture
def secure():
    with FaultServer(starttls=certificates().server_context(), require_auth=True) as server:
        yield server


@pytest.fixture
def trusting(tmp_path):
    """Options that accept the test server's certificate."""
    tls_options = {"ca_file": str(certificates().write_authority(tmp_path))}
    return {"use_tls": True, "tls_options": tls_options, "username": "user", "password": "secret"}


def run(*arguments):
    """Return (what it printed, what it failed with)."""
    out = io.StringIO()
    try:
        call_command("smtp_pool", "verify", *arguments, stdout=out, no_color=True)
    except CommandError as error:
        return out.getvalue(), str(error)
    return out.getvalue(), None


def steps(text):
    return re.findall(r"(?m)^(ok|FAIL)\s+(.*?)(?:\s{2,}.*)?$", text)


def test_a_mailer_that_works(settings, secure, trusting):
    project(settings, secure, **trusting)
    text, failure = run()
    assert failure is None
    names = ["connect", "greeting", "EHLO", "STARTTLS", "TLS handshake", "AUTH", "QUIT"]
    assert steps(text) == [("ok", name) for name in names]
    assert re.search(r"TLS\s+TLSv1.[23], \w+", text)
    assert re.search(r"AUTH\s+CRAM-MD5 as user", text)
    assert re.search(r"extensions\s+.*AUTH PLAIN LOGIN CRAM-MD5", text)
    assert re.search(r"limits\s+max_connections=5, max_messages=100", text)
    assert "secret" not in text
    assert len(secure.commands("QUIT")) == 1
    assert not secure.accepted


def test_a_mailer_that_logs_in_by_scram(settings, secure, trusting):
    secure.auth = ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256"]
    project(settings, secure, **trusting)
    text, failure = run()
    assert failure is None
    assert re.search(r"AUTH\s+SCRAM-SHA-256 as user", text)


def test_a_server_that_does_not_prove_itself(settings, secure, trusting):
    secure.auth = ["PLAIN", "SCRAM-SHA-256"]
    secure.fault = Fault(at="challenge", skip=1, do=faults.reply("235 2.7.0 welcome"))
    project(settings, secure, **trusting)
    text, failure = run()
    assert failure
    assert steps(text)[-1] == ("FAIL", "AUTH")
    assert "it may be an impostor" in text


def test_a_user_name_that_is_the_password_is_not_shown(settings, secure, trusting):
    secure.users = {"token": "token"}
    project(settings, secure, **{**trusting, "username": "token", "password": "token"})
    text, failure = run()
    assert failure is None
    assert "AUTH           CRAM-MD5 as ***" in text
    assert "token" not in text


@pytest.mark.parametrize(("lmtp", "advice"), [(True, "remove lmtp"), (False, "set lmtp")])
def test_lmtp_and_smtp_are_told_apart(settings, lmtp, advice):
    with FaultServer(lmtp=not lmtp) as server:
        project(settings, server, lmtp=lmtp)
        text, failure = run()
    assert failure is not None
    assert steps(text)[-1] == ("FAIL", "EHLO")
    assert advice in text


def test_a_test_message_by_lmtp(settings):
    with FaultServer(lmtp=True) as server:
        project(settings, server, lmtp=True)
        assert run("--to", "me@example.com")[1] is None
        assert [each.recipients for each in server.accepted] == [("me@example.com",)]


def test_a_test_message(settings, secure, trusting):
    project(settings, secure, **trusting)
    text, failure = run("--to", "me@example.com")
    assert failure is None
    assert ("ok", "message") in steps(text)
    assert secure.accepted[0].recipients == ("me@example.com",)
    assert b"manage.py smtp_pool verify" in secure.accepted[0].content
    assert secure.accepted[0].queue_id in text


def test_as_json(settings, secure, trusting):
    project(settings, secure, **trusting)
    text, failure = run("--json")
    report = json.loads(text)
    assert failure is None
    assert (report["ok"], report["mechanism"], report["error"]) == (True, "CRAM-MD5", None)
    assert report["steps"][0] == {"name": "connect", "ok": True, "detail": report["server"]}
    assert report["tls"]["version"].startswith("TLSv1.")


@pytest.fixture
def certified(tmp_path):
    """A server that wants a client certificate, and options that have one and no password."""
    certificate, key = certificates().write_client(tmp_path)
    options = {
        "tls_options": {"ca_file": str(certificates().write_authority(tmp_path))},
        "use_tls": True,
        "ssl_certfile": str(certificate),
        "ssl_keyfile": str(key),
    }
    context = certificates().server_context(client_required=True)
    with FaultServer(starttls=context, require_auth=True, auth=["PLAIN", "EXTERNAL"]) as server:
        yield server, options


@pytest.mark.parametrize(
    ("more", "who"),
    [({}, "the user of the client certificate"), ({"username": "user", "auth_method": "EXTERNAL"}, "user")],
)
def test_a_login_by_client_certificate(settings, certified, more, who):
    server, options = certified
    project(settings, server, **options, **more)
    text, failure = run()
    assert failure is None
    assert re.search(rf"ok\s+AUTH\s+EXTERNAL as {who}\n", text)


def test_a_client_certificate_that_is_let_in_without_login(settings, certified):
    server, options = certified
    server.auth = ["PLAIN"]
    project(settings, server, **options)
    text, failure = run()
    assert failure is None
    assert ("ok", "AUTH") not in steps(text)
    project(settings, server, **options, auth_method="EXTERNAL")
    text, failure = run()
    assert failure
    assert steps(text)[-1] == ("FAIL", "AUTH")
    assert "can only be used with EXTERNAL: many servers offer that only to a certificate that they trust" in text


@pytest.mark.parametrize("auth_method", [None, "EXTERNAL"])
def test_a_client_certificate_that_is_refused(settings, certified, auth_method):
    server, options = certified
    project(settings, server, **options, username="nobody", auth_method=auth_method)
    text, failure = run()
    assert failure
    assert steps(text)[-1] == ("FAIL", "AUTH")
    assert "the certificate belongs to this username" in text


def test_the_certificate_is_shown(settings, secure, trusting):
    project(settings, secure, **trusting)
    assert re.search(r"certificate\s+\w.*; until \w+ .* GMT, in \d+ days", run()[0])
    project(settings, secure, **{**trusting, "tls_options": {"verify": False}})
    assert re.search(r"certificate\s+not checked", run()[0])


FAILURES = [
    ({"password": "wrong"}, {}, "AUTH", "check username and password"),
    (
        {"use_tls": False, "use_ssl": True},
        {},
        "TLS handshake",
        "use_ssl needs port 465",
    ),
    ({"tls_options": {}}, {}, "TLS handshake", "it is self-signed|its CA is not trusted"),
    ({}, {"fault": Fault(at="banner", do=faults.code_421)}, "greeting", "busy"),
    ({}, {"fault": Fault(at="auth", do=faults.code_5xx, times=None)}, "AUTH", "check username and password"),
    ({}, {"starttls": None}, "STARTTLS", "does not offer STARTTLS"),
]


@pytest.mark.parametrize(("options", "changes", "at", "text"), FAILURES)
def test_a_mailer_that_does_not_work(settings, secure, trusting, options, changes, at, text):
    for name, value in changes.items():
        setattr(secure, name, value)
    project(settings, secure, **{**trusting, **options})
    shown, failure = run()
    assert "does not work as configured" in failure
    assert steps(shown)[-1] == ("FAIL", at)
    assert all(outcome == "ok" for outcome, _ in steps(shown)[:-1])
    assert re.search(text, shown)


@pytest.mark.parametrize("offers", [True, False])
def test_tls_that_is_optional(settings, secure, trusting, offers):
    if not offers:
        secure.starttls = None
    project(settings, secure, **{**trusting, "use_tls": False, "opportunistic_tls": True})
    text, failure = run()
    assert failure is None
    assert (("ok", "TLS handshake") in steps(text)) is offers


def test_a_file_that_cannot_be_used(settings, secure, trusting, tmp_path):
    path = tmp_path / "ca.pem"
    path.write_text("no certificate")
    project(settings, secure, **{**trusting, "tls_options": {"ca_file": path}})
    shown, failure = run()
    assert f"tls_options['ca_file'] {str(path)!r} contains no certificate in PEM" in shown
    assert failure
    assert steps(shown) == [("FAIL", "connect")]


def test_no_store_for_the_rate_limit(settings, server):
    with ports.refusing() as (host, port):
        project(settings, server, rate_limit=5, rate_storage=f"redis://:hidden@{host}:{port}")
        shown, failure = run()
    assert steps(shown) == [("FAIL", "rate limit")]
    assert f"connecting to 127.0.0.1:{port}" in shown
    assert "correct rate_storage" in shown
    assert "hidden" not in shown
    assert failure
    assert server.connections == 0


def test_nobody_listens(settings, trusting):
    with ports.refusing() as (host, port):
        project(settings, Place(host, port), **trusting)
        shown, failure = run()
    assert steps(shown) == [("FAIL", "connect")]
    assert f"no mail server listens at 127.0.0.1 port {port}" in shown
    assert failure == f"127.0.0.1:{port} does not work as configured"


class Place:
    def __init__(self, host, port):
        self.host, self.port = host, port


def generate(*, renew=False):
    """Give an access token, a good one only when that is asked for."""
    return "good" if renew else "stale"


def fail():
    """Give none."""
    raise OSError("the vault is locked")


def test_an_access_token_is_renewed_here_too(settings):
    with FaultServer(auth=("XOAUTH2",), users={"user": "good"}, require_auth=True) as server:
        project(settings, server, username="user", oauth2_generator=f"{__name__}.generate")
        text, failure = run()
        assert failure is None
        assert steps(text)[0] == ("ok", "access token")
        assert "XOAUTH2 as user" in text


def test_no_access_token(settings, secure):
    project(settings, secure, username="user", oauth2_generator=f"{__name__}.fail")
    shown, _ = run()
    assert steps(shown) == [("FAIL", "access token")]
    assert "the vault is locked" in shown


def test_recipients_that_are_refused(settings, server):
    server.refuse_recipients = {"me@example.com": "550 5.1.1 nobody"}
    project(settings, server)
    shown, failure = run("--to", "me@example.com")
    assert failure
    assert steps(shown)[-1] == ("FAIL", "message")
    assert "nobody" in shown


@pytest.mark.skipif(not HAS_MAILERS, reason="MAILERS came with Django 6.1")
def test_one_of_several(settings, server):
    project(settings, Place("127.0.0.1", 1))
    bulk = {"BACKEND": POOLED, "OPTIONS": {"host": server.host, "port": server.port}}
    settings.MAILERS = {**settings.MAILERS, "bulk": bulk}
    assert run("--using", "bulk")[1] is None
    assert "nothere" in run("--using", "nothere")[1]


def test_bad_options_are_told(settings, server):
    project(settings, server, max_connections=0)
    assert "max_connections must be a whole number from 1" in run()[1]


def test_another_backend_is_told(settings, server):
    project(settings, server, backend="django.core.mail.backends.smtp.EmailBackend")
    assert "not django_smtp_pool.backend.PooledBackend" in run()[1]


# -- advice ---------------------------------------------------------------------------------------------------

GMAIL, MICROSOFT, SES = "smtp.gmail.com", "smtp.office365.com", "email-smtp.eu-west-1.amazonaws.com"
SENDGRID, MAILGUN, POSTMARK, FASTMAIL = (
    "smtp.sendgrid.net",
    "smtp.mailgun.org",
    "smtp.postmarkapp.com",
    "smtp.fastmail.com",
)
ELSEWHERE = "mail.example.com"


def refused(line, stage=Stage.AUTH):
    kind = AuthRefused if stage is Stage.AUTH else DataRefused
    return refusal(kind, reply_of(line), stage=stage)


def advice(line, host, *, stage=Stage.AUTH, by_token=False):
    secret = {"oauth2_token": "token"} if by_token else {"password": "secret"}
    return advice_for(refused(line, stage), ServerOptions(host=host, username="user", **secret))


@pytest.mark.parametrize(
    ("line", "host", "text"),
    [
        ("534-5.7.9 Application-specific password required.\r\n534 5.7.9 there - gsmtp", GMAIL, "an app password"),
        ("534-5.7.14 <https://accounts.google.example/>\r\n534 5.7.14 there - gsmtp", GMAIL, "an app password"),
        ("535-5.7.8 Username and Password not accepted.\r\n535 5.7.8 there - gsmtp", GMAIL, "password here: create"),
        ("454 4.7.0 Too many login attempts, please try again later.", GMAIL, "too many logins"),
        ("421 4.7.0 Try again later, closing connection.", GMAIL, "too many connections"),
        ("535 5.7.139 SmtpClientAuthentication is disabled for the Tenant.", MICROSOFT, "Authenticated SMTP"),
        ("535 5.7.3 Authentication unsuccessful", MICROSOFT, "password logins are disabled"),
        ("550 5.7.30 Basic authentication is not supported for Client Submission.", MICROSOFT, "OAuth2"),
        ("432 4.3.2 Concurrent connections limit exceeded.", MICROSOFT, "3 connections per mailbox"),
        ("535 5.7.139 basic authentication is disabled.", "smtp-mail.outlook.com", "OAuth2"),
        ("535 Authentication Credentials Invalid", SES, "for this region"),
        ("421 Too many concurrent SMTP connections", SES, "lower max_connections"),
        ("535 Authentication failed: Bad username / password", SENDGRID, "the word apikey"),
        ("451 Authentication failed: Maximum credits exceeded", SENDGRID, "plan, credits"),
        ("535 5.7.0 Mailgun is not loving your login or password", MAILGUN, "smtp.eu.mailgun.org"),
        ("535 Authentication failed", "smtp.eu.mailgun.org", "Domain settings"),
        ("535 5.7.8 Error: authentication failed:", POSTMARK, "both the server's API token"),
        ("535 5.7.8 Error: authentication failed:", "smtp-broadcasts.postmarkapp.com", "both the server's API token"),
        ("535 5.7.0 no", FASTMAIL, "app password"),
        ("535 5.7.0 no", "smtp.mail.yahoo.com", "app password"),
        ("534 5.7.9 Please use a stronger mechanism", ELSEWHERE, "the provider requires an app password"),
        ("535 5.7.139 no", ELSEWHERE, "check username and password"),
        ("535 no", "gmail.com.example.com", "check username and password"),
        ("535 no", "notgmail.com", "check username and password"),
        ("454 4.7.0 Temporary authentication failure", ELSEWHERE, "busy"),
        ("432 4.3.2 too many", ELSEWHERE, "applies to each process"),
    ],
)  # fmt: skip
def test_advice_about_logins(line, host, text):
    assert text in advice(line, host)


@pytest.mark.parametrize(
    ("line", "host", "text"),
    [
        ("535 5.7.8 Username and Password not accepted", GMAIL, "https://mail.google.com/"),
        ("535 5.7.3 Authentication unsuccessful", MICROSOFT, "SMTP.SendAsApp"),
        ("535 5.7.139 SmtpClientAuthentication is disabled for the Mailbox", MICROSOFT, "Authenticated SMTP"),
        ("535 no", "smtp.mail.yahoo.com", "check its scope"),
        ("535 no", ELSEWHERE, "check its scope"),
        ("534 5.7.9 no", ELSEWHERE, "check its scope"),
    ],
)
def test_advice_about_access_tokens(line, host, text):
    assert text in advice(line, host, by_token=True)


@pytest.mark.parametrize(
    ("line", "stage", "host", "text"),
    [
        ("550 5.4.5 Daily user sending limit exceeded.", Stage.DATA, GMAIL, "daily sending limit"),
        ("530 5.7.57 Client not authenticated to send mail.", Stage.MAIL, MICROSOFT, "the session is not logged in"),
        ("550 5.7.60 Client does not have permissions to send as this sender", Stage.CONTENT, MICROSOFT, "Send As"),
        ("554 5.2.252 SendAsDenied; a@ not allowed to send as b@", Stage.DATA, MICROSOFT, "Send As"),
        ("432 4.3.2 Concurrent connections limit exceeded.", Stage.CONTENT, MICROSOFT, "3 connections per mailbox"),
        ("554 Message rejected: Email address is not verified.", Stage.CONTENT, SES, "verify the sender's address"),
        ("454 Throttling failure: Maximum sending rate exceeded.", Stage.MAIL, SES, "rate_limit"),
        ("550 Unauthenticated senders not allowed", Stage.MAIL, SENDGRID, "the session is not logged in"),
        ("550 The from address is no verified Sender Identity.", Stage.DATA, SENDGRID, "Sender Authentication"),
        ("421 Domain example.com is not allowed to send: activate", Stage.DATA, MAILGUN, "activate the account"),
        ("551 5.7.1 Not authorised to send from this header address", Stage.DATA, FASTMAIL, "sending identities"),
        ("530 5.7.0 Must issue a STARTTLS command first", Stage.MAIL, ELSEWHERE, "requires a login, or TLS first"),
        ("450 4.2.0 Greylisted", Stage.RCPT, ELSEWHERE, "may accept the same message later"),
        ("454 4.7.0 TLS not available", Stage.STARTTLS, ELSEWHERE, "busy"),
        ("421 4.7.0 too many connections", Stage.GREETING, ELSEWHERE, "applies to each process"),
    ],
)  # fmt: skip
def test_advice_about_other_refusals(line, stage, host, text):
    assert text in advice(line, host, stage=stage)


@pytest.mark.parametrize(
    ("line", "stage", "host"),
    [
        ("550 5.1.1 No such user", Stage.RCPT, GMAIL),
        ("554 5.7.1 Looks like spam", Stage.CONTENT, MICROSOFT),
        ("554 Transaction failed", Stage.CONTENT, ELSEWHERE),
        ("551 5.1.6 moved", Stage.DATA, FASTMAIL),
    ],
)
def test_a_refusal_that_says_it_itself(line, stage, host):
    assert advice(line, host, stage=stage) is None


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: f"{known.hosts[0]}-{known.code}")
def test_whatever_a_reply_says_its_codes_decide(known):
    stage = next(iter(known.at)) if known.at else Stage.AUTH
    codes = f"{known.code} {'.'.join(map(str, known.enhanced or ()))}".strip()
    given = {
        advice(f"{codes} {words}", f"smtp.{known.hosts[0]}", stage=stage, by_token=bool(known.by_token))
        for words in ("", "Authentication failed", "zu viele Verbindungen")
    }
    assert len(given) == 1
    assert None not in given


def test_advice_about_a_blocked_port():
    error = TimeoutError("timed out")
    error.stage = Stage.CONNECT
    assert "block port 25" in advice_for(error, ServerOptions(host="mail.example"))


@pytest.mark.parametrize("at", ["connect", "banner", "ehlo", "end"])
def test_a_silent_server_is_not_waited_for(settings, at):
    with FaultServer(fault=Fault(at=at, do=faults.hang)) as server:
        project(settings, server, timeout=3600)
        text, failure = run("--to", "me@example.com", "--timeout", "0.05")
    assert failure is not None
    assert steps(text)[-1][0] == "FAIL"


def test_no_wait_of_verify_takes_longer_than_five_seconds():
    waits = patient(ServerOptions(timeout=60, connection_timeout=2), 5.0).waits
    assert (waits.connect, waits.greeting, waits.reply, waits.end_of_data) == (2, 5, 5, 5)


# -- the transcripts of the documentation ---------------------------------------------------------------------


def transcripts():
    text = (Path(__file__).parents[2] / "docs" / "verify.rst").read_text(encoding="utf-8")
    return re.findall(r"(?m)^    \$ .*smtp_pool verify.*\n((?:    .*\n)+)", text)


def test_the_documentation_shows_steps_and_advice_that_there_are():
    names = {each.value for each in Stage} | {"message", "access token"}
    advice = {
        text.format(host="localhost", port=2525, proxy="")
        for text in vars(advice_module).values()
        if isinstance(text, str)
    }
    for shown in transcripts():
        assert {name for _, name in steps(re.sub(r"(?m)^    ", "", shown))} <= names
        assert set(re.findall(r"(?m)^ +fix +(.*)$", shown)) <= advice
    assert len(transcripts()) == 7
