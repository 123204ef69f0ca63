"""Well-known providers: every name is found, presets fail closed, and the user's own values win."""

import json
import re
from importlib import resources
from pathlib import Path

import django
import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given
from hypothesis import strategies as st

from django_smtp_pool.backend import PooledBackend
from django_smtp_pool.checks import check_mailers
from django_smtp_pool.core.options.quotas import Quota
from django_smtp_pool.services import all_services, find, normalise, search
from tests.mailing import message
from tests.servers import FaultServer
from tests.servers.certificates import certificates

HAS_MAILERS = django.VERSION >= (6, 1)
SERVICES = all_services()
NAMED = [(name, each) for each in SERVICES for name in (each.name, *each.aliases, *each.domains)]
old_way = pytest.mark.filterwarnings("ignore:The EMAIL_", "ignore:get_connection", "ignore:Django 2028")


def backend(**options):
    """Return a backend as this Django makes one; nothing of it comes from settings."""
    return PooledBackend(alias="shop" if HAS_MAILERS else None, **options)


def placed(**options):
    server = backend(**options).config.server
    return server.host, server.port, server.use_ssl, server.use_tls


# -- the data -------------------------------------------------------------------------------------------------


def test_there_are_as_many_as_we_say():
    assert len(SERVICES) == 92 + 8 + 1 + 5  # the list, regions of SES, SocketLabs, five of 2025 and later


def listed():
    """Return (host, port, mode of TLS, mechanism, names) of each provider that nodemailer lists."""
    lines = Path(__file__).with_name("known_services.txt").read_text(encoding="utf-8").splitlines()
    facts = [line.split(" ", 3) for line in lines if not line.startswith("#")]
    return [(*place.rsplit(":", 1), tls, mechanism, names.split(", ")) for place, tls, mechanism, names in facts]


def test_every_provider_of_the_list_is_here():
    assert len(listed()) == 92
    assert len({find(names[0]).name for *_, names in listed()}) == 92


@pytest.mark.parametrize(("host", "port", "tls", "mechanism", "names"), listed(), ids=[row[-1][0] for row in listed()])
def test_a_provider_is_where_the_list_says_by_all_its_names(host, port, tls, mechanism, names):
    service = find(names[0])
    assert {find(name).name for name in names} == {service.name}
    assert (service.host, service.port, service.tls) == (host, int(port), tls)
    assert service.options.get("auth_method", "-") == mechanism


def test_the_file_is_tidy():
    text = resources.files("django_smtp_pool").joinpath("services.json").read_text(encoding="utf-8")
    names = list(json.loads(text))
    assert names == sorted(names, key=str.lower)
    assert max(map(len, text.splitlines())) <= 150


def test_no_key_means_two():
    keys = [(key, each.name) for each in SERVICES for key in set(each.keys)]
    assert len({key for key, _ in keys}) == len(keys)


@pytest.mark.parametrize("service", SERVICES, ids=lambda each: each.name)
def test_every_preset_makes_a_backend(service):
    config = backend(service=service.name).config
    assert (config.server.host, config.server.port) == (service.host, service.port)
    encrypted = config.server.use_ssl or config.server.use_tls
    assert encrypted is (service.name != "Maildev")
    assert not (config.server.use_ssl and config.server.use_tls)
    assert config.mailer.service == service.name


def every_spelling(name):
    return [name, name.upper(), name.lower(), f" {name} ", f"{name}!", "_".join(name)]


@pytest.mark.parametrize(("name", "service"), NAMED, ids=[name for name, _ in NAMED])
def test_every_name_is_found_however_it_is_written(name, service):
    assert {find(spelling).name for spelling in every_spelling(name)} == {service.name}
    assert find(f"user@{name}").name == service.name


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Office365", "Outlook365"),
        ("office 365", "Outlook365"),
        ("Microsoft365", "Outlook365"),
        ("outlook.office365.com", "Outlook365"),
        ("someone@gmail.com", "Gmail"),
        ("a@b@yahoo.com", "Yahoo"),
        ("feishu.cn", "Feishu Mail"),
        ("ses-me-central-1", "SES-ME-CENTRAL-1"),
        ("brevo", "SendinBlue"),
    ],
)
def test_what_people_write(name, found):
    assert find(name).name == found


@pytest.mark.parametrize("region", ["af-south-1", "ap-south-2", "ap-southeast-3", "ca-west-1", "eu-south-1",
                                    "il-central-1", "me-south-1", "me-central-1"])  # fmt: skip
def test_the_regions_of_ses(region):
    assert find(f"SES-{region}").host == f"email-smtp.{region}.amazonaws.com"


@given(st.text())
def test_any_text_is_found_or_told(name):
    try:
        assert normalise(name) in find(name).keys
    except ValueError as error:
        assert str(error).startswith("must be a known provider")  # noqa: PT017 - one or the other


@pytest.mark.parametrize(
    ("wrong", "text"),
    [("gmial", "did you mean 'Gmail'"), ("SES-EU-WEST-9", "'SES-EU-WEST-1'"), ("zzzzzzzz", "set host and port"),
     (1, "must be the name of a provider")],
)  # fmt: skip
def test_an_unknown_one_is_an_error_with_the_nearest(wrong, text):
    with pytest.raises(ImproperlyConfigured, match=re.escape(text)):
        backend(service=wrong)


def test_searching():
    assert {each.name for each in search("ses europe")} == {
        f"SES-EU-{region}" for region in ("CENTRAL-1", "NORTH-1", "SOUTH-1", "WEST-1", "WEST-2", "WEST-3")
    }
    assert [each.name for each in search("Office365.com")] == ["Outlook365"]
    assert search() == list(SERVICES)
    assert search("no such thing") == []


# -- what wins ------------------------------------------------------------------------------------------------

GMAIL = "smtp.gmail.com"
OFFICE = "smtp.office365.com"


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"service": "gmail"}, (GMAIL, 465, True, False)),
        ({"service": "gmail", "host": "relay.example"}, ("relay.example", 465, True, False)),
        ({"service": "gmail", "host": ""}, (GMAIL, 465, True, False)),
        ({"service": "gmail", "port": 587}, (GMAIL, 587, False, True)),
        ({"service": "gmail", "port": "587"}, (GMAIL, 587, False, True)),
        ({"service": "gmail", "port": 2465}, (GMAIL, 2465, True, False)),
        ({"service": "gmail", "port": 9999}, (GMAIL, 9999, True, False)),
        ({"service": "gmail", "port": 587, "use_ssl": True}, (GMAIL, 587, True, False)),
        ({"service": "gmail", "use_tls": True}, (GMAIL, 587, False, True)),
        # No STARTTLS, says the user; TLS from the first octet is what use_ssl is about, and stays.
        ({"service": "gmail", "use_tls": False}, (GMAIL, 465, True, False)),
        ({"service": "gmail", "use_ssl": False}, (GMAIL, 587, False, True)),
        ({"service": "gmail", "use_ssl": False, "use_tls": False}, (GMAIL, 25, False, False)),
        ({"service": "office365"}, (OFFICE, 587, False, True)),
        ({"service": "office365", "use_ssl": False}, (OFFICE, 587, False, True)),
        ({"service": "office365", "use_tls": False}, (OFFICE, 587, False, False)),
        ({"service": "office365", "use_tls": False, "use_ssl": False}, (OFFICE, 587, False, False)),
        ({"service": "gmail", "opportunistic_tls": True}, (GMAIL, 465, True, False)),
        ({"service": "office365", "use_ssl": True}, (OFFICE, 465, True, False)),
        ({"service": "office365", "port": 465}, (OFFICE, 465, True, False)),
        ({"service": "office365", "opportunistic_tls": True}, (OFFICE, 587, False, False)),
        ({"service": "office365", "opportunistic_tls": True, "use_tls": True}, (OFFICE, 587, False, True)),
        ({"service": "maildev"}, ("localhost", 1025, False, False)),
        ({"service": "maildev", "port": 587}, ("localhost", 587, False, False)),
        ({"service": "maildev", "use_tls": True}, ("localhost", 1025, False, True)),
    ],
)
def test_the_users_own_values_win(options, place):
    assert placed(**options) == place


@pytest.mark.parametrize(
    ("service", "limits"),
    [
        ("office365", {"max_connections": 3, "rate_limit": 30, "rate_delta": 60}),
        ("mailersend", {"max_messages": 5}),
        ("socketlabs", {"max_messages": 50, "max_connections": 10}),
        ("ses-eu-west-1", {"idle_timeout": 8}),
        ("azure", {"rate_limit": None, "quotas": (Quota(limit=30, seconds=60), Quota(limit=100, seconds=3600))}),
        ("gmail", {"max_connections": 5, "max_messages": 100, "rate_limit": None, "idle_timeout": 60}),
    ],
)
def test_limits_are_defaults(service, limits):
    pool = backend(service=service).config.pool
    assert {key: getattr(pool, key) for key in limits} == limits
    assert backend(service=service, max_messages=7).config.pool.max_messages == 7


def test_a_setting_wins_over_a_preset(settings):
    settings.EMAIL_POOL_MAX_CONNECTIONS = 4
    assert backend(service="office365").config.pool.max_connections == 4
    assert backend(service="office365", max_connections=2).config.pool.max_connections == 2


def test_a_rate_of_the_users_own_is_one_a_second():
    pool = backend(service="office365", rate_limit=5).config.pool
    assert (pool.rate_limit, pool.rate_delta) == (5, 1)


def test_the_login_that_a_provider_wants():
    assert backend(service="zoho").config.server.auth_method == "LOGIN"
    assert backend(service="zoho", auth_method="PLAIN").config.server.auth_method == "PLAIN"
    token = backend(service="zoho", username="u", oauth2_token="t").config.server
    assert token.auth_method is None


def test_by_position_as_django_takes_them():
    server = PooledBackend(
        "mail.example", 2525, "u", alias="shop" if HAS_MAILERS else None, service="gmail"
    ).config.server
    assert (server.host, server.port, server.username, server.use_tls) == ("mail.example", 2525, "u", True)


def test_a_preset_does_not_split_a_pool():
    named = backend(service="gmail", username="u", password="p")
    spelt = backend(host=GMAIL, port=465, use_ssl=True, username="u", password="p")
    assert named.pool is spelt.pool


# -- settings -------------------------------------------------------------------------------------------------


@pytest.fixture
def email(settings):
    """A project with EMAIL_* settings, whatever the Django."""
    if HAS_MAILERS:
        del settings.MAILERS
    settings.EMAIL_BACKEND = "django_smtp_pool.backend.PooledBackend"
    return settings


@old_way
@pytest.mark.parametrize(
    ("own", "place"),
    [
        ({}, (GMAIL, 465, True, False)),
        ({"EMAIL_HOST": "relay.example"}, ("relay.example", 465, True, False)),
        ({"EMAIL_PORT": 587}, (GMAIL, 587, False, True)),
        ({"EMAIL_USE_TLS": True}, (GMAIL, 587, False, True)),
        ({"EMAIL_USE_TLS": False, "EMAIL_USE_SSL": False}, (GMAIL, 25, False, False)),
    ],
)
def test_the_setting(email, own, place):
    email.EMAIL_SERVICE = "Gmail"
    for name, value in own.items():
        setattr(email, name, value)
    server = PooledBackend(alias=None).config.server
    assert (server.host, server.port, server.use_ssl, server.use_tls) == place
    assert check_mailers(None) == []


@old_way
def test_an_argument_wins_over_the_setting(email):
    email.EMAIL_SERVICE = "Gmail"
    assert PooledBackend(alias=None, service="office365").config.server.host == OFFICE
    assert PooledBackend(alias=None, host="localhost").config.server.host == "localhost"


@old_way
def test_an_unknown_setting_is_named(email):
    email.EMAIL_SERVICE = "Gmial"
    with pytest.raises(ImproperlyConfigured, match=r"^EMAIL_SERVICE: service must be a known .*'Gmail'"):
        PooledBackend(alias=None)
    (problem,) = check_mailers(None)
    assert problem.id == "smtp_pool.E001"
    assert problem.msg.startswith("EMAIL_BACKEND: EMAIL_SERVICE: service must be a known provider, not 'Gmial'")


@pytest.mark.skipif(not HAS_MAILERS, reason="MAILERS came with Django 6.1")
def test_under_mailers_the_setting_is_nobodys(settings):
    settings.EMAIL_SERVICE = "gmail"
    assert backend(host="localhost").config.server.host == "localhost"


@pytest.mark.skipif(not HAS_MAILERS, reason="MAILERS came with Django 6.1")
def test_a_mailer_with_a_service_needs_no_host(settings):
    from django.core import mail

    own = {"BACKEND": "django_smtp_pool.backend.PooledBackend", "OPTIONS": {"service": "Fast Mail"}}
    settings.MAILERS = {"default": own}
    assert mail.mailers["default"].config.server.host == "smtp.fastmail.com"
    assert check_mailers(None) == []


# -- on the wire ----------------------------------------------------------------------------------------------


def test_a_preset_fails_closed():
    with FaultServer() as server:  # it offers no STARTTLS
        with pytest.raises(OSError, match="does not offer STARTTLS"):
            backend(service="office365", host=server.host, port=server.port).send_messages([message()])
        assert not server.commands("MAIL")


def test_mail_goes_by_a_preset_and_the_users_own_host():
    with FaultServer(starttls=certificates().server_context()) as server:
        own = {"host": server.host, "port": server.port, "tls_options": {"verify": False}}
        assert backend(service="office365", **own).send_messages([message()]) == 1
        assert server.accepted[0].tls


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("Cloudflare Email", ("smtp.mx.cloudflare.net", 465, True, False)),
        ("Azure Communication Services", ("smtp.azurecomm.net", 587, False, True)),
        ("HVE", ("smtp.hve.mx.microsoft", 587, False, True)),
        ("lettermint", ("smtp.lettermint.co", 465, True, False)),
        ("Maileroo", ("smtp.maileroo.com", 465, True, False)),
        ("MailPace", ("smtp.mailpace.com", 587, False, True)),
        ("OhMySMTP", ("smtp.mailpace.com", 587, False, True)),
    ],
)
def test_newer_providers(name, place):
    assert placed(service=name) == place


@pytest.mark.parametrize("own", [{"rate_limits": ["500/hour"]}, {"rate_limit": 5}])
def test_limits_of_the_users_own_replace_those_of_the_preset(own):
    (quota,) = backend(service="azure", **own).config.pool.quotas
    assert quota.limit in {500, 5}
