"""Servers with limits, and a pool that keeps to them: everything arrives all the same."""

import logging
import re
import smtplib
import threading

import pytest

from django_smtp_pool.core.events.logs import LogObserver
from django_smtp_pool.registry import Registry
from tests.clocks import ServersClock
from tests.mailing import backend_for, message
from tests.servers import FaultServer, faults


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


ALLOWED = 3
TOO_MANY = [
    ("banner", "421 4.7.0 fault.test Error: too many connections from 192.0.2.1"),
    ("banner", "421 mwinf5c42 ME Trop de connexions, veuillez verifier votre configuration. OFR004_104"),
    ("auth", "421 4.7.0 Too many concurrent sessions for this account"),
    ("auth", "432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending"),
    ("mail", "421 Too many concurrent SMTP connections"),
    ("end", "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded"),
]


class Crowd:
    """Sends away, at one point of the conversation, each connection beyond those that are allowed."""

    def __init__(self, server, at, text):
        self._server, self._at, self._away = server, at, faults.reply_and_close(text)

    def pick(self, moment):
        """Return what is to be done at this moment, or None."""
        if self._at not in moment.points:
            return None
        present = [each.number for each in list(self._server.sessions) if each.state not in ("lingering", "closed")]
        return self._away if moment.connection in present[ALLOWED:] else None


@pytest.mark.parametrize(("at", "text"), TOO_MANY, ids=[f"{at}-{text[:9].strip()}" for at, text in TOO_MANY])
def test_a_limit_told_at_any_point_is_learnt_and_outgrown(monkeypatch, caplog, at, text):
    caplog.set_level(logging.WARNING, "django_smtp_pool.pool")
    with FaultServer() as server:
        server.fault = Crowd(server, at, text)
        clock = ServersClock(server)
        registry = Registry(clock=clock, observer=LogObserver())
        monkeypatch.setattr("django_smtp_pool.backend.registry", registry)
        options = {"max_connections": 8, "max_messages": 0, "username": "user", "password": "secret"}
        backend = backend_for(server, idle_timeout=0, max_lifetime=0, **options)

        together = threading.Barrier(8, timeout=60)

        def work(thread):
            for number in range(10):
                together.wait()  # on a busy machine they would go one after the other
                assert backend.send_messages([message(to=[f"to{thread}-{number}@example.com"])]) == 1

        assert in_threads(work, 8) == []
        assert len({each.recipients[0] for each in server.accepted}) == len(server.accepted) == 80
        stats = backend.pool.stats()
        assert stats.max_connections <= ALLOWED
        assert text[4:40] in stats.learnt["max_connections"]
        lowered = "max_connections: .*" + re.escape(text[4:40])
        told = [record for record in caplog.records if re.search(lowered, record.getMessage())]
        assert 1 <= len(told) <= 8 - stats.max_connections  # once for each time that it was lowered, and not more
        server.fault = None  # the limit is lifted: one more each minute, and at last as many as before
        heights = []
        for _ in range(9):
            clock.advance(60)
            backend.pool.tidy()
            heights.append(backend.pool.stats().max_connections)
        assert heights == [min(8, stats.max_connections + 1 + minute) for minute in range(9)]
        assert "max_connections" not in backend.pool.stats().learnt
        registry.at_exit()


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
