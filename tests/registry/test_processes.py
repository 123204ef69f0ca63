"""Forks and ends of processes, in processes of their own, proved at the fault server's log."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRELUDE = """
import os, sys, threading
from django.conf import settings
settings.configure()
from django_smtp_pool.registry import PoolKey, registry
from tests.borrowing import borrow
from django_smtp_pool.core.smtp.content import Content
from django_smtp_pool.core.smtp.envelope import Envelope
from django_smtp_pool.core.options.options import PoolOptions, ServerOptions

def sender():
    server = ServerOptions(host="127.0.0.1", port=int(sys.argv[1]), local_hostname="client.example", timeout=5)
    return registry.sender(PoolKey(server=server, pool=PoolOptions()))

def send(text="hello"):
    content = Content.of(f"Subject: {text}\\r\\n\\r\\n{text}\\r\\n".encode())
    delivery = sender().send(Envelope(sender="a@example.com", recipients=("b@example.com",), content=content))
    assert delivery.error is None, delivery.error

def wait_for(pid):
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, status
"""


def started(server, script):
    """Start a process that runs the script against the server; every warning is an error."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", PRELUDE + script, str(server.port)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def ran(server, script):
    with started(server, script) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    return out


def subjects(server, connection):
    return [each.content.split(b"\r\n")[0] for each in server.accepted if each.connection == connection]


fork = pytest.mark.skipif(sys.platform == "win32", reason="needs os.fork")


@fork
def test_a_child_leaves_the_parents_connections_alone(server):
    """No octet of the child's is on them, and the parent goes on with its own."""
    ran(
        server,
        """
send("parent 1")
pid = os.fork()
if pid == 0:
    assert sender().pool.stats().open == 0
    send("child")
    os._exit(0)
wait_for(pid)
send("parent 2")
assert sender().pool.stats().connections_opened == 1
""",
    )
    assert subjects(server, 1) == [b"Subject: parent 1", b"Subject: parent 2"]
    assert subjects(server, 2) == [b"Subject: child"]
    assert [line for connection, line in server.commands() if connection == 1][-1] == "QUIT"


@fork
def test_a_child_that_does_nothing_says_nothing(server):
    ran(
        server,
        """
send("parent 1")
pid = os.fork()
if pid == 0:
    os._exit(0)
wait_for(pid)
send("parent 2")
""",
    )
    assert server.connections == 1
    assert len(subjects(server, 1)) == 2
    assert len(server.commands("QUIT")) == 1


@fork
def test_a_child_that_ends_by_itself_says_goodbye_for_itself_only(server):
    ran(
        server,
        """
send("parent")
pid = os.fork()
if pid == 0:
    send("child")
    sys.exit(0)
wait_for(pid)
send("parent again")
""",
    )
    assert sorted(connection for connection, _ in server.commands("QUIT")) == [1, 2]
    assert subjects(server, 1) == [b"Subject: parent", b"Subject: parent again"]


@fork
def test_the_childs_copies_of_the_sockets_are_closed(server):
    """So that the server sees the parent's end when it comes."""
    ran(
        server,
        """
from django_smtp_pool.core.net import sockets
send()
descriptors = [sock.fileno() for sock in sockets._sockets.values()]
assert descriptors
pid = os.fork()
if pid == 0:
    for descriptor in descriptors:
        try:
            os.fstat(descriptor)
        except OSError:
            continue
        os._exit(1)
    os._exit(0)
wait_for(pid)
""",
    )


@fork
def test_locks_held_by_other_threads_do_not_dead_lock_the_child(server):
    ran(
        server,
        """
import warnings
warnings.filterwarnings("ignore", category=DeprecationWarning)  # this script has a thread when it forks
send("parent")
held, done = threading.Event(), threading.Event()

def hold():
    with registry._lock, sender.pool._lock:
        held.set()
        done.wait()

sender_of = sender
sender = sender()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
pid = os.fork()
if pid == 0:
    sender = sender_of
    send("child")
    os._exit(0)
wait_for(pid)
done.set()
thread.join()
""",
    )
    assert subjects(server, 2) == [b"Subject: child"]


@fork
def test_a_fork_with_an_idle_connection_warns_of_no_thread(server):
    """The housekeeper is ended before, and there again afterwards: idle connections are still to be closed."""
    ran(
        server,
        """
names = lambda: [thread.name for thread in threading.enumerate()]
send()
for _ in range(3):
    assert "django-smtp-pool-housekeeper" in names()
    pid = os.fork()
    if pid == 0:
        assert threading.active_count() == 1
        os._exit(0)
    wait_for(pid)
assert "django-smtp-pool-housekeeper" in names()
""",
    )


@fork
def test_after_a_fork_the_parent_closes_its_idle_connections_in_time(server):
    ran(
        server,
        """
from dataclasses import replace
sender = registry.sender(PoolKey(server=ServerOptions(host="127.0.0.1", port=int(sys.argv[1]), timeout=5,
    local_hostname="client.example"), pool=PoolOptions(idle_timeout=0.2, max_lifetime=0)))
borrow(sender).give_back()
pid = os.fork()
if pid == 0:
    os._exit(0)
wait_for(pid)
closed = threading.Event()
from django_smtp_pool.signals import connection_closed
connection_closed.connect(lambda **_: closed.set(), weak=False)
assert closed.wait(20)
""",
    )


@fork
def test_a_fork_waits_for_no_server(server):
    """It does not answer QUIT, and is asked again after the fork."""
    from tests.servers import Fault, faults

    server.fault = Fault(at="quit", do=faults.hang, times=None)
    ran(
        server,
        """
import time
pool = sender().pool
lease = borrow(sender())
lease.connection.messages = 1000
lease.give_back()
assert pool.stats().idle == 0
started = time.monotonic()
pid = os.fork()
if pid == 0:
    os._exit(0)
took = time.monotonic() - started
wait_for(pid)
assert took < 0.5, took
registry.close_all(0.1)
""",
    )


@fork
def test_a_copy_in_a_child_does_not_keep_a_connection_open(server):
    """A thread that is creating a socket during a fork has not registered it yet, so the child does not close it."""
    ran(
        server,
        """
import select
from django_smtp_pool.core.net import sockets
lease = borrow(sender())
sockets._sockets.clear()
ours, theirs = os.pipe()
pid = os.fork()
if pid == 0:
    os.close(theirs)
    os.read(ours, 1)
    os._exit(0)
descriptor = os.dup(lease.connection.channel.transport.fileno())
lease.connection.close()
poll = select.poll()
poll.register(descriptor, select.POLLHUP)
assert poll.poll(0), "it is still open"
os.close(theirs)
wait_for(pid)
""",
    )


@fork
def test_multiprocessing_by_fork(server):
    ran(
        server,
        """
import multiprocessing
send("parent")
context = multiprocessing.get_context("fork")
workers = [context.Process(target=send, args=(f"child {n}",)) for n in range(3)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
    assert worker.exitcode == 0
send("parent")
""",
    )
    assert subjects(server, 1) == [b"Subject: parent"] * 2
    assert server.connections == 4


def test_no_thread_is_there_before_the_first_idle_connection(server):
    ran(
        server,
        """
pool = sender().pool
assert threading.active_count() == 1
lease = borrow(sender())
assert threading.active_count() == 1
lease.give_back()
assert threading.active_count() == 2
""",
    )


def test_the_end_of_the_interpreter_says_quit_on_every_idle_connection(server):
    ran(server, "leases = [borrow(sender()) for _ in range(5)]\nfor lease in leases:\n    lease.give_back()\n")
    assert sorted(connection for connection, _ in server.commands("QUIT")) == [1, 2, 3, 4, 5]


def test_an_unhandled_error_ends_in_quit_too(server):
    with started(server, "send()\nraise SystemExit(3)\n") as process:
        process.communicate(timeout=60)
    assert process.returncode == 3
    assert len(server.commands("QUIT")) == 1


def test_a_server_that_does_not_answer_quit_holds_nobody_up(server):
    from tests.servers import Fault, faults

    server.fault = Fault(at="quit", do=faults.hang, times=None)
    ran(
        server,
        """
import atexit, time
leases = [borrow(sender()) for _ in range(5)]
for lease in leases:
    lease.give_back()
started = time.monotonic()
atexit.unregister(registry.at_exit)
registry.at_exit()
assert time.monotonic() - started < 2, time.monotonic() - started
""",
    )


def test_a_busy_connection_does_not_keep_the_process(server):
    """A daemon thread waits for the reply to its message, which never comes."""
    server.hold("end")
    script = "threading.Thread(target=send, daemon=True).start()\nsys.stdin.readline()\n"
    with started(server, script) as process:
        assert server.wait_for(lambda: server.held == 1)
        process.communicate("\n", timeout=20)
    assert process.returncode == 0
    server.release()


def test_no_signal_handlers_are_installed(server):
    ran(
        server,
        """
import signal
before = {number: signal.getsignal(number) for number in signal.valid_signals()}
send()
assert {number: signal.getsignal(number) for number in signal.valid_signals()} == before
""",
    )


CHILDREN = """
import multiprocessing

def work(name):
    for number in range(5):
        send(f"{name} {number}")

if __name__ == "__main__":
    send("parent 1")
    start = multiprocessing.get_context(sys.argv[2])
    children = [start.Process(target=work, args=(name,)) for name in ("ann", "bob", "cid")]
    for child in children:
        child.start()
    send("parent 2")
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    send("parent 3")
    assert sender().pool.stats().connections_opened == 1
"""


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_children_however_multiprocessing_starts_them(server, tmp_path, method):
    script = tmp_path / "mailer.py"
    script.write_text(PRELUDE + CHILDREN)
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(script), str(server.port), method],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "")
    carried = [subjects(server, connection) for connection in range(1, server.connections + 1)]
    assert carried[0] == [f"Subject: parent {number}".encode() for number in (1, 2, 3)]
    assert sorted(carried[1:]) == [
        [f"Subject: {name} {number}".encode() for number in range(5)] for name in ("ann", "bob", "cid")
    ]


@fork
def test_a_fork_while_a_spare_connection_is_being_opened(server):
    """By a thread that the child does not have: the child opens its own, and the parent's thread goes on."""
    script = """
import warnings
from dataclasses import replace
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
options = ServerOptions(host="127.0.0.1", port=int(sys.argv[1]), timeout=5, local_hostname="client.example")
key = PoolKey(server=options, pool=PoolOptions(min_connections=2, max_connections=2))
sender = lambda: registry.sender(key)
send("parent 1")
sys.stdin.readline()  # the spare is held at the greeting
(dialling,) = [thread for thread in threading.enumerate() if thread.name == "django-smtp-pool-dial"]
pid = os.fork()
if pid == 0:
    assert sender().pool.stats().connecting == 0
    print("forked", flush=True)
    send("child")
    os._exit(0)
wait_for(pid)
dialling.join(10)
assert sender().pool.stats().idle == 2
send("parent 2")
"""
    server.hold("banner")
    with started(server, script) as process:
        assert server.wait_for(lambda: server.held == 1)
        server.release(1)
        assert server.wait_for(lambda: len(server.accepted) == 1 and server.held == 1)
        process.stdin.write("now\n")
        process.stdin.flush()
        assert process.stdout.readline() == "forked\n"
        server.release()
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert [each.content.split(b"\r\n")[0].decode() for each in server.accepted] == [
        *("Subject: parent 1", "Subject: child", "Subject: parent 2")
    ]


@fork
def test_an_alarm_in_what_follows_a_fork_reaches_the_caller(server):
    """It follows in the main thread, wherever that is, between two of its steps."""
    ran(
        server,
        """
import signal
send()

def handler(number, frame):
    raise TimeoutError("mine")

signal.signal(signal.SIGUSR1, handler)
resume = registry._housekeeper.resume
registry._after_fork._call = lambda: signal.raise_signal(signal.SIGUSR1)
caught = []
try:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    for _ in range(1000):
        abs(1)
except TimeoutError as error:
    caught.append(str(error))
assert caught == ["mine"], caught
os.wait()
resume()
""",
    )


@fork
def test_a_fork_by_a_thread_does_not_stop_goodbyes_while_the_main_thread_waits(server):
    """What follows a fork in the main thread cannot run while that thread waits for a lock, here for another thread."""
    ran(
        server,
        """
import warnings
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

def work():
    send()
    pool = sender().pool  # whose idle connection the housekeeper looks after
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    wait_for(pid)
    registry.close_all(timeout=0)
    while pool.details().connections:
        pause.wait(0.01)

pause = threading.Event()
thread = threading.Thread(target=work, daemon=True)
thread.start()
thread.join(10)
assert not thread.is_alive(), "nobody said goodbye"
""",
    )
    assert server.commands("QUIT")


@fork
def test_a_child_waits_for_no_lock_of_a_signal(server):
    """Another thread of the parent may have looked at the receivers during the fork."""
    ran(
        server,
        """
from django_smtp_pool import signals
for name in ("message_sent", "message_failed", "connection_opened", "connection_closed", "token_refreshed"):
    getattr(signals, name).lock.acquire()
pid = os.fork()
if pid == 0:
    send("child")
    os._exit(not signals.message_sent.lock.acquire(blocking=False))
wait_for(pid)
""",
    )
    assert len(server.accepted) == 1


@fork
def test_a_child_makes_its_own_tls_contexts(server):
    """Another thread of the parent may have held a lock of one during the fork: a handshake would wait for ever."""
    ran(
        server,
        """
from django_smtp_pool.core.net.tls import context_for
options = ServerOptions(host="mail.example.com", use_tls=True)
ours = context_for(options)
pid = os.fork()
if pid == 0:
    os._exit(context_for(options) is ours)
wait_for(pid)
assert context_for(options) is ours
""",
    )


@fork
def test_no_thread_starts_while_a_child_starts_over(server):
    """A finaliser may ask the housekeeper to look after a pool of the parent, whose connections are not closed yet."""
    ran(
        server,
        """
from django_smtp_pool.core.net import sockets
options = ServerOptions(host="127.0.0.1", port=int(sys.argv[1]), timeout=5, local_hostname="client.example")
key = PoolKey(server=options, pool=PoolOptions(idle_timeout=0, max_lifetime=0))  # nothing to look after in the parent
sender = lambda: registry.sender(key)
send()
pool, close_inherited = sender().pool, sockets.close_inherited
assert not registry._housekeeper.has_work

def ask_first():
    registry.look_after(pool, float("-inf"))
    assert registry._housekeeper._threads == []
    close_inherited()
    print("closed", flush=True)

sockets.close_inherited = ask_first
pid = os.fork()
if pid == 0:
    send("child")
    os._exit(0)
wait_for(pid)
""",
    )
    assert [each.content.split(b"\r\n")[0].decode() for each in server.accepted] == [
        *("Subject: hello", "Subject: child")
    ]


def test_nothing_is_imported_for_the_first_message(server):
    """A fork during an import leaves a lock to the child for ever."""
    ran(
        server,
        """
from types import SimpleNamespace
from tests.mailing import backend_for, message
before = set(sys.modules)
mail = message(body="Grüße")
mail.attach("a.bin", b"a", "application/octet-stream")
server = SimpleNamespace(host="localhost", port=int(sys.argv[1]))
assert backend_for(server, local_hostname=None).send_messages([mail]) == 1
found = set(sys.modules) - before - {"encodings.ascii"}  # looked up in Python's development mode only
assert found == set(), found
""",
    )
