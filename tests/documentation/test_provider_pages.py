"""The pages of docs/providers: every block of settings is run as it stands, and makes the mailer that it promises."""

import builtins
import importlib.util
import itertools
import json
import re
from pathlib import Path
from types import SimpleNamespace

import django
import pytest

from django_smtp_pool import conf
from django_smtp_pool.backend import PooledBackend
from django_smtp_pool.checks import check_mailers
from django_smtp_pool.services import find
from django_smtp_pool.verify.refusals import KNOWN

HAS_MAILERS = django.VERSION >= (6, 1)
DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((DOCS / "providers").glob("*.rst"))}
PROVIDERS = {name: text for name, text in PAGES.items() if name != "index"}
SECRET = "from-the-environment"
BLOCK = re.compile(r"^( *)\.\. code-block:: python\n\n((?:\1 {4}.*\n|\n)+)", re.MULTILINE)
PRESET = re.compile(r"(?m)^\.\. service-preset:: (.*)$")

pytestmark = pytest.mark.filterwarnings("ignore:The EMAIL_", "ignore:get_connection", "ignore:Django 2028")


def blocks(text):
    """Return the Python of a page, block by block."""
    return [re.sub(rf"(?m)^{indent} {{3,4}}", "", code) for indent, code in BLOCK.findall(text)]


def named(kind):
    """Return the parameters (page, code) for blocks of a kind: what they assign to begins with it."""
    return [
        pytest.param(page, code, id=f"{page}-{number}")
        for page, text in PROVIDERS.items()
        for number, code in enumerate(each for each in blocks(text) if each.startswith(kind))
    ]


class Environment(dict):
    """Has every variable; those that name a file or hold a key are none of ours to read here."""

    def __missing__(self, name):
        assert re.fullmatch(r"[A-Z]+(_[A-Z0-9]+)+", name)
        return SECRET


def run(code):
    """Return what a block of settings defines."""
    names = {"os": SimpleNamespace(environ=Environment())}
    exec(code, names)
    return {name: value for name, value in names.items() if name.isupper()}


def secrets_of(server):
    """Return every secret of the options."""
    grant = server.oauth2
    given = [server.password, *((grant.client_secret, grant.refresh_token) if grant else ())]
    return [each.reveal() for each in given if each is not None]


def assert_as_promised(config, page, *, host=None, port=None):
    """Check that a mailer can log in where the preset says, with secrets from the environment only."""
    server, preset = config.server, find(config.mailer.service)
    assert preset.name in [find(name).name for name in PRESET.findall(PROVIDERS[page])]
    assert (server.host, server.port) == (host or preset.host, port or preset.port)
    assert (server.use_ssl, server.use_tls) == (preset.tls == "implicit", preset.tls == "starttls")
    assert server.has_login
    assert set(secrets_of(server)) <= {SECRET}
    assert not re.search(
        r"\w@(?!example\.com|\w+\.example\.com|gmail\.com|outlook\.com|fastmail\.com)", PROVIDERS[page]
    )


def needs_extra(code):
    if "oauth2" in code.lower():
        pytest.importorskip("authlib", reason="the extra oauth2 is not installed")


@pytest.fixture(autouse=True)
def _one_process(monkeypatch):
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)


@pytest.mark.parametrize(("page", "code"), named("EMAIL_"))
def test_the_settings(settings, page, code):
    needs_extra(code)
    if HAS_MAILERS:
        del settings.MAILERS
    given = run(code)
    assert set(given) - {"EMAIL_BACKEND", "DEFAULT_FROM_EMAIL"} <= {one.setting for one in conf.OPTIONS}
    for name, value in given.items():
        setattr(settings, name, value)
    assert check_mailers(None) == []
    config = PooledBackend(alias=None).config
    assert_as_promised(config, page, host=given.get("EMAIL_HOST"), port=given.get("EMAIL_PORT"))


@pytest.mark.skipif(not HAS_MAILERS, reason="MAILERS came with Django 6.1")
@pytest.mark.parametrize(("page", "code"), named("MAILERS"))
def test_the_mailers(settings, page, code):
    from django.core import mail

    needs_extra(code)
    for name, value in run(code).items():
        setattr(settings, name, value)
    assert check_mailers(None) == []
    for alias, mailer in settings.MAILERS.items():
        own = mailer["OPTIONS"]
        assert_as_promised(mail.mailers[alias].config, page, host=own.get("host"), port=own.get("port"))


@pytest.mark.parametrize("page", PROVIDERS)
def test_each_page_has_settings_for_each_django(page):
    starts = [code.split(" ", 1)[0] for code in blocks(PROVIDERS[page])]
    old, new = starts.count("EMAIL_BACKEND"), starts.count("MAILERS")
    assert old > 0
    assert new >= old  # what has two mailers has no counterpart without MAILERS


@pytest.mark.parametrize("page", PROVIDERS)
def test_the_same_on_each_django(settings, page):
    """A pair of blocks is one mailer, told in two ways."""
    codes = [run(code) for code in blocks(PROVIDERS[page]) if code.startswith(("EMAIL_", "MAILERS"))]
    pairs = [(old, new) for old, new in itertools.pairwise(codes) if "EMAIL_SERVICE" in old]
    assert pairs
    for old, new in pairs:
        options = new["MAILERS"]["default"]["OPTIONS"]
        assert old == {
            "EMAIL_BACKEND": new["MAILERS"]["default"]["BACKEND"],
            **{conf.BY_KEY[key].setting: value for key, value in options.items()},
            **{name: value for name, value in new.items() if name != "MAILERS"},
        }


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: f"{known.hosts[0]}-{known.code}")
def test_each_refusal_that_we_know_is_on_the_page_of_its_provider(known):
    pages = [text for text in PROVIDERS.values() if find(PRESET.search(text)[1]).host.endswith(known.hosts)]
    codes = re.escape(str(known.code)) + (
        f"[ -]{re.escape('.'.join(map(str, known.enhanced)))}" if known.enhanced else ""
    )
    assert all(re.search(rf"``{codes}\b", text) for text in pages)
    assert pages or "yahoo.com" in known.hosts


def test_every_page_is_in_the_contents():
    assert "providers/index" in (DOCS / "index.rst").read_text(encoding="utf-8")
    assert sorted(re.findall(r"(?m)^   ([\w-]+)$", PAGES["index"])) == sorted(PROVIDERS)


# -- getting a refresh token ----------------------------------------------------------------------------------

SCRIPTS = [
    pytest.param(code, id=page)
    for page, text in PROVIDERS.items()
    for code in blocks(text)
    if code.startswith("from authlib")
]


@pytest.mark.parametrize("code", SCRIPTS)
def test_the_script_that_gets_a_refresh_token(code, monkeypatch, capsys):
    requests = pytest.importorskip("requests")
    pytest.importorskip("authlib", reason="the extra oauth2 is not installed")
    asked = []

    def answer(self, request, **_):
        asked.append(request)
        response = requests.Response()
        response.status_code, response.request, response.url = 200, request, request.url
        response._content = json.dumps({"access_token": "a", "refresh_token": "the-refresh-token"}).encode()
        return response

    def type_in(prompt):
        shown = capsys.readouterr().out
        state = re.search(r"state=(\w+)", shown)
        return f"http://localhost:8080/?code=the-code&state={state[1]}" if state else "typed"

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", answer)
    monkeypatch.setattr(builtins, "input", type_in)
    exec(code, {})
    assert capsys.readouterr().out == "the-refresh-token\n"
    (request,) = asked
    provider = find("Gmail" if "google" in code else "Office 365")
    assert request.url == provider.oauth2["token_url"].replace("{tenant}", "typed")
    assert {"grant_type=authorization_code", "code=the-code", "client_id=typed", "client_secret=typed"} <= set(
        request.body.split("&")
    )


# -- the presets that are shown -------------------------------------------------------------------------------


@pytest.fixture(name="service_preset", scope="module")
def fixture_service_preset():
    """Return the module that makes the tables of presets."""
    spec = importlib.util.spec_from_file_location("service_preset", DOCS / "_ext" / "service_preset.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_preset_is_shown_whole(service_preset):
    assert dict(service_preset.rows("Office 365")) == {
        "``service``": "``Outlook365``, ``Office 365``, ``Microsoft 365``, ``outlook.office365.com``",
        "Server": "``smtp.office365.com``, port 587, STARTTLS (``use_tls``)",
        "Options": "``max_connections=3``, ``rate_limit=30``, ``rate_delta=60``",
        "``oauth2``: ``token_url``": "``https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token``",
        "``oauth2``: ``scope``": "``https://outlook.office365.com/.default``",
    }


@pytest.mark.parametrize("name", [name for text in PROVIDERS.values() for name in PRESET.findall(text)])
def test_every_preset_that_is_shown_exists(service_preset, name):
    assert service_preset.table(name)[0] == ".. list-table::"
