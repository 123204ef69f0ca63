"""Servers on unix sockets: mail goes there as it does by TCP, and what is wrong with a path is said."""

import contextlib
import errno
import math
import os
import socket
import tempfile
from pathlib import Path

import pytest

from django_smtp_pool.core.net.connect import Dial
from django_smtp_pool.core.net.unix_socket import PAUSE, Knock
from django_smtp_pool.core.options.host import Target
from tests.core.troubles import trouble
from tests.mailing import backend_for, message
from tests.servers import FaultServer
from tests.servers.certificates import certificates

NOW = 1000.0


@pytest.fixture
def place():
    """A directory whose name is short enough for sockets, wherever the tests run."""
    with tempfile.TemporaryDirectory(prefix="sockets-") as directory:
        yield Path(directory)


@contextlib.contextmanager
def listening(path, backlog=5):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(backlog)
        yield listener


def failed(path):
    dial = Dial(Target(host=f"unix:{path}", port=25))
    with trouble(OSError) as caught:
        dial.advance(NOW)
    dial.close()
    return caught.value


def test_mail_by_a_unix_socket(place):
    with FaultServer(path=place / "smtp", require_auth=True, auth=("PLAIN",)) as server:
        ours = backend_for(server, username="user", password="secret")
        assert ours.send_messages([message(number) for number in range(7)]) == 7
        assert len(server.accepted) == 7
        assert ours.pool.name == f"unix:{place}/smtp"


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_connection_closed_while_idle_is_invisible(place, how):
    with FaultServer(path=place / "smtp") as server:
        ours = backend_for(server)
        ours.send_messages([message(1)])
        assert server.close_idle(how) == 1
        assert ours.send_messages([message(2)]) == 1


@pytest.mark.parametrize("mode", ["use_tls", "use_ssl"])
def test_tls_checks_the_name_that_was_asked_for(place, tmp_path, mode):
    where = "starttls" if mode == "use_tls" else "implicit_tls"
    with FaultServer(path=place / "smtp", **{where: certificates().server_context()}) as server:
        trust = {"ca_file": str(certificates().write_authority(tmp_path))}
        ours = backend_for(server, **{mode: True}, tls_options={**trust, "server_hostname": "localhost"})
        assert ours.send_messages([message()]) == 1
        wrong = backend_for(server, **{mode: True}, tls_options={**trust, "server_hostname": "elsewhere.example"})
        with pytest.raises(OSError, match=r"the certificate of elsewhere.example was not accepted"):
            wrong.send_messages([message()])


def test_no_such_socket(place):
    error = failed(place / "smtp")
    assert isinstance(error, FileNotFoundError)
    assert error.is_final
    assert f"could not connect to unix:{place}/smtp: the socket does not exist: start the server" in str(error)


def test_nobody_listens(place):
    with listening(place / "smtp"):
        pass
    error = failed(place / "smtp")
    assert isinstance(error, ConnectionRefusedError)
    assert error.is_final
    assert "no server listens there: start the server" in str(error)


def test_no_socket_of_this_kind(place):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(place / "smtp"))
        error = failed(place / "smtp")
    assert error.errno == errno.EPROTOTYPE
    assert error.is_final


@contextlib.contextmanager
def as_nobody():
    """Do without root's rights, to which nothing is forbidden."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_no_permission(place):
    with listening(place / "smtp"):
        (place / "smtp").chmod(0)
        with as_nobody():
            error = failed(place / "smtp")
    assert isinstance(error, PermissionError)
    assert error.is_final
    assert "this process may not use it" in str(error)


@pytest.mark.skipif(not hasattr(socket, "SO_PEERSEC"), reason="only Linux tells a full queue from nobody there")
def test_a_full_queue_is_waited_for(place):
    knock = Knock(str(place / "smtp"))
    with listening(place / "smtp", 0) as listener, socket.socket(socket.AF_UNIX) as first:
        assert knock.wake_at == math.inf
        first.connect(str(place / "smtp"))
        assert knock.advance(NOW) is None
        assert (knock.watched, knock.wake_at) == ((), NOW + PAUSE)
        assert "whose queue is full" in knock.progress
        listener.accept()[0].close()
        sock = knock.advance(NOW + PAUSE)
        assert sock.getpeername() == str(place / "smtp")
        knock.close()
        assert sock.fileno() < 0


def test_a_refusal_is_not_tried_again(place):
    with FaultServer(path=place / "smtp") as server:
        ours = backend_for(server)
    mail = message()
    with pytest.raises(ConnectionRefusedError):
        ours.send_messages([mail])
    assert mail.smtp_pool_status.attempts == 1
