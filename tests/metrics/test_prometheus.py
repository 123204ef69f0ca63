"""Prometheus' metrics of one process; many processes are in tests/neighbours."""

import asyncio
import signal
import threading

import pytest

from django_smtp_pool.core.errors import Failure, PoolTimeout
from tests.handlers import SIGNAL, handling
from tests.mailing import message
from tests.metrics.conftest import cancel_at_the_end, pools
from tests.realservers.waiting import eventually
from tests.servers import Fault, FaultServer, faults
from tests.servers.certificates import certificates

prometheus_client = pytest.importorskip("prometheus_client")

from django_smtp_pool.metrics.prometheus import collector  # noqa: E402 - needs the library
from django_smtp_pool.metrics.prometheus.collector import PrometheusObserver  # noqa: E402


class Scraper:
    """A registry with our metrics alone, and what it says."""

    def __init__(self):
        self.observer = PrometheusObserver(pools)
        self.registry = prometheus_client.CollectorRegistry()
        self.registry.register(self.observer)

    def __call__(self, name, **labels):
        """Return the value of a metric, added up over the labels that are not given."""
        samples = [sample for family in self.registry.collect() for sample in family.samples]
        found = [
            each.value for each in samples if each.name == f"smtp_pool_{name}" and labels.items() <= each.labels.items()
        ]
        return sum(found)

    @property
    def text(self):
        return prometheus_client.generate_latest(self.registry).decode()


@pytest.fixture(name="scraped")
def fixture_scraped():
    return Scraper()


def test_messages_by_outcome_reuse_and_phase(server, watched, scraped):
    server.chunking = True
    backend = watched(server, scraped.observer)
    mails = [message(number) for number in range(3)]
    for mail in mails:
        backend.send_messages([mail])
    assert scraped("messages_total", outcome="accepted", reused="false", server=f"127.0.0.1:{server.port}") == 1
    assert scraped("messages_total", outcome="accepted", reused="true") == 2
    assert scraped("messages_total") == 3
    statuses = [mail.smtp_pool_status for mail in mails]
    for phase, seconds in (("wait", "waited"), ("connect", "connected"), ("server", "sent")):
        expected = sum(getattr(status, seconds) for status in statuses)
        assert scraped("message_duration_seconds_sum", phase=phase) == pytest.approx(expected)
    assert scraped("message_duration_seconds_count", phase="connect") == 1
    assert scraped("message_duration_seconds_count", phase="server") == 3
    assert scraped("message_attempts_sum") == scraped("message_attempts_count") == 3
    assert scraped("opened_connections_total") == 1
    assert scraped("failures_total") == 0


@pytest.mark.parametrize(("options", "round_trips"), [({"chunking": True}, [2, 1]), ({"chunking": False}, [2, 2])])
def test_round_trips(server, watched, scraped, options, round_trips):
    vars(server).update(options)
    backend = watched(server, scraped.observer)
    for number, expected in enumerate(round_trips):
        before = scraped("message_round_trips_sum")
        backend.send_messages([message(number)])
        assert scraped("message_round_trips_sum") - before == expected


FAILURES = [
    ("rcpt", faults.code_5xx, "refused", "rcpt"),
    ("mail", faults.code_5xx, "refused", "mail"),
    ("end", faults.reset, "unknown", "content"),
    ("banner", faults.code_5xx, "not_sent", "greeting"),
    ("ehlo", faults.fin, "not_sent", "ehlo"),
]


@pytest.mark.parametrize(("at", "do", "outcome", "stage"), FAILURES)
def test_failures_by_stage(server, watched, scraped, at, do, outcome, stage):
    server.fault = Fault(at=at, do=do, times=None)
    with pytest.raises(Failure):
        watched(server, scraped.observer, max_requeues=0).send_messages([message()])
    assert scraped("failures_total", outcome=outcome, stage=stage) == scraped("failures_total") == 1
    assert scraped("messages_total", outcome=outcome) == scraped("messages_total") == 1


def test_a_server_that_is_not_there(server, watched, scraped):
    server.refuse()
    with pytest.raises(ConnectionRefusedError):
        watched(server, scraped.observer).send_messages([message()])
    assert scraped("failures_total", outcome="not_sent", stage="connect") == 1
    assert scraped("failed_connections_total", stage="connect") == 1
    assert scraped("message_duration_seconds_count", phase="connect") == 1


def test_a_refused_login(watched, scraped):
    tls = certificates().server_context()
    with FaultServer(implicit_tls=tls, require_auth=True) as server:
        options = {"use_ssl": True, "tls_options": {"verify": False}, "username": "user", "password": "wrong"}
        with pytest.raises(Failure):
            watched(server, scraped.observer, **options).send_messages([message()])
    assert scraped("failed_connections_total", stage="auth") == 1
    assert scraped("failures_total", outcome="not_sent", stage="auth") == 1


def test_another_attempt(server, watched, scraped):
    backend = watched(server, scraped.observer)
    backend.send_messages([message(1)])
    server.fault = Fault(at="mail", do=faults.code_421)
    backend.send_messages([message(2)])
    assert scraped("retries_total", stage="mail") == scraped("retries_total") == 1
    assert scraped("message_attempts_sum") == 3
    assert scraped("messages_total", outcome="accepted", reused="false") == 2
    assert scraped("closed_connections_total", reason="out of step") == 1


def test_who_waits_is_seen_while_it_waits(server, watched, scraped, held_messages):
    backend = watched(server, scraped.observer, max_connections=1)
    with held_messages(server, backend, [message(1), message(2)]):
        eventually(lambda: scraped("waiting_messages"), otherwise=lambda: scraped.text)
        assert scraped("waiting_messages") == 1
        assert scraped("connections", state="busy") == 1
        assert scraped("connections", state="idle") == 0
        assert scraped("max_connections") == 1
    assert scraped("waiting_messages") == 0
    assert scraped("connections", state="idle") == scraped("connections") == 1


def test_a_wait_that_is_too_long_is_measured(server, watched, scraped, held_messages):
    backend = watched(server, scraped.observer, max_connections=1, acquire_timeout=0.05)
    with held_messages(server, backend, [message(1)]):
        late = message(2)
        with pytest.raises(PoolTimeout):
            backend.send_messages([late])
        assert scraped("failures_total", outcome="not_sent", stage="pool") == 1
        assert scraped("message_duration_seconds_sum", phase="wait") >= 0.05
        assert late.smtp_pool_status.waited >= 0.05


def test_what_is_left_of_a_rate_limit(server, watched, scraped):
    backend = watched(server, scraped.observer, rate_limits=["10/day"])
    backend.send_messages([message()])
    assert scraped("rate_left", limit="10/day") == 9


def test_every_message_of_a_batch_counts(server, watched, scraped):
    server.fault = Fault(at="rcpt", do=faults.code_5xx, times=2)
    with pytest.raises(Failure):
        watched(server, scraped.observer).send_messages([message(number) for number in range(20)])
    assert scraped("messages_total", outcome="accepted") == 18
    assert scraped("messages_total", outcome="refused") == 2


def test_a_batch_whose_server_is_gone_has_waited_for_it(server, watched, scraped):
    server.refuse()
    with pytest.raises(ConnectionRefusedError):
        watched(server, scraped.observer).send_messages([message(1), message(2)])
    assert scraped("failures_total", stage="connect") == 1
    assert scraped("message_duration_seconds_sum", phase="connect") > 0


def test_in_an_event_loop(server, watched, scraped):
    backend = watched(server, scraped.observer)

    async def main():
        await backend.asend_messages([message(1)])
        await backend.asend_messages([message(2), message(3)])

    asyncio.run(main())
    assert scraped("messages_total", outcome="accepted") == 3


def test_a_message_that_an_interrupt_leaves_in_doubt_counts(server, watched, scraped):
    cancel_at_the_end(server, watched(server, scraped.observer))
    assert scraped("failures_total", outcome="unknown", stage="interrupt") == scraped("messages_total") == 1


def test_a_message_that_a_signal_leaves_in_doubt_counts(server, watched, scraped):
    backend = watched(server, scraped.observer)
    server.hold("end")
    main, has_struck = threading.get_ident(), threading.Event()

    def handler(number, frame):
        if not has_struck.is_set():
            has_struck.set()
            raise KeyboardInterrupt

    def strike():
        assert server.wait_for(lambda: server.held)
        while not has_struck.is_set():  # one that comes just before a system call does not end it
            signal.pthread_kill(main, SIGNAL)
            has_struck.wait(0.05)

    with handling(handler):
        thread = threading.Thread(target=strike)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            backend.send_messages([message()])
        thread.join(30)
    server.release()
    assert scraped("failures_total", outcome="unknown", stage="interrupt") == scraped("messages_total") == 1
    assert backend.pool.stats().messages_unknown == 1


def test_a_scrape_waits_for_no_message_for_ever(server, watched, scraped, monkeypatch):
    monkeypatch.setattr(collector, "LONGEST_WAIT", 0.01)
    watched(server, scraped.observer).send_messages([message()])
    with scraped.observer.lock:
        assert scraped("messages_total") == 1


def test_no_address_is_in_any_label(watched, scraped):
    with FaultServer(require_auth=True) as server:
        server.fault = [
            Fault(at="rcpt", do=faults.reply("550 5.1.1 <ann@example.com> is unknown"), times=1),
            Fault(at="mail", do=faults.reply("450 4.7.1 <from@example.com> sends too much"), times=1),
        ]
        backend = watched(server, scraped.observer, username="user", password="secret")
        for number in range(3):
            with_failures = [message(number, to=["ann@example.com"])]
            try:
                backend.send_messages(with_failures)
            except Failure:
                continue
        assert scraped("messages_total", outcome="refused") >= 1
    assert "@" not in scraped.text
    assert 'user"' not in scraped.text


def test_install_registers_once(monkeypatch):
    from django_smtp_pool import registry as registries
    from django_smtp_pool.core.events.events import Observers as Empty
    from django_smtp_pool.metrics import prometheus

    monkeypatch.setattr(registries, "observers", Empty([]))
    own = prometheus_client.CollectorRegistry()
    prometheus.install(own)
    prometheus.install(own)
    assert len(registries.observers._observers) == 1
    assert "smtp_pool_waiting_messages" in prometheus_client.generate_latest(own).decode()
