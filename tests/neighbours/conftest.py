"""What the tests with neighbours share: the mail server, a place for a project, a Redis."""

import contextlib
import os
import socket
from pathlib import Path

import pytest

from tests import ports
from tests.neighbours.available import need_program
from tests.neighbours.ledger import Ledger
from tests.neighbours.processes import Process, environment, python
from tests.realservers.waiting import eventually
from tests.servers.certificates import certificates

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    """Mark every test of this directory, and let none take long."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.neighbour)
            item.add_marker(pytest.mark.timeout(120))


@pytest.fixture(name="ledger")
def fixture_ledger():
    """Return the mail server that keeps the truth."""
    with Ledger() as running:
        yield running


class Project:
    """One of the projects, with a directory of its own and its mail going to the ledger."""

    def __init__(self, directory, ledger, settings="settings"):
        self.directory = directory
        self.env = environment(
            VAR=str(directory),
            SMTP_PORT=str(ledger.port),
            CA_FILE=str(certificates().write_authority(directory)),
            DJANGO_SETTINGS_MODULE=f"tests.neighbours.project.{settings}",
        )

    def start(self, *command, name="process", **env):
        """Start a process of the project; leave by `with`."""
        return Process(*command, directory=self.directory, env={**self.env, **env}, name=name)

    def enqueue(self, count, *, strict=True):
        """Put messages 0 to `count` - 1 into the project's queue."""
        command = python("-m", "tests.neighbours.project.enqueue", count, strict=strict)
        with self.start(*command, name="enqueue", QUEUE="1") as process:
            assert process.wait() == 0, process.errors


@pytest.fixture(name="make_project")
def fixture_make_project(tmp_path, ledger):
    """Return a function that makes a project with the settings of that name."""
    return lambda settings="settings": Project(tmp_path, ledger, settings)


def _answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as client:
        client.sendall(b"PING\r\n")
        return client.recv(16).startswith(b"+PONG")
    return False


@pytest.fixture(name="redis_of_the_session", scope="session")
def fixture_redis_of_the_session(tmp_path_factory):
    """Run Redis for the session, in memory only, and return its port."""
    program = need_program("redis-server", install="apt-get install redis-server")
    directory, port = tmp_path_factory.mktemp("redis"), ports.for_program()
    command = [program, "--bind", "127.0.0.1", "--port", port, "--dir", directory, "--save", "", "--appendonly", "no"]
    with Process(*command, directory=directory, env=dict(os.environ), name="redis") as process:
        eventually(lambda: _answers(port) or process.has_ended, otherwise=lambda: process.output)
        assert not process.has_ended, process.output
        yield port


@pytest.fixture(name="broker")
def fixture_broker(redis_of_the_session):
    """Return the URL of an empty broker."""
    with socket.create_connection(("127.0.0.1", redis_of_the_session), timeout=5) as client:
        client.sendall(b"FLUSHALL\r\n")
        assert client.recv(16).startswith(b"+OK")
    return f"redis://127.0.0.1:{redis_of_the_session}/0"
