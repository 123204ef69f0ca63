"""How many round trips a message costs, counted between client and server."""

import pytest

from tests.mailing import backend_for, message
from tests.servers import FaultServer
from tests.servers.certificates import certificates
from tests.servers.counting import CountingProxy

TCP_AND_BANNER = 2  # round trips before the client says anything


def sent(backend, number=1, **fields):
    """Send one message."""
    assert backend.send_messages([message(number, **fields)]) == 1


def turns_of(proxy, backend, number):
    """Return how many turns the next message takes, on the one connection there is."""
    before = sum(proxy.turns)
    sent(backend, number)
    return sum(proxy.turns) - before


@pytest.mark.parametrize(
    ("offers", "expected"),
    [
        ({"pipelining": True, "chunking": True}, 1),
        ({"pipelining": True, "chunking": False}, 2),
        ({"pipelining": False, "chunking": True}, 3),
        ({"pipelining": False, "chunking": False}, 4),
    ],
    ids=["CHUNKING", "PIPELINING", "CHUNKING without PIPELINING", "neither"],
)
@pytest.mark.parametrize("encrypted", [False, True], ids=["clear", "TLS"])
def test_a_warm_message(offers, expected, encrypted):
    context = certificates().server_context() if encrypted else None
    with FaultServer(**offers, implicit_tls=context) as server, CountingProxy(server) as proxy:
        backend = backend_for(proxy, use_ssl=encrypted, tls_options={"verify": False})
        sent(backend)
        assert [turns_of(proxy, backend, number) for number in (2, 3, 4)] == [expected] * 3
        assert len(proxy.turns) == 1


def test_a_warm_message_where_the_options_forbid_what_is_offered():
    with FaultServer(chunking=True) as server, CountingProxy(server) as proxy:
        backend = backend_for(proxy, chunking=False, pipelining=False)
        sent(backend)
        assert turns_of(proxy, backend, 2) == 4


@pytest.mark.parametrize(("size", "expected"), [(60_000, 1), (70_000, 2)])
def test_a_large_message_does_not_go_in_one_shot(size, expected):
    with FaultServer(chunking=True) as server, CountingProxy(server) as proxy:
        backend = backend_for(proxy)
        sent(backend)
        before = sum(proxy.turns)
        sent(backend, 2, body=("x" * 78 + "\n") * (size // 80))
        assert sum(proxy.turns) - before == expected


def test_a_cold_message_with_starttls_and_a_login_costs_eight_where_the_server_is_known():
    options = {"use_tls": True, "tls_options": {"verify": False}, "username": "user", "password": "secret"}
    context = certificates().server_context()
    context.num_tickets = 0  # nobody waits for them, but seen from between they part Finished from EHLO
    server = FaultServer(chunking=True, starttls=context, auth=["PLAIN"])
    with server, CountingProxy(server) as proxy:
        backend = backend_for(proxy, **options, max_messages=1)
        sent(backend)
        sent(backend, 2)
        # The first of all has to find out that the server takes chunks: the commands, then the content.
        # QUIT is the last turn of each, and nobody waits for it.
        assert server.wait_for(lambda: len(server.commands("QUIT")) == 2)
        assert [TCP_AND_BANNER + turns - 1 for turns in proxy.turns] == [9, 8]


def test_a_refused_message_costs_the_next_one_no_round_trip():
    server = FaultServer(refuse_recipients={"bad@example.com": "550 5.1.1 unknown"})
    with server, CountingProxy(server) as proxy:
        backend = backend_for(proxy)
        sent(backend)
        with pytest.raises(OSError, match="unknown"):
            backend.send_messages([message(to=["bad@example.com"])])
        assert turns_of(proxy, backend, 2) == 2  # RSET travels with MAIL, RCPT and DATA
        assert len(server.commands("RSET")) == 1


def test_noop_does_not_end_the_transaction_of_a_refused_message():
    with FaultServer(refuse_recipients={"bad@example.com": "550 5.1.1 unknown"}) as server:
        backend = backend_for(server)
        backend.open()
        sent(backend)
        with pytest.raises(OSError, match="unknown"):
            backend.send_messages([message(to=["bad@example.com"])])
        assert backend.connection.noop()[0] == 250
        sent(backend)
        assert (server.connections, len(server.commands("RSET"))) == (1, 1)
