"""Every code block: Python compiles, settings make a mailer, commands parse. `test_pages.py` runs the Python."""

import ast
import configparser
import importlib
import re
import shlex
import sys
from types import ModuleType

import pytest
from django.core.management import load_command_class

from django_smtp_pool import conf
from django_smtp_pool.backend import PooledBackend
from django_smtp_pool.checks import check_mailers
from tests.backend.project import HAS_MAILERS, POOLED
from tests.documentation.blocks import PAGES, ROOT, all_blocks, blocks
from tests.documentation.settings import make_settings

LANGUAGES = {"python", "console", "sh", "text", "none", "ini", "javascript"}
PYTHON = [block for block in all_blocks("python") if not block.page.startswith("docs/providers/")]
FRAGMENTS = [block for block in PYTHON if block.code.startswith('"OPTIONS": ')]
WHOLE = [block for block in PYTHON if block not in FRAGMENTS]
SETTINGS = [block for block in WHOLE if re.search(r"(?m)^(EMAIL_\w+|MAILERS) = ", block.code)]
EXAMPLES = re.findall(
    r"(?m)^\.\. pool-option:: (\w+)\n   :example: (.+)$", (ROOT / "docs" / "options.rst").read_text(encoding="utf-8")
)

pytestmark = pytest.mark.filterwarnings("ignore:The EMAIL_", "ignore:get_connection", "ignore:Django 2028")


@pytest.fixture(autouse=True)
def _modules_of_the_reader(monkeypatch):
    """Provide the modules that the examples name."""
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    for name in ("project", "project.mail"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys.modules["project.mail"], "access_token", lambda: "token", raising=False)
    monkeypatch.setattr(sys.modules["project.mail"], "sign_by_dkim", lambda content: content, raising=False)


def ids(cases):
    return [pytest.param(block, id=block.id) for block in cases]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_names_its_language(page):
    assert {block.language for block in blocks(page)} <= LANGUAGES
    text = (ROOT / page).read_text(encoding="utf-8")
    assert re.findall(r"(?m)^ *(?!\.\.)[^|\n]*[^:\n`]::$", text) == []


@pytest.mark.parametrize("block", ids(WHOLE))
def test_python_compiles(block):
    tree = ast.parse(block.code)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "django_smtp_pool":
            module = importlib.import_module(node.module)
            assert [each.name for each in node.names if not hasattr(module, each.name)] == []


@pytest.mark.parametrize("block", ids(SETTINGS))
def test_settings_make_mailers(settings, load, block):
    given = load(block.code)
    if "MAILERS" in given and not HAS_MAILERS:
        pytest.skip("MAILERS came with Django 6.1")
    if given.get("EMAIL_BACKEND") not in {None, POOLED}:
        assert POOLED in str(
            [value for name, value in given.items() if name != "EMAIL_BACKEND"]
        )  # a queue's own setting
        given["EMAIL_BACKEND"] = POOLED
    make_settings(settings, given)
    assert check_mailers(None) == []
    for alias, mailer in given.get("MAILERS", {None: {}}).items():
        assert PooledBackend(alias=alias, **mailer.get("OPTIONS", {})).config.server.host


@pytest.mark.parametrize("block", ids(FRAGMENTS))
def test_options_make_a_mailer(settings, load, block):
    options = load(f"options = {{{block.code}}}['OPTIONS']", "options")["options"]
    assert_good(settings, options)


@pytest.mark.parametrize(("key", "example"), EXAMPLES, ids=[key for key, _ in EXAMPLES])
def test_the_example_of_an_option(settings, load, key, example):
    options = load(f"options = dict({example})", "options")["options"]
    assert key in options
    assert_good(settings, options)


def assert_good(settings, options):
    """Check that options make the same mailer in both spellings, without a complaint."""
    configs = []
    if HAS_MAILERS:
        whole = options if {"host", "service"} & options.keys() else {"host": "localhost", **options}
        make_settings(settings, {"MAILERS": {"default": {"BACKEND": POOLED, "OPTIONS": whole}}})
        assert check_mailers(None) == []
        configs.append(PooledBackend(alias="default", **whole).config)
    make_settings(settings, {"EMAIL_BACKEND": POOLED, **{conf.BY_KEY[k].setting: v for k, v in options.items()}})
    assert check_mailers(None) == []
    configs.append(PooledBackend(alias=None).config)
    assert len({config.pool for config in configs}) == 1
    for name in options.keys() & vars(configs[-1].server).keys():
        assert len({str(getattr(config.server, name)) for config in configs}) == 1


@pytest.mark.parametrize("block", ids(all_blocks("console")))
def test_commands_parse(block):
    for line in re.findall(r"(?m)^\$ (.*)$", block.code):
        words = shlex.split(line)
        assert words[:2] == ["python", "manage.py"]
        if words[2] == "smtp_pool":
            parser = load_command_class("django_smtp_pool", "smtp_pool").create_parser("manage.py", "smtp_pool")
            assert parser.parse_args(words[3:]).tool == words[3]
        else:
            assert words[2] == "check"


@pytest.mark.parametrize("page", PAGES)
def test_every_extra_exists(page):
    extras = re.findall(r"django-smtp-pool\[(\w+)\]", (ROOT / page).read_text(encoding="utf-8"))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert [extra for extra in extras if f"\n{extra} = [" not in project] == []


@pytest.mark.parametrize("block", ids(all_blocks("ini")))
def test_ini_files_parse(block):
    parser = configparser.ConfigParser()
    parser.read_string(block.code)
    assert parser.sections()
