"""A connection in the making that is given up, and what is known of one that is used again."""

import threading

import pytest

from django_smtp_pool.core.delivery import connection
from django_smtp_pool.core.delivery.channel import Channel
from django_smtp_pool.core.delivery.connection import Connection
from django_smtp_pool.core.events.events import Observers
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


def test_a_look_at_the_socket_holds_for_one_small_message(mailer, monkeypatch):
    """The next message over the same connection looks anew: the server may have closed after its reply."""
    known, hold = [], Channel.hold

    def holds(channel, dialogue, clock, **how):
        known.append(how.get("is_quiet", False))
        return hold(channel, dialogue, clock, **how)

    def two_messages():
        yield message(1)
        server.release()  # it answers the first message when the second one is there
        yield message(2)

    monkeypatch.setattr(connection, "JUST_NOW", 60.0)
    with FaultServer() as server:
        backend = mailer(server, batch_connections=1, observer=Observers(()))
        backend.send_messages([message()])
        monkeypatch.setattr(Channel, "hold", holds)
        server.hold("end")
        assert backend.send_messages(two_messages()) == 2
        assert known == [True, False]
        backend.send_messages([message(body="x\n" * 40_000)])
        assert known[2:] == [False]
        assert server.connections == 1
