"""A connection in the making that is given up."""

import threading

import pytest

from django_smtp_pool.core.delivery.connection import Connection
from tests.mailing import message
from tests.servers import Fault, FaultServer, faults


def test_it_is_closed_though_an_interrupt_strikes_while_it_is_being_closed(mailer, monkeypatch):
    """Its place is free at once, and the interrupt's traceback would keep the socket for as long as it is looked at."""
    close, struck, own = Connection.close, [], threading.get_ident()

    def closes(connection):
        if not struck and threading.get_ident() == own:  # not where the connection of another test says QUIT
            struck.append(connection)
            raise KeyboardInterrupt
        close(connection)

    monkeypatch.setattr(Connection, "close", closes)
    with FaultServer(fault=Fault(at="ehlo", do=faults.garbage)) as server:
        backend = mailer(server)
        with pytest.raises(KeyboardInterrupt) as caught:
            backend.send_messages([message()])
        assert server.wait_for(lambda: server.open_now == 0, 5)
        assert caught.traceback
        assert backend.pool.stats().open == 0
