"""System checks of who we are to the server; those of bad values are in backend/test_settings.py."""

import ssl

import django
import pytest
import trustme

from django_smtp_pool import checks
from django_smtp_pool.core.options import extras

HAS_MAILERS = django.VERSION >= (6, 1)
POOLED = "django_smtp_pool.backend.PooledBackend"
GRANT = {"client_id": "a", "refresh_token": "hidden", "token_url": "https://example.com/"}

pytestmark = [
    pytest.mark.skipif(not HAS_MAILERS, reason="MAILERS came with Django 6.1; options are the same without"),
]


@pytest.fixture
def told(settings, monkeypatch):
    """Return a function that gives a mailer options, and says what the checks find."""
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)

    def check(**options):
        settings.MAILERS = {
            "default": {"BACKEND": POOLED, "OPTIONS": {"host": "mail.example", "use_tls": True, **options}}
        }
        return {problem.id.removeprefix("smtp_pool."): problem.msg for problem in checks.check_mailers(None)}

    return check


def generate():
    """Be a generator of access tokens."""
    raise AssertionError("checks call nothing")


def test_what_is_good_is_not_told(told):
    assert told(username="u", oauth2_generator=generate) == {}
    assert told(username="u", oauth2_generator=f"{__name__}.generate") == {}
    assert told(service="gmail", username="u", password="p", host=None) == {}
    assert told(service="office365", host=None) == {}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("no.such.module", "No module named"),
        (f"{__name__}.nothing", "has no attribute 'nothing'"),
        (f"{__name__}.POOLED", "not callable"),
    ],
)
def test_a_generator_that_cannot_be_found(told, path, text):
    problems = told(username="u", oauth2_generator=path)
    assert set(problems) == {"E003"}
    assert f"MAILERS['default']: oauth2_generator names '{path}'" in problems["E003"]
    assert text in problems["E003"]


def test_an_access_token_in_clear(told):
    problems = told(username="u", oauth2_generator=generate, use_tls=False)
    assert problems == {"E002": "MAILERS['default']: the access token would be sent to mail.example unencrypted."}


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ({"timeout": 29}, {"W005"}),
        ({"timeout": 30}, set()),
        ({"timeout": 5, "data_timeout": 120}, set()),
        ({"data_timeout": 5}, set()),
        ({}, set()),
    ],
)
def test_a_short_timeout_for_the_end_of_a_message(told, options, ids):
    assert set(told(**options)) == ids


def test_a_password_that_is_never_used(told):
    problems = told(username="u", password="p", oauth2_token="t")
    text = "MAILERS['default']: the password is not used: the backend logs in with the access token."
    assert problems == {"W001": text}


@pytest.fixture
def client_certificate(tmp_path):
    """A certificate and its key, in one file."""
    issued = trustme.CA().issue_cert("client.example")
    issued.private_key_and_cert_chain_pem.write_to_path(path := tmp_path / "client.pem")
    return path


def test_a_password_beside_a_client_certificate(told, client_certificate):
    problems = told(username="u", password="p", auth_method="EXTERNAL", ssl_certfile=client_certificate)
    text = "MAILERS['default']: the password is not used: the backend logs in with the client certificate."
    assert problems == {"W001": text}
    assert told(username="u", auth_method="EXTERNAL", ssl_certfile=client_certificate) == {}
    assert told(username="u", password="p", ssl_certfile=client_certificate) == {}
    assert told(username="u", ssl_certfile=client_certificate) == {}


def test_a_client_certificate_that_is_never_loaded(told):
    problems = told(ssl_certfile="c.pem", tls_options={"context": ssl.create_default_context})
    text = "MAILERS['default']: ssl_certfile is not used: tls_options['context'] replaces it."
    assert problems == {"W004": text}
    assert told(tls_options={"context": ssl.create_default_context}) == {}


def test_a_user_name_without_a_secret(told):
    text = "MAILERS['default']: username is set without a password or an access token, so the backend does not log in."
    assert told(username="u") == told(username="u", password="") == {"W007": text}
    assert told(username="", password="") == {}
    assert told(username="u", password="p") == {}


def test_a_certificate_that_nobody_checks(told):
    assert set(told(tls_options={"verify": False})) == {"W008"}


@pytest.mark.parametrize("option", ["ssl_certfile", "ssl_keyfile", "ca_file"])
@pytest.mark.parametrize(
    ("kind", "identity", "text"),
    [
        ("missing", "E001", "cannot be read: No such file or directory"),
        ("directory", "E001", "cannot be read: Is a directory"),
        ("empty", "E001", "is empty"),
        ("text", "E004", "contains no "),
        ("broken", "E004", "cannot be used: "),
    ],
)
def test_a_file_that_does_not_work(told, tmp_path, client_certificate, option, kind, identity, text):
    path = tmp_path / "file.pem"
    if kind == "directory":
        path.mkdir()
    elif kind != "missing":
        what = "PRIVATE KEY" if option == "ssl_keyfile" else "CERTIFICATE"
        broken = f"-----BEGIN {what}-----\nbm9uZQ==\n-----END {what}-----\n"
        path.write_text({"empty": "", "text": "hello", "broken": broken}[kind])
    options = {
        "ssl_certfile": {"ssl_certfile": path, "ssl_keyfile": client_certificate},
        "ssl_keyfile": {"ssl_certfile": client_certificate, "ssl_keyfile": path},
        "ca_file": {"tls_options": {"ca_file": path}},
    }[option]
    (told_id, problem) = told(**options).popitem()
    assert told_id == identity
    name = "tls_options['ca_file']" if option == "ca_file" else option
    assert f"{name} {str(path)!r}" in problem
    assert text in problem


def test_a_key_of_another_certificate(told, tmp_path, client_certificate):
    trustme.CA().issue_cert("other.example").private_key_pem.write_to_path(path := tmp_path / "other.pem")
    problems = told(ssl_certfile=client_certificate, ssl_keyfile=path)
    assert set(problems) == {"E004"}
    assert f"ssl_keyfile {str(path)!r} does not belong to ssl_certfile {str(client_certificate)!r}" in problems["E004"]


def test_ciphers_that_there_are_not(told):
    assert (
        "tls_options['ciphers'] has no cipher that OpenSSL knows: 'nonsense'"
        in told(tls_options={"ciphers": "nonsense"})["E001"]
    )
    assert told(tls_options={"ciphers": "HIGH"}) == {}


def test_all_that_is_wrong_is_said_at_once(told, monkeypatch):
    monkeypatch.setitem(extras.EXTRAS, "oauth2", ("no_such_library",))
    monkeypatch.setitem(extras.EXTRAS, "proxy", ("none_such",))
    (text,) = told(
        username="u", oauth2={"client_id": "a"}, proxy="socks5://h:1", max_connections=0, on_partial_refusal="x"
    ).values()
    for part in (
        "oauth2 for refresh_token needs refresh_token, token_url",
        "max_connections must be",
        "on_partial_refusal must be",
        "oauth2 needs no_such_library: pip install 'django-smtp-pool[oauth2]'",
        "proxy needs none_such",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("setting", "nearest"),
    [
        ("EMAIL_POOL_MAX_CONECTIONS", "EMAIL_POOL_MAX_CONNECTIONS"),
        ("EMAIL_POOL_SERVICE_NAME", None),
        ("EMAIL_MAX_CONNECTIONS", "EMAIL_POOL_MAX_CONNECTIONS"),
        ("EMAIL_RATE_LIMIT", "EMAIL_POOL_RATE_LIMIT"),
    ],
)
def test_a_misspelt_setting(told, settings, setting, nearest):
    setattr(settings, setting, 1)
    hint = f" Did you mean {nearest}?" if nearest else ""
    assert told() == {"W006": f"{setting} is not a setting of Django or django-smtp-pool.{hint}"}


def test_settings_of_others_are_none_of_our_business(told, settings):
    settings.EMAIL_ACTIVATION_URL = settings.EMAIL_CONFIRMATION_DAYS = settings.EMAILS_PER_PAGE = 1
    settings.EMAIL_SUBJECT_PREFIX = "x"
    assert told() == {}


def test_external_without_what_it_needs(told):
    text = "MAILERS['default']: auth_method EXTERNAL needs {}"
    assert told(auth_method="EXTERNAL") == {"E001": text.format("ssl_certfile: the client certificate to log in with")}
    problems = told(auth_method="EXTERNAL", ssl_certfile="c.pem", use_tls=False)
    assert problems == {"E001": text.format("use_tls or use_ssl: a client certificate needs TLS")}


def test_a_proof_of_the_password_may_go_in_clear(told):
    assert told(username="u", password="p", auth_method="SCRAM-SHA-256", use_tls=False) == {}
    assert set(told(username="u", password="p", auth_method="PLAIN", use_tls=False)) == {"E002"}


def test_settings_that_nobody_reads(told, settings):
    assert told() == {}
    settings.EMAIL_SERVICE, settings.EMAIL_OAUTH2, settings.EMAIL_POOL_MAX_CONNECTIONS = "gmail", GRANT, 3
    found = [problem.msg for problem in checks.check_mailers(None)]
    assert found == ["EMAIL_SERVICE is ignored: MAILERS is defined.", "EMAIL_OAUTH2 is ignored: MAILERS is defined."]
    settings.MAILERS = {"default": {"BACKEND": "django.core.mail.backends.smtp.EmailBackend"}}
    assert checks.check_mailers(None) == []


def test_more_connections_than_allowed(told, monkeypatch):
    text = "MAILERS['default']: Outlook365 allows 3 connections at once, and max_connections is {} in each of {} "
    text += "processes."
    assert told(service="office365", host=None, max_connections=4) == {"W003": text.format(4, 1)}
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    assert told(service="office365", host=None) == {"W003": text.format(3, 4)}
    monkeypatch.setenv("WEB_CONCURRENCY", "many")
    assert told(service="office365", host=None) == {}


def test_a_limit_over_all_processes(told, monkeypatch):
    store = {"rate_storage": "redis://:hidden@cache.example.com"}
    assert told(rate_limit=3, **store) == {}
    assert told(service="office365", host=None, **store) == {}, "that one brings a limit"
    text = "MAILERS['default']: rate_storage needs rate_limit or rate_limits: set one of them, or remove it"
    assert told(**store) == {"E001": text}
    (text,) = told(rate_limit=3, rate_storage="redis://:hid/den@h").values()
    assert text.startswith("MAILERS['default']: rate_storage must look like 'redis://host:6379/0'; in a password, ")
    monkeypatch.setitem(extras.EXTRAS, "ratelimit", ("limits", "no_such_library"))
    text = "MAILERS['default']: rate_storage needs no_such_library: pip install 'django-smtp-pool[ratelimit]'"
    assert told(rate_limit=3, **store) == {"E001": text}
    assert told(rate_limit=3) == {}


def test_the_setting_is_for_the_mailers_that_have_a_limit(told, settings):
    settings.EMAIL_POOL_RATE_STORAGE = "redis://cache.example.com"
    assert told() == {}
    assert told(rate_limit=3) == {}
    settings.EMAIL_POOL_RATE_STORAGE = "cache.example.com"
    assert told() == {}
    assert set(told(rate_limit=3)) == {"E001"}


PROXY = "socks5h://user:hidden@proxy.example:1080"


def test_a_missing_extra_for_proxies(told, monkeypatch):
    assert told(proxy=PROXY) == {}
    monkeypatch.setitem(extras.EXTRAS, "proxy", ("no_such_library",))
    text = "MAILERS['default']: proxy needs no_such_library: pip install 'django-smtp-pool[proxy]'"
    assert told(proxy=PROXY) == {"E001": text}


def test_a_proxy_that_cannot_be_meant(told):
    problems = told(proxy="ftp://user:hidden@proxy.example:1080")
    assert problems["E001"].startswith("MAILERS['default']: proxy must be a URL such as 'socks5://user:password@")
    assert "hidden" not in str(problems)


def test_a_password_in_clear_through_a_proxy(told):
    problems = told(host="localhost", use_tls=False, username="u", password="p", proxy=PROXY)
    where = "localhost through the proxy socks5h://proxy.example:1080"
    assert problems == {"E002": f"MAILERS['default']: the password would be sent to {where} unencrypted."}


def test_a_proxy_for_every_mailer_that_has_use_for_one(told, settings):
    settings.EMAIL_POOL_PROXY = "ftp://nowhere"
    assert set(told()) == {"E001"}
    assert told(host="unix:/run/smtp", use_tls=False) == {}
    assert told(source_address="192.0.2.1") == {}
    settings.EMAIL_POOL_PROXY = PROXY
    assert set(told(host="unix:/run/smtp", use_tls=False, proxy=PROXY)) == {"E001"}


def test_a_missing_extra(told, monkeypatch):
    monkeypatch.setitem(extras.EXTRAS, "oauth2", ("no_such_library",))
    problems = told(username="u", oauth2=GRANT)
    assert problems == {
        "E001": "MAILERS['default']: oauth2 needs no_such_library: pip install 'django-smtp-pool[oauth2]'"
    }


def test_the_extra_for_scram_is_missed_where_scram_is_asked_for(told, monkeypatch):
    monkeypatch.setitem(extras.EXTRAS, "scram", ("no_such_library",))
    assert told(username="u", password="p") == {}
    text = "MAILERS['default']: auth_method SCRAM-SHA-1 needs no_such_library: pip install 'django-smtp-pool[scram]'"
    assert told(username="u", password="p", auth_method="scram-sha-1") == {"E001": text}
