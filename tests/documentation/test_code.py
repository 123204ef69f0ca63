"""What is written about the code, compared with the code."""

import re
from pathlib import Path

import pytest

from django_smtp_pool import conf

ROOT = Path(__file__).parents[2]
DOCS = [path for path in (ROOT / "docs").rglob("*.rst") if "_build" not in path.parts]


def text_of(name):
    """Return a document."""
    return (ROOT / name).read_text(encoding="utf-8")


ENTRY = re.compile(r"(?m)^\.\. pool-option:: (\w+)\n   :example: (.+)$")


def test_every_option_is_documented_once_with_an_example():
    entries = ENTRY.findall(text_of("docs/options.rst"))
    assert sorted(key for key, _ in entries) == sorted(conf.BY_KEY)
    assert [(key, example) for key, example in entries if f"{key}=" not in example] == []


@pytest.mark.parametrize("name", ["README.rst", *sorted(path.relative_to(ROOT).as_posix() for path in DOCS)])
def test_every_setting_that_is_named_exists(name):
    named = set(re.findall(r"\bEMAIL_POOL_[A-Z0-9_]*[A-Z0-9]\b", text_of(name)))
    assert named <= {option.setting for option in conf.OPTIONS}


def test_the_readme_has_a_measured_table():
    """`python -m benchmarks --write` replaces it; docs/index.rst includes it."""
    figures = text_of("README.rst").split("\n.. benchmarks: begin\n", 1)[1].split("\n.. benchmarks: end\n", 1)[0]
    assert len(re.findall(r"(?m)^=+  =+", figures)) == 3


_ROOM = re.compile(r"``([\w/]+)/``")


def test_every_room_is_on_the_map():
    package = ROOT / "django_smtp_pool"
    rooms = {path.parent.relative_to(package).as_posix() for path in package.glob("*/**/__init__.py")}
    rooms = {room for room in rooms if room.startswith("core/") or "/" not in room} - {"management"}
    table = text_of("CONTRIBUTING.rst").split("\n=====================================  =")[1]
    listed = {each.replace("options", "core/options").replace("events", "core/events") for each in _ROOM.findall(table)}
    assert listed - {"django_smtp_pool"} == rooms


@pytest.mark.parametrize("heading", ["See it work", "Run the tests"])
def test_the_readme_has_one_command_for_a_fresh_machine(heading):
    section = text_of("README.rst").split(f"\n{heading}\n", 1)[1].split("\n\n\n", 1)[0]
    (command,) = re.findall(r"(?m)^    (\S.*)$", section)
    assert command.startswith("python3 -m venv .venv && .venv/bin/pip install -q -e ")
