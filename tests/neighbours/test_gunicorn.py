"""Under gunicorn: each request sends a message, while workers are replaced in every way gunicorn knows."""

import http.client
import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.neighbours.available import need_package
from tests.neighbours.processes import python
from tests.neighbours.project.pool import MAX_CONNECTIONS
from tests.realservers.waiting import eventually

MESSAGES = 500
WORKERS = 2
CLIENTS = 8  # requests at a time


@contextmanager
def site(
    project,
    *options,
    workers=WORKERS,
    hooks="gunicorn_hooks",
    application="tests.neighbours.project.web:application",
    **env,
):
    """Run the site under gunicorn; give its process and the port it listens on."""
    need_package("gunicorn", install="gunicorn")
    gunicorn = ["-m", "gunicorn", "--config", f"python:tests.neighbours.project.{hooks}", "--no-control-socket"]
    options = ["--bind", "127.0.0.1:0", "--workers", workers, *options]
    # gevent itself warns where it finds ssl imported before it, as it is under --preload.
    strict = not {"gevent", "--preload"} <= set(options)
    command = python(*gunicorn, *options, application, strict=strict)
    with project.start(*command, name="gunicorn", **env) as process:
        wait_for_workers(process, number=workers)
        yield process, int(re.search(r"Listening at: http://127\.0\.0\.1:([0-9]+)", process.errors)[1])


def ask(port, number):
    """Ask the site to send one message, and return the process that did."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", f"/send/{number}")
        response = connection.getresponse()
        text = response.read().decode()
    finally:
        connection.close()
    assert response.status == 200, text
    sent, pid = re.fullmatch(r"(\d+) by (\d+)", text).groups()
    assert sent == "1"
    return int(pid)


def ask_for_all(port, numbers, *, meanwhile):
    """Ask for many messages, several at a time; return the processes that sent them."""
    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = [clients.submit(ask, port, number) for number in numbers]
        meanwhile()
        return {answer.result() for answer in answers}


def wait_for_workers(process, *, number=WORKERS, other_than=frozenset()):
    """Wait until gunicorn has as many workers as it should, all ready; return their process ids."""

    def ready():
        workers = set(process.children())
        are_ready = all(f"Worker ready (pid: {pid})" in process.errors for pid in workers)
        return workers if len(workers) == number and are_ready and workers.isdisjoint(other_than) else None

    return eventually(lambda: ready() or process.has_ended, otherwise=lambda: process.errors)


def replace_workers(process, ledger):
    """Have gunicorn replace all its workers (HUP), and then lose one to a SIGTERM."""
    ledger.wait_for_messages(MESSAGES // 3, process)
    before = set(process.children())
    process.signal(signal.SIGHUP)
    workers = wait_for_workers(process, other_than=before)
    ledger.wait_for_messages(MESSAGES * 2 // 3, process)
    lost = max(workers)
    os.kill(lost, signal.SIGTERM)
    wait_for_workers(process, other_than={lost})


def end(process):
    """End gunicorn as a service manager does."""
    process.signal(signal.SIGTERM)
    # Its workers leave the socket that they listen on to the garbage collector.
    listener = r"<socket.socket fd=\d+, family=2, type=\d+, proto=0, laddr=\('127.0.0.1', \d+\)>"
    process.assert_clean_end(but=f"Exception ignored in: {listener}|ResourceWarning: unclosed {listener}")


KINDS = {
    "sync": ["--worker-class", "sync"],
    "gthread": ["--worker-class", "gthread", "--threads", "4"],
    "gevent": ["--worker-class", "gevent"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_workers_are_replaced(kind, ledger, make_project):
    if kind == "gevent":
        need_package("gevent", install="gevent")
    with site(make_project(), *KINDS[kind]) as (process, port):
        pids = ask_for_all(port, range(MESSAGES), meanwhile=lambda: replace_workers(process, ledger))
        end(process)
    ledger.assert_exactly_once(MESSAGES)
    ledger.assert_all_gone()
    per_process = 1 if kind == "sync" else MAX_CONNECTIONS
    assert len(pids) <= ledger.connections <= len(pids) * per_process
    assert ledger.quits() == ledger.connections


@pytest.mark.parametrize("kind", KINDS)
def test_preload_with_a_warm_connection_in_the_master(kind, ledger, make_project):
    if kind == "gevent":
        need_package("gevent", install="gevent")
    with site(make_project(), *KINDS[kind], "--preload", SEND_BEFORE_FORK="1") as (process, port):
        pids = ask_for_all(port, range(1, MESSAGES), meanwhile=lambda: replace_workers(process, ledger))
        assert process.pid not in pids
        end(process)
    ledger.assert_exactly_once(MESSAGES)
    ledger.assert_all_gone()
    per_process = 1 if kind == "sync" else MAX_CONNECTIONS
    assert len(pids) + 1 <= ledger.connections <= len(pids) * per_process + 1
    assert ledger.quits() == ledger.connections
    # The children inherited the master's connection: not an octet of theirs is on it.
    assert [message.connection for message in ledger.accepted].count(1) == 1


def test_max_requests(ledger, make_project):
    with site(make_project(), "--max-requests", "100", "--max-requests-jitter", "20") as (process, port):
        pids = ask_for_all(port, range(MESSAGES), meanwhile=lambda: None)
        wait_for_workers(process)
        end(process)
    ledger.assert_exactly_once(MESSAGES)
    ledger.assert_all_gone()
    assert len(pids) >= MESSAGES // 120
    assert ledger.quits() == ledger.connections == len(pids)
