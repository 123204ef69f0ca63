"""OAuth2 from the settings to the wire: a token endpoint, a server that wants tokens, and what lies between."""

import base64
import json
import pickle
import threading

import django
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.views.debug import ExceptionReporter

from django_smtp_pool import signals
from django_smtp_pool.backend import PooledBackend
from django_smtp_pool.core.errors import AuthRefused, NotOffered, TokenUnavailable
from django_smtp_pool.core.options import extras
from django_smtp_pool.core.options.oauth2 import OAuth2Options, Same
from django_smtp_pool.oauth2.generators import AccessToken, Generator, Grant
from django_smtp_pool.services import find
from tests.mailing import backend_for, message
from tests.oauth2.endpoint import TokenEndpoint
from tests.servers import Fault, FaultServer, faults

HAS_MAILERS = django.VERSION >= (6, 1)
SECRETS = ("s3cret", "refresh-", "token-")


@pytest.fixture
def mail():
    """A server that takes access tokens only."""
    with FaultServer(auth=("XOAUTH2", "OAUTHBEARER"), users={}, require_auth=True) as server:
        yield server
        from django_smtp_pool import registry

        registry.reset()


@pytest.fixture
def endpoint(mail):
    pytest.importorskip("authlib", reason="the extra oauth2 is not installed")
    with TokenEndpoint(mail.users) as running:
        yield running


@pytest.fixture
def refreshed():
    """What the signal told."""
    told = []

    def receive(**arguments):
        told.append({key: arguments[key] for key in ("sender", "user", "expires_at", "refresh_token")})

    signals.token_refreshed.connect(receive)
    yield told
    signals.token_refreshed.disconnect(receive)


class Tokens:
    """A generator of the user's own."""

    def __init__(self, *tokens, users=None):
        self.tokens, self.calls, self.users = list(tokens), [], users

    def __call__(self, *, renew=False):
        self.calls.append(renew)
        return self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]


def logins(server):
    return len(server.commands("AUTH"))


# -- the built-in generators ----------------------------------------------------------------------------------


def test_mail_goes_with_a_refreshed_token(mail, endpoint):
    backend = backend_for(mail, username="user", oauth2=endpoint.options())
    assert backend.send_messages([message()]) == 1
    assert backend.send_messages([message()]) == 1
    assert [accepted.user for accepted in mail.accepted] == ["user", "user"]
    assert endpoint.requests == ["grant_type=refresh_token&refresh_token=refresh-0&client_id=app&client_secret=s3cret"]


def test_fifty_threads_and_five_connections_are_one_request(mail, endpoint):
    endpoint.open.clear()
    sent = []
    threads = [
        threading.Thread(
            target=lambda: sent.append(
                backend_for(mail, username="user", oauth2=endpoint.options(), max_connections=5).send_messages(
                    [message()]
                )
            )
        )
        for _ in range(50)
    ]
    mail.hold("banner")
    for thread in threads:
        thread.start()
    assert endpoint.asked.acquire(timeout=10)
    endpoint.open.set()
    assert mail.wait_for(lambda: mail.held == 5)  # all five are dialled, each with a token in hand
    mail.release()
    for thread in threads:
        thread.join(20)
    assert sent == [1] * 50
    assert (len(endpoint.requests), mail.connections, mail.most_open) == (1, 5, 5)


def test_a_batch_over_several_connections_is_one_request(mail, endpoint):
    backend = backend_for(mail, username="user", oauth2=endpoint.options())
    assert backend.send_messages([message(number) for number in range(30)]) == 30
    assert len(endpoint.requests) == 1
    assert mail.connections > 1


def test_pools_share_a_token(mail, endpoint):
    for limit in (3, 4):
        backend_for(mail, username="user", oauth2=endpoint.options(), max_connections=limit).send_messages([message()])
    assert (len(endpoint.requests), mail.connections) == (1, 2)


def test_a_public_client_sends_no_secret(mail):
    pytest.importorskip("authlib")
    with TokenEndpoint(mail.users, client=("app", None)) as endpoint:
        assert backend_for(mail, username="user", oauth2=endpoint.options()).send_messages([message()]) == 1
        assert endpoint.requests == ["grant_type=refresh_token&refresh_token=refresh-0&client_id=app"]


def test_a_client_that_says_who_it_is_in_a_header(mail):
    pytest.importorskip("authlib")
    with TokenEndpoint(mail.users, authentication="basic") as endpoint:
        options = endpoint.options(client_auth="basic")
        assert backend_for(mail, username="user", oauth2=options).send_messages([message()]) == 1
        assert "s3cret" not in endpoint.requests[0]


def test_client_credentials(mail, endpoint):
    options = endpoint.options(grant="client_credentials", refresh_token=None, scope="https://mail.example/.default")
    assert backend_for(mail, username="user", oauth2=options).send_messages([message()]) == 1
    assert endpoint.requests == [
        "grant_type=client_credentials&scope=https%3A%2F%2Fmail.example%2F.default&client_id=app&client_secret=s3cret"
    ]


@pytest.fixture(scope="session")
def key():
    rsa = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.rsa")
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key):
    from cryptography.hazmat.primitives import serialization as form

    return key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()).decode()


def claims_of(assertion, key):
    """Return the claims of a JWT whose signature is that of a key (RFC 7523 §3)."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    signed, _, signature = assertion.rpartition(".")
    key.public_key().verify(octets(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return tuple(json.loads(octets(part)) for part in signed.split("."))


def octets(part):
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


@pytest.mark.parametrize("where", ["file", "dict", "text"])
def test_a_service_account(mail, endpoint, key, where, tmp_path):
    seen = []
    endpoint.check_assertion = lambda assertion: seen.append(claims_of(assertion, key))
    info = {"client_email": "robot@project.example", "private_key": pem(key), "token_uri": endpoint.url,
            "private_key_id": "k1"}  # fmt: skip
    (tmp_path / "key.json").write_text(json.dumps(info))
    given = {
        "file": {"service_account_file": tmp_path / "key.json"},
        "dict": {"service_account_info": info},
        "text": {"service_account_info": json.dumps(info)},
    }[where]
    assert backend_for(mail, username="user", oauth2=given).send_messages([message()]) == 1
    ((header, claims),) = seen
    assert (header["alg"], header["kid"]) == ("RS256", "k1")
    assert (claims["iss"], claims["sub"], claims["aud"]) == ("robot@project.example", "user", endpoint.url)
    assert claims["scope"] == "https://mail.google.com/"
    assert 0 < claims["exp"] - claims["iat"] <= 3600


def test_the_subject_is_who_logs_in(mail, endpoint, key):
    endpoint.check_assertion = lambda assertion: claims_of(assertion, key)
    info = {"client_email": "robot@project.example", "private_key": pem(key), "token_uri": endpoint.url}
    assert backend_for(mail, oauth2={"service_account_info": info, "subject": "user"}).send_messages([message()]) == 1
    assert mail.accepted[0].user == "user"


# -- renewal --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [False, True])
def test_a_token_that_the_server_refuses_is_renewed_once(mail, endpoint, refreshed, batch):
    options = endpoint.options(access_token="stale")
    messages = [message(number) for number in range(6 if batch else 1)]
    backend = backend_for(mail, username="user", oauth2=options, max_connections=1)
    assert backend.send_messages(messages) == len(messages)
    assert (len(endpoint.requests), mail.connections, logins(mail)) == (1, 2, 2)
    assert backend.pool.stats().open == 1
    assert [each["refresh_token"] for each in refreshed] == [None, None]
    assert refreshed[1]["user"] == "user"


@pytest.mark.parametrize("batch", [False, True])
def test_a_direct_535_renews_too(mail, batch):
    mail.fault = Fault(at="auth", do=faults.code_5xx, times=1)
    mail.users["user"] = "second"
    generate = Tokens("first", "second")
    messages = [message(number) for number in range(4 if batch else 1)]
    backend = backend_for(mail, username="user", oauth2_generator=generate, max_connections=1)
    assert backend.send_messages(messages) == len(messages)
    assert generate.calls == [False, True]
    assert (mail.connections, logins(mail)) == (2, 2)


@pytest.mark.parametrize("batch", [False, True])
def test_what_is_refused_twice_is_an_error(mail, batch):
    mail.auth = ("PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2")  # the password would do, and is not sent
    mail.users["user"] = "secret"
    generate = Tokens("first", "second", "third")
    backend = backend_for(mail, username="user", password="secret", oauth2_generator=generate, max_connections=1)
    with pytest.raises(AuthRefused, match='"status": "400"'):
        backend.send_messages([message(number) for number in range(4 if batch else 1)])
    assert generate.calls == [False, True]
    assert [line.split()[1] for _, line in mail.commands("AUTH")] == ["XOAUTH2", "XOAUTH2"]
    assert backend.pool.stats().open == 0


def test_a_refusal_of_many_connections_is_one_renewal(mail):
    mail.users["user"] = "second"
    generate = Tokens("first", "second")
    backend = backend_for(mail, username="user", oauth2_generator=generate)
    assert backend.send_messages([message(number) for number in range(30)]) == 30
    assert generate.calls == [False, True]


def test_a_rotated_refresh_token_is_kept_and_told(mail, refreshed):
    pytest.importorskip("authlib")
    with TokenEndpoint(mail.users, rotate=True) as endpoint:
        backend = backend_for(mail, username="user", oauth2=endpoint.options(), max_messages=1)
        assert backend.send_messages([message()]) == 1
        mail.users["user"] = "revoked"
        assert backend.send_messages([message()]) == 1
        assert [body.split("&")[1] for body in endpoint.requests] == [
            "refresh_token=refresh-0",
            "refresh_token=refresh-1",
        ]
        assert [each["refresh_token"].reveal() for each in refreshed] == ["refresh-1", "refresh-2"]
        assert {(each["sender"], each["user"]) for each in refreshed} == {(AccessToken, "user")}
        assert all(each["expires_at"] > 1e9 for each in refreshed)
        assert "refresh-" not in repr(refreshed)


# -- failures -------------------------------------------------------------------------------------------------

FAILURES = [
    ((400, '{"error": "invalid_grant", "error_description": "Token has been revoked."}'),
     "invalid_grant: Token has been revoked.*owner consent again"),
    ((401, '{"error": "invalid_client"}'), "invalid_client.*a secret may have expired"),
    ((503, "busy"), "503"),
    ((200, "<html>"), "token"),
    ((200, "[]"), "token"),
    ((200, "{}"), "an access token must be non-empty text"),
    ((200, '{"access_token": "a b"}'), "visible ASCII"),
    ((302, "http://127.0.0.1:1/elsewhere"), "token"),
    ((307, "http://127.0.0.1:1/elsewhere"), "token"),
]  # fmt: skip


@pytest.mark.parametrize(("failure", "text"), FAILURES)
@pytest.mark.parametrize("batch", [False, True])
def test_an_endpoint_that_fails_is_told_and_not_hammered(mail, endpoint, failure, text, batch):
    endpoint.fail_with = failure
    backend = backend_for(mail, username="user", password="secret", oauth2=endpoint.options())
    for _ in range(3):
        with pytest.raises(TokenUnavailable, match=text) as caught:
            backend.send_messages([message(number) for number in range(3 if batch else 1)])
    assert (len(endpoint.requests), mail.connections) == (1, 0)
    told = str(caught.value) + repr(caught.value.__cause__)
    assert not any(secret in told for secret in SECRETS)


@pytest.mark.parametrize("status", [302, 307, 308])
def test_a_redirect_carries_no_secret_anywhere(mail, endpoint, key, status):
    endpoint.fail_with = (status, endpoint.url)
    info = {"client_email": "robot@project.example", "private_key": pem(key), "token_uri": endpoint.url}
    for number, options in enumerate([endpoint.options(), {"service_account_info": info}], start=1):
        with pytest.raises(TokenUnavailable):
            backend_for(mail, username="user", oauth2=options).send_messages([message()])
        assert len(endpoint.requests) == number


def test_the_debug_page_shows_no_secret_of_a_failure(mail, endpoint):
    endpoint.fail_with = (400, '{"error": "invalid_grant"}')
    with pytest.raises(TokenUnavailable) as caught:
        backend_for(mail, username="user", oauth2=endpoint.options()).send_messages([message()])
    frames = ExceptionReporter(None, caught.type, caught.value, caught.tb).get_traceback_frames()
    shown = str([frame.get("vars") for frame in frames if "/tests/" not in frame.get("filename", "")])
    assert frames
    assert not any(secret in shown for secret in ("s3cret", "refresh-0"))
    pickle.loads(pickle.dumps(caught.value))


def test_a_failure_is_silent_where_that_is_asked_for(mail, endpoint):
    endpoint.fail_with = (503, "busy")
    backend = backend_for(mail, username="user", oauth2=endpoint.options(), fail_silently=True)
    assert backend.send_messages([message()]) == 0


def test_a_token_is_never_a_password(endpoint):
    with FaultServer(auth=("PLAIN", "LOGIN", "CRAM-MD5"), users={"user": "secret"}) as server:
        backend = backend_for(server, username="user", password="secret", oauth2=endpoint.options())
        with pytest.raises(NotOffered, match="but the token can only be used with XOAUTH2, OAUTHBEARER"):
            backend.send_messages([message()])
        assert not server.commands("AUTH")


def test_nothing_shows_a_secret(mail, endpoint, caplog):
    with caplog.at_level("DEBUG", "django_smtp_pool"):
        backend = backend_for(mail, username="user", oauth2=endpoint.options(access_token="stale"), debug=True)
        backend.send_messages([message()])
    shown = caplog.text + repr(backend.config) + repr(backend.pool)
    assert not any(secret in shown for secret in ("s3cret", "refresh-0", "stale", mail.users["user"]))
    with pytest.raises(TypeError):
        pickle.dumps(backend.config.server)


# -- generators of the user's own -----------------------------------------------------------------------------


def plain():
    """A plain function."""
    return "own-token"


def with_renew(*, renew=False):
    return AccessToken("renewed" if renew else "own-token")


def factory():
    return Tokens("own-token")


class Class:
    def __call__(self, **kwargs):
        return "own-token"


INSTANCE = Class()
OWN = [plain, with_renew, factory, Class, INSTANCE, INSTANCE.__call__, lambda: AccessToken("own-token"),
       *(f"{__name__}.{name}" for name in ("plain", "with_renew", "factory", "Class", "INSTANCE"))]  # fmt: skip


@pytest.mark.parametrize("own", OWN, ids=range(len(OWN)))
def test_any_generator(mail, own):
    mail.users["user"] = "own-token"
    assert backend_for(mail, username="user", oauth2_generator=own).send_messages([message()]) == 1


def test_a_token_may_say_whose_it_is(mail):
    mail.users["its user"] = "own-token"
    backend = backend_for(mail, oauth2_generator=lambda: AccessToken("own-token", user="its user"))
    assert backend.send_messages([message()]) == 1


@pytest.mark.parametrize(
    ("own", "text"),
    [
        (lambda: 1, "returned int, not text or an AccessToken"),
        (lambda: "", "must be non-empty text"),
        (lambda: "bad token", "visible ASCII"),
        (lambda: 1 / 0, "division by zero"),
        ("tests.no_such_module.generate", "has no attribute"),
    ],
)
def test_a_generator_that_gives_none(mail, own, text):
    with pytest.raises(TokenUnavailable, match=text):
        backend_for(mail, username="user", oauth2_generator=own).send_messages([message()])
    assert mail.connections == 0


def test_a_generator_that_sends_mail_by_itself_is_told(mail):
    def generate():
        backend_for(mail, username="user", oauth2_generator=generate).send_messages([message()])

    with pytest.raises(TokenUnavailable, match="sends mail that needs its own token"):
        backend_for(mail, username="user", oauth2_generator=generate, acquire_timeout=5).send_messages([message()])


# -- options --------------------------------------------------------------------------------------------------


def test_objects_are_told_apart_by_identity_paths_by_text_and_dicts_by_value(mail):
    grant = {"client_id": "a", "refresh_token": "r", "token_url": "https://example.com/"}

    def pool(**options):
        return backend_for(mail, username="user", **options).pool

    assert pool(oauth2_generator=plain) is pool(oauth2_generator=plain)
    assert pool(oauth2_generator=INSTANCE.__call__) is pool(oauth2_generator=INSTANCE.__call__)
    assert pool(oauth2_generator=Class()) is not pool(oauth2_generator=Class())
    assert pool(oauth2_generator="a.b") is pool(oauth2_generator="a.b")
    pytest.importorskip("authlib")
    assert pool(oauth2=grant) is pool(oauth2=dict(grant))
    assert pool(oauth2=grant) is not pool(oauth2={**grant, "refresh_token": "other"})


class Chameleon:
    """Equals everything."""

    def __call__(self):
        return "t"

    def __eq__(self, other):
        return True

    def __hash__(self):
        return 1


def test_what_an_object_says_of_equality_does_not_count():
    assert Same(Chameleon()) != Same(Chameleon())


GOOD = {"client_id": "a", "refresh_token": "hidden", "token_url": "https://example.com/"}
BAD = [
    ({"oauth2": {}}, "oauth2 for refresh_token needs client_id, refresh_token, token_url"),
    ({"oauth2": {"grant": "password"}}, "oauth2 grant must be one of 'refresh_token'"),
    ({"oauth2": {**GOOD, "clientId": "x"}}, "oauth2 has unknown keys: clientId; known are grant, client_id"),
    ({"oauth2": {**GOOD, "token_url": "http://example.com/"}}, "token_url must begin with https"),
    ({"oauth2": {**GOOD, "token_url": "example"}}, "token_url must be a URL"),
    ({"oauth2": {**GOOD, "timeout": 0}}, "oauth2 timeout must be"),
    ({"oauth2": {"grant": "client_credentials", "client_id": "a"}}, "needs client_secret, token_url"),
    ({"oauth2": {"grant": "service_account"}}, "needs service_account_file or service_account_info"),
    ({"oauth2": {"service_account_info": "hidden"}}, "service_account_info must be a dict, or the JSON text of one"),
    ({"oauth2": "hidden"}, "oauth2 must be a dict, not str"),
    ({"oauth2": GOOD, "username": None}, "oauth2 needs username"),
    ({"oauth2": GOOD, "oauth2_token": "hidden"}, "oauth2_token and oauth2 exclude each other"),
    ({"oauth2": GOOD, "oauth2_generator": plain}, "oauth2_generator and oauth2 exclude each other"),
    ({"oauth2": GOOD, "auth_method": "PLAIN"}, "auth_method PLAIN needs a password"),
    ({"oauth2_generator": 1}, "oauth2_generator must be a callable or a dotted path, not int"),
    ({"oauth2_generator": "path"}, "oauth2_generator must be a dotted path"),
    ({"service": "office365", "oauth2": {"grant": "client_credentials", "client_id": "a", "client_secret": "hidden"}},
     "oauth2 for client_credentials needs tenant"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "text"), BAD)
def test_what_is_no_good_is_told_at_construction(mail, options, text):
    with pytest.raises(ImproperlyConfigured, match=text) as caught:
        backend_for(mail, **{"username": "user", **options})
    assert "hidden" not in str(caught.value)


def made(**options):
    pytest.importorskip("authlib")
    return PooledBackend(
        alias="shop" if HAS_MAILERS else None, username="u@example.com", **options
    ).config.server.oauth2


def test_a_service_knows_where_its_tokens_come_from():
    own = {"client_id": "a", "client_secret": "b"}
    assert made(service="gmail", oauth2={**own, "refresh_token": "r"}).endpoint == "https://oauth2.googleapis.com/token"
    personal = made(service="outlook", oauth2={**own, "refresh_token": "r"})
    assert personal.endpoint == "https://login.microsoftonline.com/common/oauth2/v2.0/token"
    assert personal.scope is None
    office = made(service="office365", oauth2={**own, "grant": "client_credentials", "tenant": "example.com"})
    assert office.endpoint == "https://login.microsoftonline.com/example.com/oauth2/v2.0/token"
    assert office.scope == "https://outlook.office365.com/.default"
    assert office.account is None  # one token for every mailbox of the application
    own_url = made(service="gmail", oauth2={**own, "refresh_token": "r", "token_url": "https://example.com/"})
    assert own_url.endpoint == "https://example.com/"
    assert find("yahoo").oauth2["token_url"].startswith("https://api.login.yahoo.com/")


def test_a_missing_extra_is_named(mail, monkeypatch):
    monkeypatch.setitem(extras.EXTRAS, "oauth2", ("no_such_library",))
    text = r"oauth2 needs no_such_library: pip install 'django-smtp-pool\[oauth2\]'"
    with pytest.raises(ImproperlyConfigured, match=text):
        backend_for(mail, username="user", oauth2=GOOD)


@pytest.mark.skipif(HAS_MAILERS, reason="under MAILERS they are options of the mailer")
def test_the_settings_are_read(settings):
    settings.EMAIL_HOST_USER = "user"
    settings.EMAIL_OAUTH2_GENERATOR = "project.token"
    assert PooledBackend().config.server.oauth2_generator == "project.token"
    del settings.EMAIL_OAUTH2_GENERATOR
    pytest.importorskip("authlib")
    settings.EMAIL_OAUTH2 = GOOD
    assert PooledBackend().config.server.oauth2.client_id == "a"


# -- AccessToken ----------------------------------------------------------------------------------------------


def test_an_access_token_is_shown_nowhere():
    token = AccessToken("hidden", 1.5, "me", refresh_token="hidden too")
    assert repr(token) == "AccessToken(expires_at=1.5, user='me')"
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(token)


def test_when_it_expires():
    from datetime import datetime, timezone

    assert AccessToken("t", datetime(2030, 1, 1, tzinfo=timezone.utc)).expires_at == 1893456000
    assert AccessToken("t", 5).expires_at == 5.0
    with pytest.raises(ValueError, match="aware datetime"):
        AccessToken("t", datetime(2030, 1, 1))  # noqa: DTZ001 - that is the point
    with pytest.raises(ValueError, match="seconds since the epoch"):
        AccessToken("t", "soon")


@pytest.mark.parametrize("bad", ["", None, 1, b"t", "a\1b", "a b", "ä", "a\n"])
def test_what_is_no_access_token(bad):
    with pytest.raises(ValueError, match="an access token"):
        AccessToken(bad)


def test_generators_are_looked_up_late():
    Generator("no.such.thing")
    assert Grant(OAuth2Options(**GOOD), lambda: 0.0)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("no.such.module", "oauth2_generator names 'no.such.module': No module named 'no'"),
        ("tests.mailing.nothing", "oauth2_generator names 'tests.mailing.nothing': module .* has no attribute"),
        ("tests.oauth2", "a module is not a generator of access tokens"),
    ],
)
def test_a_generator_that_cannot_be_found_is_named(mail, path, text):
    with pytest.raises(TokenUnavailable, match=text):
        backend_for(mail, username="user", oauth2_generator=path).send_messages([message()])
