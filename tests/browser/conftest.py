"""Chromium without a window, and a site of this process for it to visit."""

import os
import shutil
from pathlib import Path

import pytest
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.db import connections
from django.test.testcases import LiveServerThread

from django_smtp_pool.dashboard.recorder import recorder
from django_smtp_pool.registry import registry
from tests.browser.visitor import Visitor
from tests.dashboard.site import site

_HERE = Path(__file__).parent
# Nothing leaves the machine, and no dialogue of a first start.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_collection_modifyitems(items):
    """Mark every test of this directory."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)


def unavailable(reason):
    """Skip the test, or fail it where REQUIRE_BROWSER=1 promises that the browser is there."""
    if os.environ.get("REQUIRE_BROWSER") == "1":
        pytest.fail(f"REQUIRE_BROWSER=1, but {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def address(django_db_setup, django_db_blocker):
    """Serve the site on a free port of loopback."""
    with site(django_db_blocker):
        database = connections["default"]
        database.inc_thread_sharing()
        server = LiveServerThread("127.0.0.1", StaticFilesHandler, connections_override={"default": database})
        server.daemon = True
        server.start()
        server.is_ready.wait()
        yield f"http://127.0.0.1:{server.port}"
        server.terminate()
        database.dec_thread_sharing()
    registry.watchers.remove(recorder.watch)


@pytest.fixture(scope="module")
def chromium(address):
    """Run Debian's Chromium, for one module: while Playwright has its event loop, Django's ORM refuses to work."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        unavailable("playwright is not installed: pip install --group browser")
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None:
        unavailable("chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, address):
    """Return a function that logs a user in; see `Visitor`."""
    visitors = []

    def make(name="manager", **options):
        visitors.append(Visitor(chromium, address, name, **options))
        return visitors[-1]

    yield make
    for visitor in visitors:
        visitor.close()
    assert [each for visitor in visitors for each in visitor.complaints] == []
