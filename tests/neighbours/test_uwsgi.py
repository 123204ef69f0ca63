"""Under uWSGI as the documentation recommends it: each request sends a message, and workers end as uWSGI ends them."""

import json
import re
import signal
import socket
from contextlib import contextmanager

from tests.neighbours.available import need_package
from tests.neighbours.processes import python
from tests.neighbours.project.pool import MAX_CONNECTIONS
from tests.neighbours.test_gunicorn import ask_for_all
from tests.realservers.waiting import eventually

MESSAGES = 200
WORKERS = 2
STATS = "stats.socket"
STARTED = re.compile(r"bound to TCP address 127\.0\.0\.1:([0-9]+)")


@contextmanager
def site(project, *options, **env):
    """Run the site under uWSGI; give its process and the port it listens on."""
    need_package("pyuwsgi", install="pyuwsgi")
    usual = ["--http-socket", "127.0.0.1:0", "--master", "--processes", WORKERS, "--need-app", "--die-on-term"]
    usual += ["--stats", project.directory / STATS]
    command = [*python("-c", "import pyuwsgi; pyuwsgi.run()", strict=False), *usual, "--disable-logging", *options]
    with project.start(*command, "--module", "tests.neighbours.project.web", name="uwsgi", **env) as process:
        process.wait_until_it_says(f"spawned uWSGI worker {WORKERS}")
        yield process, int(STARTED.search(process.errors)[1])


def statuses(project):
    """Return what uWSGI says of its workers: idle, busy and so on."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(project.directory / STATS))
        with client.makefile() as answer:
            return {worker["status"] for worker in json.load(answer)["workers"]}


def test_each_message_once_and_each_connection_ends_with_quit(ledger, make_project):
    project = make_project()
    with site(project, "--enable-threads", "--lazy-apps", "--threads", "2") as (process, port):
        pids = ask_for_all(port, range(MESSAGES), meanwhile=lambda: None)
        # One that is still busy with a request, though its answer has arrived, ends without Python's exit handlers.
        eventually(lambda: statuses(project) == {"idle"}, otherwise=lambda: process.errors)
        process.signal(signal.SIGTERM)
        assert process.wait() == 0, process.errors
    ledger.assert_exactly_once(MESSAGES)
    ledger.assert_all_gone()
    assert len(pids) <= ledger.connections <= len(pids) * MAX_CONNECTIONS
    assert ledger.quits() == ledger.connections


def test_forked_with_a_warm_connection_in_the_master(ledger, make_project):
    # uWSGI forks in C; by this option it tells Python so.
    options = ["--enable-threads", "--py-call-uwsgi-fork-hooks"]
    with site(make_project(), *options, SEND_BEFORE_FORK="1") as (process, port):
        pids = ask_for_all(port, range(1, MESSAGES), meanwhile=lambda: None)
        assert process.pid not in pids
        process.signal(signal.SIGTERM)
        assert process.wait() == 0, process.errors
    ledger.assert_exactly_once(MESSAGES)
    # The workers inherited the master's connection: not an octet of theirs is on it.
    assert [message.connection for message in ledger.accepted].count(1) == 1
