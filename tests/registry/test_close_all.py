"""`close_all()` that an interrupt ends: the goodbyes go on all the same."""

import asyncio
import contextlib
import os
import sys
import threading

import pytest

from django_smtp_pool import PoolClosed
from django_smtp_pool import backend as backends
from django_smtp_pool.signals import message_sent
from tests.core.fakes import until
from tests.handlers import SIGNAL, handling
from tests.mailing import message
from tests.servers import Fault
from tests.servers.misbehaviour import Misbehaviour

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


class TimeLimit(Exception):
    """What a signal handler raises."""


def limit(number, frame):
    raise TimeLimit


def strike_and_answer(session, proper):
    os.kill(os.getpid(), SIGNAL)  # it runs in the main thread, which waits for this reply
    session.say(proper)
    return 221


def test_quit_is_still_said_after_close_all_was_interrupted(mailer, server):
    """It used to leave the housekeeper paused, so that connections stayed open uncounted."""
    backend = mailer(server)
    backend.send_messages([message(1)])
    server.fault = Fault(at="quit", do=Misbehaviour(name="strike", act=strike_and_answer))
    with handling(limit), pytest.raises(TimeLimit):
        backends.registry.close_all(timeout=1)
    until(lambda: server.open_now == 0)
    backend.send_messages([message(2)])
    backend.pool.drain()
    until(lambda: server.open_now == 0)


def test_quit_is_said_in_the_calling_thread_if_no_other_can_be_started(mailer, server, monkeypatch):
    backend = mailer(server)
    backend.send_messages([message(1)])
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    backends.registry.close_all(timeout=1)
    assert server.wait_for(lambda: server.open_now == 0)
    assert len(server.commands("QUIT")) == 1


def no_thread(self):
    raise RuntimeError("can't start new thread")


def test_a_receiver_in_an_event_loop_does_not_wait_for_the_batch_that_calls_it(mailer, server):
    """Such receivers run in another thread."""
    backend = mailer(server)
    closed = []

    def close(**_):
        if not closed:
            closed.append(threading.get_ident())
            backends.registry.close_all(timeout=3600)

    async def main():
        with contextlib.suppress(PoolClosed):  # the rest of the batch
            await asyncio.wait_for(backend.asend_messages([message(number) for number in range(3)]), 20)

    message_sent.connect(close)
    try:
        asyncio.run(main())
    finally:
        message_sent.disconnect(close)
    assert closed != [threading.get_ident()]


@pytest.mark.parametrize("what", ["forget_tokens", "forget_rates"])
def test_what_has_interrupted_the_registry_is_done_when_it_goes_on(mailer, server, monkeypatch, what):
    registry = mailer(server) and backends.registry
    pool = registry.sender(mailer(server).config.key).pool

    class Caches(dict):
        def clear(self):
            registry.close_all(timeout=0)  # by a signal handler, while the lock is held
            assert not pool.is_closed

    monkeypatch.setattr(registry, {"forget_tokens": "_token_caches", "forget_rates": "_rates"}[what], Caches())
    getattr(registry, what)()
    assert pool.is_closed
