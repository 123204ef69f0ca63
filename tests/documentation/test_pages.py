"""The Python of each page, run from top to bottom against a server, as a reader would type it in."""

import re
import sys
from types import ModuleType
from unittest.mock import MagicMock

import pytest
from django.core.mail import EmailMessage, send_mail

from tests.backend.project import HAS_MAILERS, project
from tests.documentation.blocks import PAGES, blocks
from tests.documentation.settings import FAKE_OS
from tests.mailing import message
from tests.servers import FaultServer

THIRD_PARTY = {"celery", "django.tasks", "prometheus_client"}  # what runs only where it is installed
READERS = {  # modules of the reader's own project, and of others
    "project.vault": {"vault": MagicMock()},
    "shop.models": {"Credential": MagicMock()},
    "sentry_sdk": {"init": MagicMock(), "new_scope": MagicMock(), "capture_message": MagicMock()},
}

pytestmark = pytest.mark.filterwarnings("ignore:The EMAIL_", "ignore:get_connection", "ignore:Django 2028")


@pytest.fixture(autouse=True)
def _modules_of_the_reader(monkeypatch):
    for name, contents in READERS.items():
        monkeypatch.setitem(sys.modules, name.partition(".")[0], ModuleType(name.partition(".")[0]))
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
        vars(sys.modules[name]).update(contents)


@pytest.fixture(autouse=True)
def _signals_as_before():
    from django_smtp_pool import signals

    every = [signals.message_sent, signals.message_failed, signals.token_refreshed]
    before = [list(each.receivers) for each in every]
    yield
    for signal, receivers in zip(every, before, strict=True):
        signal.receivers = receivers
        signal.sender_receivers_cache.clear()


def names_of(page):
    """Return the names that the blocks of a page define, each run after the one before it."""
    names = {
        "__name__": f"page_{page}",
        "os": FAKE_OS,
        "message": message(),
        "messages": [message(1), message(2)],
        "EmailMessage": EmailMessage,
        "send_mail": send_mail,
        "print": lambda *words: None,
    }
    for block in blocks(page):
        if block.language != "python" or block.code.startswith('"OPTIONS": '):
            continue
        code = block.code.replace("import os\n", "").replace('"require_tls": True', '"require_tls": False')
        if "from mailer." in block.code:
            continue  # run in tests/neighbours
        if not HAS_MAILERS and re.search(r"using=|\bmailers\b", block.code):
            continue
        try:
            exec(compile(code, block.id, "exec"), names)
        except ImportError as error:
            if error.name not in THIRD_PARTY:
                raise
    return names


@pytest.mark.parametrize("page", [page for page in PAGES if not page.startswith("docs/providers/")])
def test_the_python_of_a_page_runs(settings, page):
    with FaultServer() as server:
        project(settings, server)
        if HAS_MAILERS:
            settings.MAILERS = {**settings.MAILERS, "newsletter": settings.MAILERS["default"]}
        names_of(page)
