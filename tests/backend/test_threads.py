"""Many messages, many threads, few connections."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core import mail

from django_smtp_pool import PoolClosed, PoolFull, PoolTimeout, close_all, get_pool
from tests.backend.project import project
from tests.mailing import backend_for, message
from tests.servers import FaultServer


def test_200_messages_from_one_thread_over_one_connection(server, settings):
    project(settings, server, max_messages=0)
    for number in range(200):
        assert mail.send_mail(f"Message {number}", "Hello\n", "from@example.com", ["to@example.com"]) == 1
    assert (server.connections, len(server.accepted)) == (1, 200)
    stats = get_pool().stats()
    assert (stats.messages_accepted, stats.connections_opened, stats.idle) == (200, 1, 1)


@pytest.mark.parametrize("max_connections", [1, 4])
def test_32_threads_share_few_connections_and_lose_nothing(server, settings, max_connections):
    project(settings, server, max_connections=max_connections, max_messages=0)
    start = threading.Barrier(32)

    def send(sender):
        start.wait()
        for number in range(5):
            subject = f"Message {sender} {number}"
            assert mail.send_mail(subject, "Hello\n", "from@example.com", ["to@example.com"]) == 1

    with ThreadPoolExecutor(32) as threads:
        list(threads.map(send, range(32)))
    assert server.most_open <= max_connections
    assert server.connections <= max_connections
    arrived = [re.search(rb"Subject: Message (\d+ \d+)", each.content)[1].decode() for each in server.accepted]
    assert sorted(arrived) == sorted(f"{sender} {number}" for sender in range(32) for number in range(5))


def test_32_threads_and_connections_that_wear_out(server, settings):
    project(settings, server, max_connections=3, max_messages=4)

    def send(number):
        return mail.send_mail(f"Message {number}", "Hello\n", "from@example.com", ["to@example.com"])

    with ThreadPoolExecutor(32) as threads:
        assert sum(threads.map(send, range(96))) == 96
    assert len(server.accepted) == 96
    assert server.connections >= 24
    # One that says QUIT has left its place in the pool, and is open at the server until it has been heard.
    assert get_pool().stats().open <= 3


def test_threads_of_two_accounts_never_share_a_connection():
    with FaultServer(users={"a": "1", "b": "2"}, require_auth=True) as server:

        def send(number):
            user = "ab"[number % 2]
            backend = backend_for(server, username=user, password=server.users[user], max_connections=2)
            return backend.send_messages([message(number, from_email=f"{user}@example.com")])

        with ThreadPoolExecutor(16) as threads:
            assert sum(threads.map(send, range(64))) == 64
        assert all(each.sender == f"{each.user}@example.com" for each in server.accepted)
        close_all(timeout=5)


def test_one_backend_object_in_many_threads(server):
    backend = backend_for(server, max_connections=2)

    def send(number):
        with backend:
            return backend.send_messages([message(number)])

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(send, range(32))) == 32
    assert backend.connection is None
    assert server.most_open <= 2


# -- waiting --------------------------------------------------------------------------------------------------


@pytest.fixture
def threads(server):
    """Threads for what has to go on meanwhile; the server lets them go in the end."""
    with ThreadPoolExecutor(8) as executor:
        yield executor
        server.release()


@pytest.fixture
def busy(server, threads):
    """A pool of one connection, which is delivering until the server is released."""
    backend = backend_for(server, max_connections=1)
    server.hold("end")
    delivery = threads.submit(backend.send_messages, [message("first")])
    assert server.wait_for(lambda: server.held == 1)
    return backend, delivery


def until(predicate):
    """Wait for something that no event tells of."""
    pause = threading.Event()
    for _ in range(2000):
        if predicate():
            return
        pause.wait(0.005)
    raise AssertionError("it did not come true")


def waiting(pool, number):
    """Wait for a number of threads to wait."""
    until(lambda: pool.stats().waiting == number)


def test_who_waits_too_long_is_told_why(server, threads):
    backend = backend_for(server, max_connections=1, acquire_timeout=0.05)
    server.hold("end")
    first = threads.submit(backend.send_messages, [message("first")])
    assert server.wait_for(lambda: server.held == 1)
    mails = [message("second"), message("third")]
    with pytest.raises(PoolTimeout) as caught:
        backend.send_messages(mails)
    server.release()
    assert first.result() == 1
    assert isinstance(caught.value, TimeoutError)
    assert re.fullmatch(
        rf"no connection to {server.host}:{server.port} became free within 0\.\d s "
        r"\(0 connecting, 1 busy, 0 idle, at most 1 connections, 0 others waiting\): "
        r"raise max_connections if the server allows more, or find out why it is slow",
        str(caught.value),
    )
    assert [each.smtp_pool_status and each.smtp_pool_status.outcome for each in mails] == ["not_sent", None]


def test_more_than_may_wait_are_turned_away(server, threads):
    backend = backend_for(server, max_connections=1, max_waiting=1)
    server.hold("end")
    first = threads.submit(backend.send_messages, [message("first")])
    assert server.wait_for(lambda: server.held == 1)
    second = threads.submit(backend.send_messages, [message("second")])
    waiting(backend.pool, 1)
    with pytest.raises(PoolFull, match=r"1 others wait already.*raise max_connections or max_waiting"):
        backend.send_messages([message("third")])
    server.release()
    assert (first.result(), second.result()) == (1, 1)


def test_a_mass_mailing_does_not_starve_one_message(server, busy, threads):
    backend, delivery = busy
    mailing = threads.submit(backend.send_messages, [message(f"mass {number}") for number in range(50)])
    waiting(backend.pool, 1)
    single = threads.submit(backend.send_messages, [message("single")])
    waiting(backend.pool, 2)
    server.release()
    assert (delivery.result(), mailing.result(), single.result()) == (1, 50, 1)
    subjects = [re.search(rb"Subject: Message (.*)\r\n", each.content)[1] for each in server.accepted]
    assert subjects.index(b"single") <= 3
    assert len(subjects) == 52


# -- closing while somebody sends -----------------------------------------------------------------------------


def test_closing_a_backend_while_it_sends_changes_nothing(server, busy):
    backend, delivery = busy
    backend.close()
    server.release()
    assert delivery.result() == 1


def test_close_all_lets_deliveries_finish_and_those_that_wait(server, busy, threads):
    backend, delivery = busy
    before = backend.pool
    waiter = threads.submit(backend.send_messages, [message("second")])
    waiting(before, 1)
    closing = threads.submit(close_all, timeout=10)
    assert server.wait_for(lambda: before._closes_at is not None)
    late = threads.submit(backend.send_messages, [message("third")])
    server.release()
    assert (delivery.result(), waiter.result(), late.result()) == (1, 1, 1)
    closing.result()
    assert server.wait_for(lambda: server.commands("QUIT"))
    assert [each.connection for each in server.accepted] == [1, 1, 2]


def test_close_all_refuses_those_that_still_wait_when_its_time_ends(server, busy, threads):
    backend, delivery = busy
    waiter = threads.submit(backend.send_messages, [message("second")])
    waiting(backend.pool, 1)
    close_all(timeout=0.05)
    with pytest.raises(PoolClosed, match="closed"):
        waiter.result()
    server.release()
    assert delivery.result() == 1


def test_close_all_does_not_wait_for_ever(server, busy):
    _, delivery = busy
    close_all(timeout=0.05)
    assert not delivery.done()
    server.release()
    assert delivery.result() == 1


def test_the_connection_of_a_closed_pool_is_not_kept(server, busy):
    backend, delivery = busy
    before = backend.pool
    close_all(timeout=0)
    server.release()
    assert delivery.result() == 1
    assert server.wait_for(lambda: server.open_now == 0)
    assert before.stats().open == 0
