"""Where options come from, and what is said of those that are no good: at construction, and by `manage.py check`."""

import math
import re
import subprocess
import sys
from pathlib import Path

import django
import pytest
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.core.mail.backends.locmem import EmailBackend as LocmemBackend

from django_smtp_pool import conf, get_pool
from django_smtp_pool.backend import PooledBackend
from django_smtp_pool.checks import check_mailers
from tests.backend.project import HAS_MAILERS, POOLED
from tests.mailing import backend_for, message
from tests.servers import FaultServer
from tests.servers.certificates import certificates

ROOT = Path(__file__).parents[2]
FROM, TO = "from@example.com", ["to@example.com"]

needs_mailers = pytest.mark.skipif(not HAS_MAILERS, reason="MAILERS came with Django 6.1")
# What Django 6.1 says of the old way, which is what these tests go.
old_way = pytest.mark.filterwarnings(
    "ignore:The EMAIL_", "ignore:get_connection", "ignore:Django 2028", "ignore:The 'auth_user'", "ignore:The 'fail_sil"
)


@pytest.fixture
def email(settings, server):
    """A project with EMAIL_* settings, whatever the Django."""
    if HAS_MAILERS:
        del settings.MAILERS
    settings.EMAIL_BACKEND = POOLED
    settings.EMAIL_HOST = server.host
    settings.EMAIL_PORT = server.port
    return settings


@pytest.fixture
def mailers(settings):
    """Return a function that gives a project mailers, each with these options."""

    def define(**mailers):
        settings.MAILERS = {alias: {"BACKEND": POOLED, "OPTIONS": options} for alias, options in mailers.items()}
        return settings

    return define


# -- EMAIL_* --------------------------------------------------------------------------------------------------


@old_way
def test_one_setting_changes(email, server):
    assert mail.send_mail("Subject", "Body", FROM, TO) == 1
    assert mail.send_mail("Subject", "Body", FROM, TO) == 1
    assert mail.send_mass_mail([("Subject", "Body", FROM, TO)] * 2) == 2
    assert len(server.accepted) == 4
    assert get_pool().stats().messages_accepted == 4


@old_way
def test_identity_comes_from_the_settings(email):
    with FaultServer(starttls=certificates().server_context(), require_auth=True) as server:
        email.EMAIL_PORT = str(server.port)
        email.EMAIL_USE_TLS = True
        email.EMAIL_HOST_USER, email.EMAIL_HOST_PASSWORD = "user", "secret"
        email.EMAIL_TLS_OPTIONS = {"verify": False}
        email.EMAIL_LOCAL_HOSTNAME = "client.example.com"
        assert mail.send_mail("Subject", "Body", FROM, TO) == 1
        assert (server.accepted[0].tls, server.accepted[0].user) == (True, "user")
        assert server.commands("EHLO")[-1][1] == "EHLO client.example.com"
        get_pool().close(timeout=0)


@old_way
def test_another_account_for_one_mail(email, server):
    """`send_mail` has arguments for that, and passes None where they are not given."""
    email.EMAIL_HOST_USER, email.EMAIL_HOST_PASSWORD = "nobody", "wrong"
    assert mail.send_mail("Subject", "Body", FROM, TO, auth_user="user", auth_password="secret") == 1
    assert server.accepted[0].user == "user"
    assert mail.send_mail("Subject", "Body", FROM, TO, fail_silently=True) == 0


@old_way
def test_argument_before_setting_before_default(email):
    assert mail.get_connection().config.pool.max_connections == 5
    email.EMAIL_POOL_MAX_CONNECTIONS = 3
    assert mail.get_connection().config.pool.max_connections == 3
    assert mail.get_connection(max_connections=2).config.pool.max_connections == 2
    assert mail.get_connection(max_connections=None).config.pool.max_connections == 3


@old_way
def test_none_is_not_given_and_zero_and_false_mean_themselves(email):
    email.EMAIL_POOL_MAX_MESSAGES = 0
    email.EMAIL_POOL_PIPELINING = False
    email.EMAIL_POOL_IDLE_TIMEOUT = None
    email.EMAIL_TIMEOUT = None
    config = mail.get_connection().config
    assert (config.pool.max_messages, config.server.pipelining) == (0, False)
    assert (config.pool.idle_timeout, config.server.waits.reply) == (60, 60)
    config = mail.get_connection(max_messages=None, pipelining=None).config
    assert (config.pool.max_messages, config.server.pipelining) == (0, False)
    config = mail.get_connection(max_messages=7, pipelining=True, idle_timeout=0).config
    assert (config.pool.max_messages, config.server.pipelining, config.pool.idle_timeout) == (7, True, 0)


@old_way
@pytest.mark.parametrize(
    ("given", "options", "port"),
    [
        ({}, {}, 25),
        ({"EMAIL_USE_TLS": True}, {}, 25),
        ({"EMAIL_USE_SSL": True}, {}, 465),
        ({}, {"use_ssl": True}, 465),
        ({"EMAIL_USE_SSL": True}, {"use_ssl": False}, 25),
        ({"EMAIL_USE_SSL": True, "EMAIL_PORT": 25}, {}, 25),
        ({"EMAIL_USE_SSL": True, "EMAIL_PORT": 2465}, {}, 2465),
        ({"EMAIL_USE_SSL": True}, {"port": 2465}, 2465),
    ],
)
def test_the_port_where_none_is_given(settings, given, options, port):
    if HAS_MAILERS:
        del settings.MAILERS
    settings.EMAIL_BACKEND = POOLED
    for name, value in given.items():
        setattr(settings, name, value)
    backend = mail.get_connection(**options)
    assert (backend.port, backend.config.server.port) == (port, port)


# -- MAILERS --------------------------------------------------------------------------------------------------


@needs_mailers
def test_several_mailers(mailers, server):
    with FaultServer() as bulk:
        mailers(
            default={"host": server.host, "port": server.port},
            bulk={"host": bulk.host, "port": bulk.port, "max_connections": 2},
        )
        assert mail.send_mail("Subject", "Body", FROM, TO) == 1
        for _ in range(3):
            assert mail.send_mail("Subject", "Body", FROM, TO, using="bulk") == 1
        assert (len(server.accepted), len(bulk.accepted)) == (1, 3)
        assert (server.connections, bulk.connections) == (1, 1)
        assert mail.mailers["bulk"].alias == "bulk"
        assert get_pool("bulk").stats().max_connections == 2
        get_pool("bulk").close(timeout=5)


@needs_mailers
def test_settings_of_the_pool_are_defaults_for_every_mailer(mailers):
    settings = mailers(default={"host": "localhost"}, other={"host": "localhost", "max_connections": 2})
    settings.EMAIL_POOL_MAX_CONNECTIONS = 3
    assert mail.mailers["default"].config.pool.max_connections == 3
    assert mail.mailers["other"].config.pool.max_connections == 2


@needs_mailers
def test_settings_of_identity_are_ignored(mailers):
    settings = mailers(default={"host": "localhost"})
    settings.EMAIL_LOCAL_HOSTNAME = "client.example.com"
    settings.EMAIL_OAUTH2_TOKEN = "of somebody"
    settings.EMAIL_ALLOW_INSECURE_AUTH = True
    server = mail.mailers["default"].config.server
    assert (server.local_hostname, server.oauth2_token, server.allow_insecure_auth) == (None, None, False)


@needs_mailers
@pytest.mark.parametrize(("options", "port"), [({}, 25), ({"use_tls": True}, 587), ({"use_ssl": True}, 465)])
def test_the_port_of_a_mailer(mailers, options, port):
    mailers(default={"host": "localhost", **options})
    assert mail.mailers["default"].config.server.port == port


@needs_mailers
@old_way
def test_arguments_over_the_default_mailer(mailers, server):
    mailers(default={"host": server.host, "port": server.port, "username": "nobody", "password": "wrong"})
    assert mail.send_mail("Subject", "Body", FROM, TO, auth_user="user", auth_password="secret") == 1
    assert mail.send_mail("Subject", "Body", FROM, TO, fail_silently=True) == 0
    assert mail.get_connection(max_connections=2).config.pool.max_connections == 2


@needs_mailers
def test_a_mailer_needs_a_host(mailers):
    mailers(default={})
    with pytest.raises(mail.InvalidMailer, match=r"MAILERS\['default'\]: OPTIONS must define 'host'"):
        mail.mailers["default"]


# -- what is no good ------------------------------------------------------------------------------------------

# option: (a value that is no good, what is said of it)
BAD = {
    "max_connections": (0, r"max_connections must be a whole number from 1, not 0"),
    "max_messages": (-1, r"max_messages must be a whole number from 0, not -1"),
    "acquire_timeout": ("soon", r"acquire_timeout must be a number of seconds above 0, not 'soon'"),
    "on_partial_refusal": ("shout", r"on_partial_refusal must be one of 'warn', 'ignore', 'raise', not 'shout'"),
    "pipelining": ("yes", r"pipelining must be True or False, not 'yes'"),
    "auth_method": ("GSSAPI", r"auth_method must be one of 'PLAIN'.* not 'GSSAPI'"),
    "tls_options": ({"cafile": "x"}, r"tls_options has unknown keys: cafile; known are ca_file"),
    "port": (70000, r"port must be a whole number from 1 to 65535, not 70000"),
    "timeout": (0, r"timeout must be a number of seconds above 0, not 0"),
    "min_connections": (9, r"min_connections must not be above max_connections: 9 > 5"),
}
UNKNOWN = {
    "max_connection": r"Unknown options 'max_connection'\. Did you mean 'max_connections' for 'max_connection'\?",
    "maxConnections": r"Unknown options 'maxConnections'\. 'maxConnections' is called 'max_connections' here\.",
    "greetingTimeout": r"Unknown options 'greetingTimeout'\. 'greetingTimeout' is called 'greeting_timeout' here\.",
    "EMAIL_POOL_MAX_MESSAGES": r"Unknown options .*Did you mean 'max_messages' for 'EMAIL_POOL_MAX_MESSAGES'\?",
    "zzz": r"Unknown options 'zzz'\.$",
}


def construct(**options):
    """Return a backend, as this Django makes one."""
    return PooledBackend(alias="shop" if HAS_MAILERS else None, **{"host": "localhost", **options})


def problems():
    """Return the ids and texts of what our checks find; that `manage.py check` runs them is seen below."""
    found = [(each.id, each.msg) for each in check_mailers(None)]
    return dict(found) if len(found) < 2 else found


@pytest.mark.parametrize("option", BAD)
def test_a_bad_value_is_told_at_construction(option):
    value, text = BAD[option]
    with pytest.raises(ImproperlyConfigured, match=text) as caught:
        construct(**{option: value})
    if HAS_MAILERS:
        assert str(caught.value).startswith("MAILERS['shop']: ")
        assert isinstance(caught.value, mail.InvalidMailer)


@pytest.mark.parametrize("option", UNKNOWN)
def test_an_unknown_option_is_told_at_construction(option):
    with pytest.raises(ImproperlyConfigured, match=UNKNOWN[option]):
        construct(**{option: 3})


def test_both_modes_of_tls_are_told_at_construction():
    # Django's own words; a ValueError where there is no MAILERS.
    with pytest.raises((ImproperlyConfigured, ValueError), match=r"mutually exclusive|incompatible"):
        construct(use_tls=True, use_ssl=True)


# name: (options, what is said, in this order)
TOGETHER = {
    "an unknown service": (
        {"service": "gmial", "max_connections": 0},
        ["max_connections must", "service must be a known provider, not 'gmial': did you mean 'Gmail'"],
    ),
    "unknown options": (
        {"max_conections": 1, "foo": 2, "max_messages": -1},
        ["Unknown options 'max_conections', 'foo'.", "Did you mean 'max_connections'", "max_messages must"],
    ),
    "both modes of TLS": (
        {"use_tls": True, "use_ssl": True, "max_messages": -1, "port": 0.5},
        ["Set|set", "port must", "max_messages must"],
    ),
    "a file": (
        {"use_tls": True, "ssl_certfile": "/no/such.pem", "port": 0.5, "max_messages": -1},
        ["port must", "max_messages must", "ssl_certfile '/no/such.pem' cannot be read"],
    ),
    "a list": ({"finishers": ["x", 3], "rate_limits": ["y"]}, ["rate_limits must .*'y'", "finishers must .*'x', 3"]),
    "a very long name": ({"x" * 9999: 1}, [r"^.{0,40}Unknown options 'x{59}\.\.\.\.$"]),
}


@pytest.mark.parametrize("name", TOGETHER)
def test_all_that_is_wrong_is_said_at_once(name):
    options, texts = TOGETHER[name]
    with pytest.raises((ImproperlyConfigured, ValueError), match=".*".join(texts)) as caught:
        construct(**options)
    assert isinstance(caught.value, ImproperlyConfigured) or not HAS_MAILERS
    assert str(caught.value).count("MAILERS") == HAS_MAILERS
    assert caught.value.__context__ is None


@needs_mailers
def test_a_missing_host_and_what_else_is_wrong():
    with pytest.raises(mail.InvalidMailer, match=r"^MAILERS..shop..: OPTIONS must define 'host'. max_messages must"):
        PooledBackend(alias="shop", max_messages=-1)
    with pytest.raises(mail.InvalidMailer, match=r"^MAILERS..shop..: service must"):
        PooledBackend(alias="shop", service=["gmail"])


@old_way
def test_a_setting_is_named_where_the_value_comes_from_it(email):
    email.EMAIL_POOL_MAX_WAITING = -1
    with pytest.raises(ImproperlyConfigured, match=r"^max_messages must .*; EMAIL_POOL_MAX_WAITING: max_waiting must"):
        mail.get_connection(max_messages=-1)
    with pytest.raises(ImproperlyConfigured, match=r"^timeout must .*; max_waiting must"):
        mail.get_connection(timeout=0, max_waiting=-1)
    email.EMAIL_USE_TLS, email.EMAIL_TLS_OPTIONS = True, {"ca_file": "/no/such.pem"}
    with pytest.raises(
        ImproperlyConfigured, match=r"EMAIL_TLS_OPTIONS: tls_options\['ca_file'\] '/no/such.pem' cannot"
    ):
        mail.get_connection(max_waiting=0)


@old_way
@pytest.mark.parametrize("option", BAD)
def test_a_bad_setting_is_named(email, option):
    value, text = BAD[option]
    setting = conf.BY_KEY[option].setting
    setattr(email, setting, value)
    with pytest.raises(ImproperlyConfigured, match=f"^{setting}: {text}"):
        mail.get_connection()
    ((identifier, told),) = problems().items()
    assert identifier == "smtp_pool.E001"
    assert re.match(f"EMAIL_BACKEND: {setting}: {text}", told)


@old_way
def test_both_modes_of_tls_in_the_settings(email):
    email.EMAIL_USE_TLS = email.EMAIL_USE_SSL = True
    with pytest.raises(ValueError, match="EMAIL_USE_TLS/EMAIL_USE_SSL are mutually exclusive"):
        mail.get_connection()
    assert re.search("use_tls and use_ssl exclude each other", problems()["smtp_pool.E001"])


@old_way
@pytest.mark.parametrize(
    ("given", "is_told"),
    [
        ({}, True),
        ({"EMAIL_USE_TLS": True}, False),
        ({"EMAIL_USE_SSL": True}, False),
        ({"EMAIL_HOST": "localhost"}, False),
        ({"EMAIL_HOST": "::1"}, False),
        ({"EMAIL_ALLOW_INSECURE_AUTH": True}, False),
        ({"EMAIL_AUTH_METHOD": "CRAM-MD5"}, False),
        ({"EMAIL_AUTH_METHOD": "SCRAM-SHA-256"}, False),
        ({"EMAIL_AUTH_METHOD": "SCRAM-SHA-1"}, False),
        ({"EMAIL_AUTH_METHOD": "LOGIN"}, True),
        ({"EMAIL_HOST_PASSWORD": ""}, False),
    ],
)
def test_a_password_in_clear_is_checked(email, given, is_told):
    email.EMAIL_HOST, email.EMAIL_HOST_USER, email.EMAIL_HOST_PASSWORD = "mail.example.com", "user", "secret"
    for name, value in given.items():
        setattr(email, name, value)
    told = {"smtp_pool.E002": "EMAIL_BACKEND: the password would be sent to mail.example.com unencrypted."}
    found = problems()
    assert ("smtp_pool.W007" in found) == (email.EMAIL_HOST_PASSWORD == "")
    found.pop("smtp_pool.W007", None)
    assert found == (told if is_told else {})


@needs_mailers
def test_every_mailer_is_checked(mailers):
    mailers(
        default={"host": "localhost", "max_connection": 3},
        good={"host": "localhost"},
        clear={"host": "mail.example.com", "username": "user", "password": "secret"},
        both={"host": "localhost", "use_tls": True, "use_ssl": True},
    ).MAILERS["stock"] = {"OPTIONS": {"host": "localhost", "whatever": 1}}
    first, second, third = problems()
    assert first == (
        "smtp_pool.E001",
        "MAILERS['default']: Unknown options 'max_connection'. Did you mean 'max_connections' for 'max_connection'?",
    )
    assert second == ("smtp_pool.E002", "MAILERS['clear']: the password would be sent to mail.example.com unencrypted.")
    assert third[1].startswith("MAILERS['both']: use_tls and use_ssl exclude each other")


@needs_mailers
def test_a_mailer_without_a_host_is_checked(mailers):
    mailers(default={"use_tls": True})
    assert "host" in problems()["smtp_pool.E001"]


@old_way
def test_other_backends_are_not_our_business(email):
    email.EMAIL_POOL_MAX_CONNECTIONS = 0
    email.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    assert problems() == {}
    email.EMAIL_BACKEND = "no.such.Backend"
    assert problems() == {}


# -- settings that change -------------------------------------------------------------------------------------


@old_way
def test_changed_settings_close_the_old_pools(email, server):
    mail.send_mail("Subject", "Body", FROM, TO)
    before = get_pool()
    email.EMAIL_POOL_MAX_MESSAGES = 7
    assert server.wait_for(lambda: server.open_now == 0)
    assert len(server.commands("QUIT")) == 1
    assert get_pool() is not before
    assert get_pool().options.max_messages == 7


def test_the_test_runners_mailbox_is_not_ours():
    """Django's test runner, and pytest-django, put the locmem backend in every mailer's place."""
    mail.send_mail("Subject", "Body", FROM, TO)
    assert [each.subject for each in mail.outbox] == ["Subject"]
    with pytest.raises(ImproperlyConfigured, match=f"it uses {LocmemBackend.__module__}.EmailBackend"):
        get_pool()


# -- processes of their own -----------------------------------------------------------------------------------

EMAIL_STYLE = """
EMAIL_BACKEND = {backend!r}
EMAIL_HOST = {host!r}
EMAIL_PORT = {port}
EMAIL_POOL_MAX_CONNECTIONS = {max_connections}
"""
MAILERS_STYLE = """
MAILERS = {{
    alias: {{
        "BACKEND": {backend!r},
        "OPTIONS": {{"host": {host!r}, "port": {port}, "max_connections": {max_connections}}},
    }}
    for alias in ("default", "other")
}}
"""
SEND = """
import django
django.setup()
from django.core.mail import EmailMessage, mail_admins, send_mail
from django_smtp_pool import get_pool
for number in range(3):
    assert send_mail(f"Subject {number}", "Body", "from@example.com", ["to@example.com"]) == 1
assert EmailMessage("Subject", "Body", "from@example.com", ["to@example.com"]).send() == 1
mail_admins("Subject", "Body")
print(get_pool().stats().messages_accepted, get_pool().stats().max_connections)
"""
styles = pytest.mark.parametrize(
    "style", [EMAIL_STYLE, pytest.param(MAILERS_STYLE, marks=needs_mailers)], ids=["EMAIL_", "MAILERS"]
)


@pytest.fixture
def run(tmp_path, server):
    """Return a function that runs Python in a project of its own."""

    def run(style, *arguments, max_connections=5, more=""):
        values = {"backend": POOLED, "host": server.host, "port": server.port, "max_connections": max_connections}
        lines = ["SECRET_KEY = 'of the tests'", "INSTALLED_APPS = ['django_smtp_pool']", "ADMINS = ['a@example.com']"]
        if django.VERSION < (6, 0):
            lines[-1] = "ADMINS = [('Ann', 'a@example.com')]"
        text = "\n".join(lines) + (style or "").format(**values) + more
        (tmp_path / "project_settings.py").write_text(text)
        environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "DJANGO_SETTINGS_MODULE": "project_settings"}
        return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=60)

    return run


@styles
def test_sends_in_a_process_of_its_own_and_warns_of_nothing(run, server, style):
    is_old_way = HAS_MAILERS and style is EMAIL_STYLE
    done = run(style, "-X", "dev", "-W", "always" if is_old_way else "error", "-c", SEND)
    assert (done.returncode, done.stdout) == (0, "5 5\n"), done.stderr
    assert "django_smtp_pool" not in done.stderr  # what Django says of the old way, it says of the project
    assert is_old_way or not done.stderr
    assert server.wait_for(lambda: server.open_now == 0)
    assert (server.connections, len(server.accepted), len(server.commands("QUIT"))) == (1, 5, 1)


@styles
def test_manage_py_check_says_nothing_of_what_is_good(run, style):
    done = run(style, "-m", "django", "check")
    assert (done.returncode, done.stdout) == (0, "System check identified no issues (0 silenced).\n"), done.stderr


@styles
def test_manage_py_check_says_what_is_bad(run, server, style):
    done = run(style, "-m", "django", "check", max_connections=0)
    assert done.returncode == 1
    assert "(smtp_pool.E001)" in done.stderr
    assert "max_connections must be a whole number from 1, not 0" in done.stderr
    assert server.connections == 0


def test_manage_py_check_warns_of_a_password_in_clear(run):
    login = {"host": "mail.example.com", "username": "user", "password": "hidden away"}
    if HAS_MAILERS:
        more = f"\nMAILERS = {{'default': {{'BACKEND': {POOLED!r}, 'OPTIONS': {login!r}}}}}\n"
    else:
        more = f"\nEMAIL_BACKEND = {POOLED!r}\nEMAIL_HOST = 'mail.example.com'\n"
        more += "EMAIL_HOST_USER = 'user'\nEMAIL_HOST_PASSWORD = 'hidden away'\n"
    done = run(None, "-m", "django", "check", more=more)
    assert done.returncode == 1
    assert "(smtp_pool.E002)" in done.stderr
    assert "hidden away" not in done.stderr + done.stdout


CHANGE = """
import django
django.setup()
from django.core.mail import send_mail
from django.test import override_settings
from django_smtp_pool import get_pool
send_mail("Subject", "Body", "from@example.com", ["to@example.com"])
pool = get_pool()
with override_settings(EMAIL_POOL_MAX_MESSAGES=7):
    print(pool.is_closed, get_pool().options.max_messages)
"""


def test_changed_settings_close_the_old_pools_without_the_app(run, server):
    done = run(MAILERS_STYLE if HAS_MAILERS else EMAIL_STYLE, "-c", CHANGE, more="\nINSTALLED_APPS = []\n")
    assert (done.stdout, done.stderr) == ("True 7\n", "")
    assert len(server.accepted) == 1


def test_importing_touches_no_settings(run):
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((ROOT / "django_smtp_pool").rglob("*.py"))
        if path.parent.name != "dashboard" and path.name != "toolbar.py"  # Django imports them, by its settings
    ]
    assert len(modules) > 40
    code = f"""
import importlib
import math
for name in {modules!r}:
    importlib.import_module(name)
from django.conf import settings
print(settings.configured)
"""
    done = run(None, "-W", "error", "-c", code, more="\nraise AssertionError('the settings were read')\n")
    assert (done.stdout, done.stderr) == ("False\n", "")


@old_way
@pytest.mark.parametrize(
    ("setting", "nearest"),
    [
        ("EMAIL_SERVISE", "EMAIL_SERVICE"),
        ("EMAIL_USE_TSL", "EMAIL_USE_TLS"),
        ("EMAIL_HOST_PASWORD", "EMAIL_HOST_PASSWORD"),
        ("EMAIL_PASSWORD", "EMAIL_HOST_PASSWORD"),
        ("EMAIL_USERNAME", "EMAIL_HOST_USER"),
        ("EMAIL_POOL_HOST", "EMAIL_HOST"),
    ],
)
def test_a_misspelt_setting_that_says_who_we_are(email, setting, nearest):
    setattr(email, setting, "x")
    text = f"{setting} is not a setting of Django or django-smtp-pool. Did you mean {nearest}?"
    assert problems() == {"smtp_pool.W006": text}


def test_a_user_name_without_a_secret_is_logged_once(server, caplog):
    given = {"username": "somebody", "password": ""}
    for _ in range(3):
        assert backend_for(server, **given).send_messages([message()]) == 1
    assert [record.getMessage() for record in caplog.records if "there is no login" in record.getMessage()] == [
        f"{server.host}:{server.port}: username is set without a password or an access token, so there is no login"
    ]


@pytest.mark.parametrize(("given", "patience"), [({}, 30), ({"rate_wait": None}, math.inf), ({"rate_wait": 7}, 7)])
def test_none_is_a_value_where_it_says_how_long(server, given, patience):
    backend = backend_for(server, rate_limits="30/minute", **given)
    assert backend.config.pool.rate_patience == patience
    backend.rate_wait = None
    assert backend.config.pool.rate_patience == math.inf


@pytest.mark.parametrize(("value", "patience"), [(None, math.inf), (90, 90)])
def test_none_is_a_value_in_the_settings_too(settings, server, value, patience):
    settings.EMAIL_POOL_RATE_WAIT, settings.EMAIL_POOL_RATE_LIMITS = value, ["30/minute"]
    assert backend_for(server).config.pool.rate_patience == patience
