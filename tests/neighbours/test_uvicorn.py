"""Under uvicorn: an asynchronous view awaits each message, in one event loop."""

import http.client
import re
import signal
from concurrent.futures import ThreadPoolExecutor

from tests.neighbours.available import need_package
from tests.neighbours.processes import python
from tests.neighbours.project.pool import MAX_CONNECTIONS

MESSAGES = 300
CLIENTS = 8  # requests at a time


def ask(port, number):
    """Send one request, and return the process that answered."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", f"/{number}")
        response = connection.getresponse()
        text = response.read().decode()
        assert response.status == 200, text
        return int(text)
    finally:
        connection.close()


def test_an_asynchronous_view(ledger, make_project):
    need_package("uvicorn", install="uvicorn")
    command = ["-m", "uvicorn", "tests.neighbours.project.asgi:application", "--port", "0", "--lifespan", "on"]
    with make_project("settings_asgi").start(*python(*command)) as process:
        process.wait_until_it_says("Uvicorn running on")
        port = int(re.search(r"http://127\.0\.0\.1:(\d+)", process.errors)[1])
        with ThreadPoolExecutor(CLIENTS) as clients:
            pids = set(clients.map(lambda number: ask(port, number), range(MESSAGES)))
        process.signal(signal.SIGTERM)
        process.assert_clean_end(status=-signal.SIGTERM)
    assert pids == {process.pid}
    ledger.assert_exactly_once(MESSAGES)
    ledger.assert_all_gone()
    assert ledger.connections <= MAX_CONNECTIONS
    assert ledger.quits() == ledger.connections
