"""Servers with limits, and a pool that keeps to them: everything arrives all the same."""

import logging
import smtplib
import threading

import pytest

from tests.mailing import backend_for, message
from tests.servers import FaultServer


def in_threads(work, count):
    """Run `work(number)` in so many threads at once and return what was raised."""
    errors = []

    def run(number):
        try:
            work(number)
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return errors


def test_eight_threads_and_a_server_that_allows_three_connections(caplog):
    caplog.set_level(logging.WARNING, "django_smtp_pool.pool")
    with FaultServer(max_connections=3) as server:
        options = {"max_connections": 8, "max_messages": 0}
        errors = in_threads(
            lambda thread: [
                backend_for(server, **options).send_messages([message(100 * thread + number)]) for number in range(20)
            ],
            8,
        )
        assert errors == []
        assert len(server.accepted) == 160
        stats = backend_for(server, **options).pool.stats()
        assert stats.max_connections <= 3
        assert "too many connections" in stats.learnt["max_connections"]
    assert any("too many connections" in record.getMessage() for record in caplog.records)


def test_a_batch_learns_too():
    with FaultServer(max_connections=3) as server:
        backend = backend_for(server, max_connections=10, max_messages=0)
        assert backend.send_messages([message(number) for number in range(100)]) == 100
        assert len(server.accepted) == 100


def test_a_server_that_takes_five_messages_a_connection_is_not_asked_for_a_sixth():
    with FaultServer(max_messages=5) as server:
        backend = backend_for(server)
        for number in range(40):
            assert backend.send_messages([message(number)]) == 1
        assert len(server.accepted) == 40
        assert backend.pool.stats().connections_closed["max_messages"] >= 4
        assert backend.pool.stats().requeues == 2  # it took two to learn


def test_a_server_that_says_how_many_messages_it_takes_is_believed_at_once():
    with FaultServer(max_messages=5, extensions=("LIMITS MAILMAX=5",)) as server:
        backend = backend_for(server)
        for number in range(20):
            assert backend.send_messages([message(number)]) == 1
        assert backend.pool.stats().requeues == 0
        assert server.connections == 4


def test_a_wrong_password_under_eight_threads_makes_a_handful_of_logins():
    with FaultServer(users={"user": "right"}) as server:
        wrong = {"username": "user", "password": "wrong", "auth_method": "PLAIN"}

        def work(thread):
            for number in range(40):
                with pytest.raises(smtplib.SMTPAuthenticationError, match="535"):
                    backend_for(server, **wrong).send_messages([message(100 * thread + number)])

        assert in_threads(work, 8) == []
        assert len(server.commands("AUTH")) <= 5
        right = backend_for(server, username="user", password="right")
        assert right.send_messages([message()]) == 1  # a changed password works at once
        assert len(server.accepted) == 1
