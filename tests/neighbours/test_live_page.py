"""The live page under gunicorn: whichever worker the kernel picks, the page stays with the chosen one."""

import http.client
import re
from urllib.parse import urlencode

import pytest

from tests.dashboard.site import PAGE
from tests.neighbours.processes import python
from tests.neighbours.test_gunicorn import WORKERS, ask, end, site

TOKEN = "t" * 32


class Browser:
    """Somebody who is logged in, and follows redirects as browsers do."""

    def __init__(self, port, session):
        self.port = port
        self.headers = {"Cookie": f"sessionid={session}; csrftoken={TOKEN}"}

    def get(self, address):
        """Return the page at an address."""
        return self._follow("GET", address)

    def post(self, address):
        """Press a button, and return the page that follows."""
        return self._follow("POST", address)

    def _follow(self, method, address):
        for _ in range(20):
            response, text = self._ask(method, address)
            if response.status not in {302, 307}:
                assert response.status == 200, text
                return text
            address = response.headers["Location"].partition("#")[0]
            method = method if response.status == 307 else "GET"
        raise AssertionError(f"no end of redirects: {address}")

    def _ask(self, method, address):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        body = urlencode({"csrfmiddlewaretoken": TOKEN}) if method == "POST" else None
        headers = {**self.headers, **({"Content-Type": "application/x-www-form-urlencoded"} if body else {})}
        try:
            connection.request(method, address, body, headers)
            response = connection.getresponse()
            return response, response.read().decode()
        finally:
            connection.close()


def process_of(page):
    return re.search(r'data-process="([^"]+)"', page)[1]


@pytest.fixture
def project(make_project):
    """Return a project with tables and somebody who is logged in."""
    made = make_project("settings_live_page")
    with made.start(*python("-m", "tests.neighbours.project.live_page"), name="prepare") as process:
        assert process.wait() == 0, process.errors
        made.session = process.output.strip()
    return made


def test_the_page_and_its_buttons_stay_with_one_worker(project, ledger):
    with site(project, application="tests.neighbours.project.live_page:application") as (process, port):
        browser, number, senders, shown = Browser(port, project.session), 0, set(), set()
        while len(senders) < WORKERS:
            senders.add(ask(port, number))
            number += 1
        while len(shown) < WORKERS:
            shown.add(process_of(browser.get(PAGE)))
        assert {int(each.partition("-")[0]) for each in shown} == senders
        for chosen in sorted(shown) * 5:
            assert process_of(browser.get(f"{PAGE}?process={chosen}&part=1")) == chosen
        for chosen in shown:
            page = browser.get(f"{PAGE}?process={chosen}")
            (address,) = re.findall(r'action="(\d+/drain/\?process=[^"]+)"', page)
            assert process_of(browser.post(PAGE + address)) == chosen
        ledger.assert_all_gone()
        end(process)
    ledger.assert_exactly_once(number)
    assert ledger.quits() == ledger.connections == WORKERS
