"""Under uWSGI as the documentation recommends it: each request sends a message, and workers end as uWSGI ends them."""

import re
import signal
from contextlib import contextmanager

from tests.neighbours.available import need_package
from tests.neighbours.processes import python
from tests.neighbours.project.pool import MAX_CONNECTIONS
from tests.neighbours.test_gunicorn import ask_for_all

MESSAGES = 200
WORKERS = 2
STARTED = re.compile(r"bound to TCP address 127\.0\.0\.1:([0-9]+)")


@contextmanager
def site(project, *options, **env):
    """Run the site under uWSGI; give its process and the port it listens on."""
    need_package("pyuwsgi", install="pyuwsgi")
    usual = ["--http-socket", "127.0.0.1:0", "--master", "--processes", WORKERS, "--need-app", "--die-on-term"]
    command = [*python("-c", "import pyuwsgi; pyuwsgi.run()", strict=False), *usual, "--disable-logging", *options]
    with project.start(*command, "--module", "tests.neighbours.project.web", name="uwsgi", **env) as process:
        process.wait_until_it_says(f"spawned uWSGI worker {WORKERS}")
        yield process, int(STARTED.search(process.errors)[1])


def test_each_message_once_and_each_connection_ends_with_quit(ledger, make_project):
    with site(make_project(), "--enable-threads", "--lazy-apps", "--threads", "2") as (process, port):
        pids = ask_for_all(port, range(MESSAGES), meanwhile=lambda: None)
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
