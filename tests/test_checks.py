"""System checks of who we are to the server; those of bad values are in backend/test_settings.py."""

import ssl

import django
import pytest

from django_smtp_pool import checks
from django_smtp_pool.core.net import proxy as tunnel
from django_smtp_pool.core.rate_limit import redis as rate_storage
from django_smtp_pool.core.smtp import scram
from django_smtp_pool.oauth2 import generators as oauth2

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
    assert problems == {"E002": "MAILERS['default']: the access token would travel to mail.example in clear."}


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
    assert problems == {"W001": "MAILERS['default']: the password is never used: we log in by access token."}


def test_a_password_beside_a_client_certificate(told):
    problems = told(username="u", password="p", auth_method="EXTERNAL", ssl_certfile="c.pem")
    assert problems == {"W001": "MAILERS['default']: the password is never used: we log in by client certificate."}
    assert told(username="u", auth_method="EXTERNAL", ssl_certfile="c.pem") == {}
    assert told(username="u", password="p", ssl_certfile="c.pem") == {}


def test_a_client_certificate_that_is_never_loaded(told):
    problems = told(ssl_certfile="c.pem", tls_options={"context": ssl.create_default_context})
    text = "MAILERS['default']: ssl_certfile is never loaded: tls_options['context'] replaces it."
    assert problems == {"W004": text}
    assert told(tls_options={"context": ssl.create_default_context}) == {}


def test_external_without_what_it_needs(told):
    text = "MAILERS['default']: auth_method EXTERNAL needs {}"
    assert told(auth_method="EXTERNAL") == {"E001": text.format("ssl_certfile: the client certificate to log in by")}
    problems = told(auth_method="EXTERNAL", ssl_certfile="c.pem", use_tls=False)
    assert problems == {"E001": text.format("use_tls or use_ssl: a certificate is shown under TLS only")}


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
    assert told(**store) == {"E001": "MAILERS['default']: rate_storage is of no use without rate_limit or rate_limits"}
    (text,) = told(rate_limit=3, rate_storage="redis://:hid/den@h").values()
    assert text.startswith("MAILERS['default']: rate_storage must look like 'redis://host:6379/0'; in a password, ")
    monkeypatch.setattr(rate_storage, "MODULES", ("limits", "no_such_library"))
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
    monkeypatch.setattr(tunnel, "MODULES", ("no_such_library",))
    text = "MAILERS['default']: proxy needs no_such_library: pip install 'django-smtp-pool[proxy]'"
    assert told(proxy=PROXY) == {"E001": text}


def test_a_proxy_that_cannot_be_meant(told):
    problems = told(proxy="ftp://user:hidden@proxy.example:1080")
    assert problems["E001"].startswith("MAILERS['default']: proxy must be a URL such as 'socks5://user:password@")
    assert "hidden" not in str(problems)


def test_a_password_in_clear_through_a_proxy(told):
    problems = told(host="localhost", use_tls=False, username="u", password="p", proxy=PROXY)
    where = "localhost through the proxy socks5h://proxy.example:1080"
    assert problems == {"E002": f"MAILERS['default']: the password would travel to {where} in clear."}


def test_a_proxy_for_every_mailer_that_has_use_for_one(told, settings):
    settings.EMAIL_POOL_PROXY = "ftp://nowhere"
    assert set(told()) == {"E001"}
    assert told(host="unix:/run/smtp", use_tls=False) == {}
    assert told(source_address="192.0.2.1") == {}
    settings.EMAIL_POOL_PROXY = PROXY
    assert set(told(host="unix:/run/smtp", use_tls=False, proxy=PROXY)) == {"E001"}


def test_a_missing_extra(told, monkeypatch):
    monkeypatch.setattr(oauth2, "MODULES", ("no_such_library",))
    problems = told(username="u", oauth2=GRANT)
    assert problems == {
        "E001": "MAILERS['default']: oauth2 needs no_such_library: pip install 'django-smtp-pool[oauth2]'"
    }


def test_the_extra_for_scram_is_missed_where_scram_is_asked_for(told, monkeypatch):
    monkeypatch.setattr(scram, "MODULES", ("no_such_library",))
    assert told(username="u", password="p") == {}
    text = "MAILERS['default']: auth_method SCRAM-SHA-1 needs no_such_library: pip install 'django-smtp-pool[scram]'"
    assert told(username="u", password="p", auth_method="scram-sha-1") == {"E001": text}
