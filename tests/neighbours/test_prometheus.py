"""Prometheus' multi-process mode: four workers of gunicorn write, one answers, and the sums are right."""

import http.client
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.neighbours.available import need_package
from tests.neighbours.project.pool import MAX_CONNECTIONS
from tests.neighbours.test_gunicorn import KINDS, ask, end, site, wait_for_workers
from tests.realservers.waiting import eventually

MESSAGES = 200
WORKERS = 4


@contextmanager
def measured_site(make_project, tmp_path, *options, **env):
    """Run the site with four workers that measure; give its process and port."""
    need_package("prometheus_client", install="prometheus-client")
    files = tmp_path / "metrics"
    files.mkdir()
    env = {"PROMETHEUS_MULTIPROC_DIR": str(files), **env}
    with site(
        make_project("settings_prometheus"), *options, workers=WORKERS, hooks="prometheus_hooks", **env
    ) as running:
        yield running


def scraped(port, name, **labels):
    """Scrape any worker, and return a metric, added up over the labels that are not given."""
    from prometheus_client.parser import text_string_to_metric_families

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        text = response.read().decode()
    finally:
        connection.close()
    assert response.status == 200, text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return sum(
        each.value for each in samples if each.name == f"smtp_pool_{name}" and labels.items() <= each.labels.items()
    )


def ask_for_all(port, numbers):
    """Ask for many messages until every worker has sent one; return the processes that did."""
    with ThreadPoolExecutor(16) as clients:
        return set(clients.map(lambda number: ask(port, number), numbers))


@pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_workers_are_added_up(ledger, make_project, tmp_path, kind, preload):
    """The master that has sent a message before it forks counts too, and nobody counts it twice."""
    if kind == "gevent":
        need_package("gevent", install="gevent")
    before = int(preload)
    options, env = (["--preload"], {"SEND_BEFORE_FORK": "1"}) if preload else ([], {})
    with measured_site(make_project, tmp_path, *KINDS[kind], *options, **env) as (process, port):
        numbers = iter(range(before, 100 * MESSAGES))
        pids, sent = set(), before
        while len(pids) < WORKERS:
            pids |= ask_for_all(port, [next(numbers) for _ in range(MESSAGES)])
            sent += MESSAGES
        assert len(ledger.accepted) == sent
        for _ in range(2 * WORKERS):  # whoever answers
            assert scraped(port, "messages_total", outcome="accepted") == scraped(port, "messages_total") == sent
        assert scraped(port, "opened_connections_total") == ledger.connections
        assert scraped(port, "message_duration_seconds_count", phase="server") == sent
        assert scraped(port, "message_attempts_sum") == sent
        # The gauges follow in a moment.
        eventually(
            lambda: (
                scraped(port, "connections", state="idle") == ledger.open_now
                and not scraped(port, "connections", state="busy")
            ),
            otherwise=lambda: f"{ledger.open_now} are open, {scraped(port, 'connections', state='idle')} idle",
        )
        end(process)
    ledger.assert_exactly_once(sent)


def test_what_waits_is_seen_and_a_dead_worker_is_not(ledger, make_project, tmp_path):
    with (
        measured_site(make_project, tmp_path, "--worker-class", "gthread", "--threads", "32") as (process, port),
        ThreadPoolExecutor(24) as clients,
    ):
        pids = ask_for_all(port, range(MESSAGES))
        ledger.hold("end")
        answers = [clients.submit(ask, port, number) for number in range(MESSAGES, MESSAGES + 24)]
        # Each worker has fewer connections than messages: some wait, and no event says so.
        eventually(
            lambda: scraped(port, "connections", state="busy") + scraped(port, "waiting_messages") == 24,
            otherwise=lambda: f"{scraped(port, 'waiting_messages')} wait",
        )
        assert scraped(port, "waiting_messages") >= 24 - WORKERS * MAX_CONNECTIONS
        ledger.release()
        pids |= {answer.result() for answer in answers}
        eventually(lambda: not scraped(port, "waiting_messages"), otherwise=lambda: "messages still wait")
        assert scraped(port, "messages_total") == MESSAGES + 24
        assert scraped(port, "max_connections") == len(pids) * MAX_CONNECTIONS
        lost = max(pids)
        os.kill(lost, signal.SIGTERM)
        wait_for_workers(process, number=WORKERS, other_than={lost})
        assert scraped(port, "max_connections") == (len(pids) - 1) * MAX_CONNECTIONS
        assert scraped(port, "messages_total") == MESSAGES + 24
        end(process)
    ledger.assert_exactly_once(MESSAGES + 24)
