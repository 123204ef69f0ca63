"""The documentation's pages: complete, and equal to the code. `tox run -e docs` builds them, warnings being errors."""

import importlib.util
import re
from pathlib import Path

import pytest

import django_smtp_pool
from django_smtp_pool import conf
from django_smtp_pool.core import errors

DOCS = Path(__file__).resolve().parents[2] / "docs"
PACKAGE = Path(django_smtp_pool.__file__).parent
PAGES = sorted(path.relative_to(DOCS).with_suffix("") for path in DOCS.glob("[!_]*/**/*.rst"))
PAGES += sorted(Path(path.stem) for path in DOCS.glob("*.rst") if path.stem != "index")


@pytest.fixture(name="option_table", scope="module")
def fixture_option_table():
    """Return the module that makes the tables of options."""
    spec = importlib.util.spec_from_file_location("option_table", DOCS / "_ext" / "option_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_option_is_in_one_of_the_tables(option_table):
    kinds = re.findall(r"(?m)^\.\. option-table:: (\w+)$", (DOCS / "settings.rst").read_text(encoding="utf-8"))
    listed = [option for kind in kinds for option in option_table.options(kind)]
    assert sorted(option.key for option in listed) == sorted(conf.BY_KEY)


@pytest.mark.parametrize("option", conf.OPTIONS, ids=lambda option: option.key)
def test_a_row_tells_all_of_an_option(option, option_table):
    names, default, meaning, nodemailer = option_table.row(option)
    assert names == f"| :opt:`{option.key}`\n| ``{option.setting}``"
    assert default.startswith("``")
    assert meaning.replace("`", "")[1:-1] == option.doc.help.replace("`", "")[1:]
    assert nodemailer == (f"``{option.nodemailer}``" if option.nodemailer else "")


def test_every_page_is_in_the_contents():
    indexes = [DOCS / "index.rst", *DOCS.glob("[!_]*/index.rst")]
    listed = {
        index.parent.relative_to(DOCS) / name
        for index in indexes
        for name in re.findall(r"(?m)^   ([\w/-]+)$", index.read_text(encoding="utf-8"))
    }
    assert sorted(set(PAGES) - listed) == []


@pytest.mark.parametrize("name", ["README.rst", "SECURITY.md", ".github/ISSUE_TEMPLATE/config.yml"])
def test_links_into_the_documentation_lead_to_pages(name):
    text = (DOCS.parent / name).read_text(encoding="utf-8")
    pages = re.findall(r"readthedocs\.io/en/latest/([\w/-]+)\.html", text)
    assert [page for page in pages if not (DOCS / f"{page}.rst").exists()] == []
    linked = re.findall(r"django-smtp-pool/(?:blob|tree)/main/([\w./-]+)", text)
    assert [path for path in linked if not (DOCS.parent / path).exists()] == []


def test_every_error_is_in_the_reference():
    text = (DOCS / "reference.rst").read_text(encoding="utf-8")
    ours = {name for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, errors.Failure)}
    assert set(re.findall(r"autoexception:: (\w+)", text)) == ours


def test_the_drawing_shows_rooms_that_exist():
    drawing = (DOCS / "drawings" / "rooms.svg").read_text(encoding="utf-8")
    names = re.findall(r'class="mono">([a-z_, ]+)</text>', drawing)
    rooms = {name for group in names for name in group.split(", ")} - {"the mail server"}
    assert rooms <= {path.stem for path in PACKAGE.rglob("*.py")} | {path.name for path in PACKAGE.glob("**/")}
    assert {"backend", "registry", "delivery", "pool", "smtp", "drivers", "net"} <= rooms
