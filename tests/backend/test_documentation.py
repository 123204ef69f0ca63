"""What is written about the code, compared with the code."""

import re
from pathlib import Path

import pytest

from django_smtp_pool import conf
from django_smtp_pool.core.options.options import TLSOptions

ROOT = Path(__file__).parents[2]


def text_of(name):
    """Return a document."""
    return (ROOT / name).read_text(encoding="utf-8")


def entry(option):
    """Return what the documentation is to say of an option."""
    default = {} if isinstance(option.default, TLSOptions) else option.default
    if isinstance(default, float) and default.is_integer():
        default = int(default)
    was = f"; nodemailer: ``{option.nodemailer}``" if option.nodemailer else ""
    text = option.doc.help.replace("`", "``")
    return (
        f"``{option.key}``\n    Setting ``{option.setting}``; default ``{default!r}``{was}.\n\n"
        f"    {text[0].upper()}{text[1:]}.\n"
    )


@pytest.mark.parametrize("option", conf.OPTIONS, ids=lambda option: option.key)
def test_every_option_is_documented(option):
    assert entry(option) in text_of("docs/options.rst")


def test_nothing_else_is_documented():
    text = text_of("docs/options.rst")
    assert re.findall(r"(?m)^``(\w+)``$", text) == sorted(conf.BY_KEY, key=lambda key: not conf.BY_KEY[key].is_identity)


def test_the_readme_names_options_that_exist():
    text = text_of("README.rst")
    table = text[text.index("\nOptions\n") : text.index("\nWhat differs")]
    rows = re.findall(r"(?m)^``(\w+)``[, `\w.]*?  +``(EMAIL_\w+)``[ .]*  +(\S+)", table)
    assert len(rows) > 8
    for key, setting, default in rows:
        assert conf.BY_KEY[key].setting == setting
        if default not in ("Django's", "{}"):
            assert str(conf.BY_KEY[key].default) in (default.strip('"'), f"{default}.0")


def test_every_room_is_on_the_map():
    package = ROOT / "django_smtp_pool"
    rooms = {path.parent.relative_to(package).as_posix() for path in package.glob("*/**/__init__.py")}
    listed = re.findall(r"(?m)^``([\w/]+)/``", text_of("CONTRIBUTING.rst"))
    assert rooms - {"management", "management/commands"} == set(listed) - {"django_smtp_pool"}


@pytest.mark.parametrize("heading", ["See it work", "Run the tests"])
def test_the_readme_has_one_command_for_a_fresh_machine(heading):
    section = text_of("README.rst").split(f"\n{heading}\n", 1)[1].split("\n\n\n", 1)[0]
    (command,) = re.findall(r"(?m)^    (\S.*)$", section)
    assert command.startswith("python3 -m venv .venv && .venv/bin/pip install -q -e ")
