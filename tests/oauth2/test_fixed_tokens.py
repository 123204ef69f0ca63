"""Logging in with a fixed OAuth2 token; and credentials that cannot be used are an error."""

import base64

import django
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.views.debug import ExceptionReporter

from django_smtp_pool.backend import PooledBackend
from django_smtp_pool.core.errors import AuthRefused, NotOffered
from django_smtp_pool.core.options.fields import Secret
from django_smtp_pool.core.options.options import ServerOptions
from django_smtp_pool.core.replies import Reply
from django_smtp_pool.core.smtp.auth import OAuthBearer, XOAuth2, choose
from django_smtp_pool.core.smtp.session import _login_refused
from tests.mailing import backend_for, message
from tests.servers import Fault, FaultServer, faults

TOKEN = "ya29.a0AfH6SMC-token_of_the_tests"


def token_server(*mechanisms, **options):
    return FaultServer(auth=mechanisms, users={"user": TOKEN}, require_auth=True, **options)


@pytest.mark.parametrize("mechanisms", [("XOAUTH2",), ("OAUTHBEARER",), ("LOGIN", "PLAIN", "XOAUTH2", "OAUTHBEARER")])
def test_a_token_logs_in(mechanisms):
    with token_server(*mechanisms) as server:
        backend_for(server, username="user", oauth2_token=TOKEN).send_messages([message()])
        assert server.accepted[0].user == "user"
        preferred = "OAUTHBEARER" if "XOAUTH2" not in mechanisms else "XOAUTH2"
        assert [line.split()[1] for _, line in server.commands("AUTH")] == [preferred]


def test_a_token_is_preferred_over_a_password():
    with token_server("PLAIN", "XOAUTH2") as server:
        backend_for(server, username="user", password="other", oauth2_token=TOKEN).send_messages([message()])
        assert [line.split()[1] for _, line in server.commands("AUTH")] == ["XOAUTH2"]


def test_a_token_is_never_sent_as_a_password():
    with token_server("PLAIN", "LOGIN", "CRAM-MD5") as server:
        with pytest.raises(NotOffered, match=r"offers only .*but the token can only be used with XOAUTH2, OAUTHBEARER"):
            backend_for(server, username="user", oauth2_token=TOKEN).send_messages([message()])
        assert not server.commands("AUTH")


def test_a_password_is_never_sent_as_a_token():
    with token_server("XOAUTH2", "OAUTHBEARER") as server:
        with pytest.raises(NotOffered, match=r"but the password can only be used with"):
            backend_for(server, username="user", password=TOKEN).send_messages([message()])
        assert not server.commands("AUTH")


@pytest.mark.parametrize(("mechanism", "acknowledgement"), [("XOAUTH2", ""), ("OAUTHBEARER", "AQ==")])
def test_a_refusal_says_why(mechanism, acknowledgement):
    with token_server(mechanism) as server:
        with pytest.raises(AuthRefused) as caught:
            backend_for(server, username="user", oauth2_token="expired").send_messages([message()])
        heard = server.log
    assert caught.value.smtp_code == 535
    assert b'"scope": "https://mail.example/"' in caught.value.smtp_error
    assert '"status": "400"' in str(caught.value)
    assert caught.value.reply.code == 535
    assert [line for line in heard if line.startswith("C")][2] == f"C1> {acknowledgement}"
    assert server.connections == 1
    assert len([line for line in heard if "AUTH" in line and line.startswith("C")]) == 1


def test_an_explanation_cannot_forge_a_log_line():
    mechanism = XOAuth2(username="u", secret=Secret("t"))
    assert mechanism.respond(b'{"status":"400"}\r\nfake') == b""
    error = _login_refused(Reply(code=535, lines=(b"no",)), mechanism.explanation)
    assert b"\n" not in error.smtp_error
    assert b"\r" not in error.smtp_error


def test_a_bare_334_asks_for_the_token():
    mechanism = XOAuth2(username="u", secret=Secret("t"))
    assert mechanism.respond(b"") == mechanism.initial() == b"user=u\x01auth=Bearer t\x01\x01"


def test_names_with_commas_are_escaped():
    assert OAuthBearer(username="a,b=c", secret=Secret("t")).initial() == b"n,a=a=2Cb=3Dc,\x01auth=Bearer t\x01\x01"


def test_a_token_needs_tls_off_loopback():
    options = ServerOptions(host="mail.example.com", username="u", oauth2_token=TOKEN)
    with pytest.raises(NotOffered, match=r"the token would be sent to mail.example.com unencrypted") as caught:
        choose(options, {"XOAUTH2"}, encrypted=False)
    assert TOKEN not in str(caught.value)
    assert choose(options, {"XOAUTH2"}, encrypted=True) == [XOAuth2]


BAD = [
    ({"oauth2_token": TOKEN}, "oauth2_token needs username"),
    ({"oauth2_token": TOKEN, "username": "u", "auth_method": "PLAIN"}, "auth_method PLAIN needs a password"),
    ({"password": "p", "username": "u", "auth_method": "XOAUTH2"}, "auth_method XOAUTH2 needs oauth2_token"),
    ({"oauth2_token": 1, "username": "u"}, "oauth2_token must be text"),
]


@pytest.mark.parametrize(("options", "text"), BAD)
def test_contradictions_are_told_when_the_backend_is_made(server, options, text):
    with pytest.raises(ImproperlyConfigured, match=text) as caught:
        backend_for(server, **options)
    assert TOKEN not in str(caught.value)


def test_the_token_is_shown_nowhere(server):
    try:
        backend_for(server, username="user", oauth2_token=TOKEN, auth_method="LOGIN")
    except ImproperlyConfigured as error:
        report = ExceptionReporter(None, type(error), error, error.__traceback__)
        frames = report.get_traceback_frames()  # one without a file stands for a cause without a traceback
        assert [frame for frame in frames if "django_smtp_pool" in frame.get("filename", "")]
        assert TOKEN not in str([frame.get("vars") for frame in frames if "/tests/" not in frame.get("filename", "")])
    options = ServerOptions(username="user", oauth2_token=TOKEN)
    assert TOKEN not in repr(options)
    assert options != ServerOptions(username="user", oauth2_token="other")


def test_two_tokens_are_two_pools(server):
    one, other = (backend_for(server, username="user", oauth2_token=token) for token in ("a", "b"))
    assert one.pool is not other.pool


def test_the_debug_log_masks_the_token(caplog):
    with token_server("XOAUTH2") as server, caplog.at_level("DEBUG", "django_smtp_pool.wire"):
        backend_for(server, username="user", oauth2_token=TOKEN, debug=True).send_messages([message()])
    assert "AUTH XOAUTH2 ***" in caplog.text
    sent = base64.b64encode(f"user=user\1auth=Bearer {TOKEN}\1\1".encode()).decode()
    assert sent not in caplog.text


def test_the_setting_is_read(settings):
    if django.VERSION >= (6, 1):
        pytest.skip("under MAILERS it is an option of the mailer")
    settings.EMAIL_OAUTH2_TOKEN, settings.EMAIL_HOST_USER, settings.EMAIL_OPPORTUNISTIC_TLS = TOKEN, "user", True
    server = PooledBackend().config.server
    assert server.oauth2_token.reveal() == TOKEN
    assert server.opportunistic_tls


# -- credentials that cannot be used -------------------------------------------------------------------


@pytest.mark.parametrize("secret", [{"password": "secret"}, {"oauth2_token": TOKEN}])
def test_credentials_and_no_login_offered(secret):
    with FaultServer(auth=()) as server:
        kind = "password" if "password" in secret else "token"
        with pytest.raises(NotOffered, match=rf"offers no login \(AUTH\), and username and {kind} are set"):
            backend_for(server, username="user", **secret).send_messages([message()])
        assert not server.commands("MAIL")


def test_a_refused_token_is_not_tried_by_the_other_mechanism():
    with token_server("XOAUTH2", "OAUTHBEARER", fault=Fault(at="auth", do=faults.code_5xx, times=None)) as server:
        with pytest.raises(AuthRefused):
            backend_for(server, username="user", oauth2_token=TOKEN).send_messages([message()])
        assert len(server.commands("AUTH")) == 1
