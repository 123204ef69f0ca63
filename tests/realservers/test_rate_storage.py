"""One rate limit over processes with a real Redis: kept, without it, and when it is back."""

import io
import logging
import socket
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import pytest
from django.core.management import call_command

from django_smtp_pool import backend as backend_module
from django_smtp_pool import close_all
from django_smtp_pool.core.errors import RateStorageUnavailable
from django_smtp_pool.core.events.logs import LogObserver
from django_smtp_pool.core.options.quotas import Quota
from django_smtp_pool.core.options.storage_uri import storage_uri
from django_smtp_pool.core.rate_limit.redis import RedisWindow, StorageFailed, key_of
from django_smtp_pool.registry import Registry
from tests.backend.project import project
from tests.batches.ledger import messages, misreported, outcomes, taken
from tests.batches.test_rate_limit import fullest
from tests.clocks import ManualClock
from tests.core.fakes import in_thread
from tests.mailing import backend_for, message
from tests.servers import FaultServer
from tests.servers.record import Record

from . import redis_server
from .waiting import eventually

ROOT = Path(__file__).parents[2]
SECOND = 1_000_000
PATIENCE = 60  # seconds; only ever reached when a test fails


# -- kept ---------------------------------------------------------------------------------------------------------


class Timed(Record):
    """A record that knows when MAIL came, in microseconds by the clock of this machine, which is Redis' too."""

    def __init__(self):
        super().__init__()
        self.instants = []

    def command(self, connection, line):
        """Write down a command, and when."""
        if line.startswith("MAIL"):
            self.instants.append(time.time_ns() // 1000)
        super().command(connection, line)


@pytest.fixture
def sink():
    """Return a mail server of the tests' own: what a real one does is not the question here."""
    with FaultServer() as running:
        yield running
        close_all(timeout=0)


@pytest.fixture
def timed():
    """Return a server that writes down when MAIL came."""
    with FaultServer() as running:
        running.record = running.gate._record = Timed()
        yield running


PROGRAM = """
import os, sys
from django.conf import settings
settings.configure()
from django_smtp_pool.registry import PoolKey, registry
from django_smtp_pool.core.smtp.content import Content
from django_smtp_pool.core.smtp.envelope import Envelope
from django_smtp_pool.core.options.options import PoolOptions, ServerOptions

def sender():
    server = ServerOptions(host="127.0.0.1", port=int(sys.argv[1]), local_hostname="client.example", timeout=30)
    rule = dict(rate_limit=int(sys.argv[3]), rate_delta=1, on_rate_storage_failure="closed")
    return registry.sender(PoolKey(server=server, pool=PoolOptions(rate_storage=sys.argv[2], **rule)))

def envelope(name):
    content = f"Subject: {name}\\r\\n\\r\\n{name}\\r\\n".encode()
    return Envelope(sender="a@example.com", recipients=(f"{name}@example.com",), content=Content.of(content))

def send(name):
    delivery = sender().send(envelope(name))
    assert delivery.error is None, delivery.error

def finish(token, delivery):
    assert delivery.error is None, delivery.error
    assert delivery.attempts == 1, delivery

def wait_for(pid):
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, status
"""
BATCH = """
print("ready", flush=True)
sys.stdin.readline()
name = sys.argv[4]
sender().send_many([(number, envelope(f"{name}-{number}")) for number in range(int(sys.argv[5]))], finish, 5)
"""


def started(server, store, script, *arguments, limit=20):
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", PROGRAM + script]
    command += [str(server.port), store.patient_uri, str(limit), *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def key_for(server):
    """Return the name that the account has in the store."""
    return key_of(backend_for(server).config.server)


def keep_all(store, key):
    """Let the store forget nothing of the test: as if another mailer had a longer window."""
    store.ask("SET", f"{key}:longest", 3600 * SECOND)


def granted(store, key):
    """Return the instants at which places were given, by Redis' own clock."""
    return [int(score) for score in store.ask("ZRANGE", f"{key}:taken", 0, -1, "WITHSCORES")[1::2]]


def test_four_processes_with_five_connections_each_keep_one_limit(timed, store):
    limit, processes, each = 20, 4, 16
    key = key_for(timed)
    keep_all(store, key)
    workers = [started(timed, store, BATCH, number, each, limit=limit) for number in range(processes)]
    assert [worker.stdout.readline() for worker in workers] == ["ready\n"] * processes
    store.ask("CONFIG", "RESETSTAT")
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()
    ends = [worker.communicate(timeout=PATIENCE) for worker in workers]
    assert [(worker.returncode, errors) for worker, (_, errors) in zip(workers, ends, strict=True)] == [(0, "")] * 4
    assert set(taken(timed).values()) == {1}
    assert len(timed.accepted) == processes * each
    grants, mails = sorted(granted(store, key)), sorted(timed.record.instants)
    assert len(grants) == len(mails) == processes * each
    assert fullest(grants, SECOND) <= limit
    # No message came before its place was given; so whatever the network adds, this is what the server can see.
    lag = max(came - place for place, came in zip(grants, mails, strict=True))
    assert all(place <= came for place, came in zip(grants, mails, strict=True))
    assert fullest(mails, SECOND - lag) <= limit
    asked = store.client.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert asked <= 4 * len(mails), "nobody asks again and again"


def test_a_child_has_a_connection_of_its_own(sink, store):
    script = """
client = lambda: sender().rate_limit.rate._window._script.registered_client.client_id()
send("parent-1")
ours = client()
pid = os.fork()
if pid == 0:
    send("child")
    assert client() != ours
    os._exit(0)
wait_for(pid)
send("parent-2")
assert client() == ours
"""
    keep_all(store, key_for(sink))
    with started(sink, store, script) as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (0, "", "")
    assert len(granted(store, key_for(sink))) == 3


def test_closing_closes_and_the_next_message_connects_again(sink, store, mailer):
    def clients():
        return {each["id"] for each in store.client.client_list()}

    backend = mailer(on_rate_storage_failure="closed")
    others = clients()
    assert backend.send_messages([message()]) == 1
    (ours,) = clients() - others
    backend_module.registry.close_all(timeout=1)
    eventually(lambda: ours not in clients(), otherwise=lambda: str(store.client.client_list()))
    assert backend.send_messages([message()]) == 1
    assert len(clients() - others) == 1


def test_nothing_connects_before_the_first_message(sink, store):
    script = "sender()\nassert 'redis' not in sys.modules and 'limits' not in sys.modules\nsender().warm_up()\n"
    with started(sink, store, script + "assert 'redis' not in sys.modules\n") as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (0, "", "")


def test_trying_a_mailer_out_asks_whether_the_store_answers(sink, store, settings):
    project(settings, sink, rate_limit=5, rate_storage=store.uri)
    shown = io.StringIO()
    call_command("smtp_pool", "verify", stdout=shown, no_color=True)
    assert shown.getvalue().splitlines()[0].split() == ["ok", "rate", "limit", store.uri]
    assert granted(store, key_for(sink)) == []


def test_by_a_socket(store):
    window = RedisWindow(
        storage_uri(f"redis+unix://{store.socket}?socket_timeout=30"), "key", [Quota(limit=1, seconds=60)]
    )
    assert window.take(1) == 0
    assert window.take(1) > 0


def test_by_a_sentinel(store, tmp_path):
    sentinel = redis_server.create_sentinel(tmp_path, store)
    sentinel.start()
    try:
        window = RedisWindow(
            storage_uri(f"redis+sentinel://127.0.0.1:{sentinel.port}/mymaster"), "key", [Quota(limit=1, seconds=60)]
        )
        assert window.take(1) == 0
        assert window.take(1) > 0
        assert len(granted(store, "key")) == 1
    finally:
        sentinel.stop()


# -- without it, and when it is back ------------------------------------------------------------------------------


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def mailer(sink, store, clock, monkeypatch):
    """Return a function that makes a backend with a clock that stands still, and a limit that is far away."""
    registry = Registry(clock=clock, observer=LogObserver())
    monkeypatch.setattr("django_smtp_pool.backend.registry", registry)

    def make(**options):
        rule = {"rate_limit": 1000, "rate_delta": 600, "rate_storage": store.patient_uri}
        return backend_for(sink, **{"idle_timeout": 0, "max_lifetime": 0, **rule, **options})

    yield make
    registry.at_exit()


@pytest.fixture
def told(caplog):
    """Return a function that says what the log has told since it was last asked."""
    caplog.set_level(logging.INFO, "django_smtp_pool.pool")

    def tell():
        found = [f"{record.levelname} {record.getMessage()}" for record in caplog.records]
        caplog.clear()
        return found

    return tell


def test_open_goes_on_and_says_so_once(sink, store, clock, mailer, told):
    backend = mailer()
    assert backend.send_messages(messages(3)) == 3
    store.stop()
    assert backend.send_messages(messages(4)) == 4
    assert backend.send_messages([message()]) == 1
    (warning,) = told()
    place = f"{sink.host}:{sink.port}: rate limit: {store.uri}"
    text = f"WARNING {place} did not answer; until it does, this process keeps the limit for itself alone: "
    assert warning.startswith(text + "ConnectionError: ")
    clock.advance(5)
    assert backend.send_messages([message()]) == 1
    assert told() == []
    assert backend.pool.stats().rate_storage_failures == 2
    store.start()
    clock.advance(10)
    assert backend.send_messages(messages(2)) == 2
    assert told() == [f"WARNING {place} answers again"]
    assert len(granted(store, key_for(sink))) == 2
    assert len(sink.accepted) == 11


def test_closed_keeps_the_rest_until_it_is_back(sink, store, clock, mailer, told):
    backend = mailer(on_rate_storage_failure="closed", batch_connections=2)
    batch = messages(8)
    sink.hold("end")
    work = in_thread(backend.send_messages, batch)
    assert sink.wait_for(lambda: sink.held == 2)
    store.stop()
    sink.release()
    with pytest.raises(RateStorageUnavailable, match=r"did not answer \(ConnectionError: .* send again") as caught:
        work.join(PATIENCE)
    assert outcomes(batch) == ["accepted", "accepted", "not_sent", *[None] * 5]
    assert list(caught.value.failures) == [2]
    assert misreported(sink, batch) == []
    place = f"{sink.host}:{sink.port}: rate limit: {store.uri}"
    (warning,) = told()
    assert warning.startswith(f"WARNING {place} did not answer; until it does, nothing is sent: ConnectionError: ")
    store.start()
    with pytest.raises(RateStorageUnavailable):
        backend.send_messages(batch[2:])
    clock.advance(5)
    assert backend.send_messages(batch[2:]) == 6
    assert set(taken(sink).values()) == {1}
    assert len(taken(sink)) == 8
    assert told() == [f"WARNING {place} answers again"]


def test_a_redis_that_was_restarted_is_a_fresh_one(store, clock, mailer):
    """What it had is gone, the script too; its old connection is noticed, and nobody hears of it."""
    backend = mailer(on_rate_storage_failure="closed")
    assert backend.send_messages([message()]) == 1
    store.stop()
    store.start()
    assert backend.send_messages(messages(3)) == 3
    assert backend.pool.stats().rate_storage_failures == 0


def test_a_wrong_password_is_told_and_not_shown(store, mailer, told):
    store.ask("ACL", "SETUSER", "mail", "on", ">right-one", "~*", "+@all")
    wrong, right = (f"redis://mail:{word}@127.0.0.1:{store.port}/0" for word in ("hidden-one", "right-one"))
    assert mailer(rate_storage=wrong).send_messages([message()]) == 1
    (warning,) = told()
    assert "AuthenticationError" in warning
    with pytest.raises(RateStorageUnavailable, match="AuthenticationError") as caught:
        mailer(rate_storage=wrong, on_rate_storage_failure="closed").send_messages([message()])
    below = caught.value.with_traceback(caught.tb.tb_next)  # the test's own frame has it
    shown = traceback.TracebackException.from_exception(below, capture_locals=True)
    assert "hidden-one" not in warning + "".join(shown.format())
    assert mailer(rate_storage=right, on_rate_storage_failure="closed").send_messages([message()]) == 1


class Silence:
    """A socket that takes connections and never says a word."""

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.clients = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        for each in (self._listener, *self.clients):
            each.close()

    def _accept(self):
        while True:
            try:
                self.clients.append(self._listener.accept()[0])
            except OSError:
                return


@pytest.mark.parametrize("choice", ["open", "closed"])
def test_a_redis_that_is_silent_holds_one_message_and_not_again_and_again(sink, mailer, told, choice):
    with Silence() as silence:
        uri = f"redis://:hidden@127.0.0.1:{silence.port}/0?socket_timeout=0.2"
        backend = mailer(rate_storage=uri, on_rate_storage_failure=choice)
        batch = messages(20)
        if choice == "open":
            assert backend.send_messages(batch) == 20
        else:
            for _ in range(3):
                with pytest.raises(RateStorageUnavailable, match="TimeoutError"):
                    backend.send_messages(batch)
        assert len(silence.clients) == 1
        (warning,) = told()
        assert "TimeoutError" in warning
        assert "hidden" not in warning


def test_the_time_limit_is_there_without_being_asked_for():
    with Silence() as silence:
        window = RedisWindow(storage_uri(f"redis://127.0.0.1:{silence.port}"), "key", [Quota(limit=1, seconds=1)])
        with pytest.raises(StorageFailed, match="TimeoutError"):  # and not the test's time limit
            window.take(1)
