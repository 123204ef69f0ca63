"""Several connections at once: what overlaps with what, and how far ahead messages are asked for."""

import gc
import itertools
import math
import select
import socket
import weakref
from smtplib import SMTPException

import pytest

from django_smtp_pool.core.delivery import channel
from django_smtp_pool.core.delivery.batch import Batch
from django_smtp_pool.core.delivery.connection import Connector
from django_smtp_pool.core.drivers.side_by_side import _SideBySide
from django_smtp_pool.core.events.events import Attempted, Observers
from django_smtp_pool.core.pool.pool import Pool
from django_smtp_pool.message.render import envelope_of
from tests.batches.ledger import (
    QUIET,
    fill,
    messages,
    misreported,
    order_of,
    outcomes,
    settled,
    taken,
    until_it_waits,
)
from tests.clocks import ManualClock
from tests.core.fakes import Diary, in_thread, until
from tests.mailing import message
from tests.servers import Fault, FaultServer, faults


@pytest.mark.parametrize(("options", "width"), [({}, 5), ({"batch_connections": 3}, 3), ({"max_connections": 8}, 8)])
def test_several_connections_are_used_at_once(server, mailer, options, width):
    server.hold("data")
    backend = mailer(server, **options)
    sending = in_thread(backend.send_messages, messages(20))
    assert server.wait_for(lambda: server.held == width)
    server.release()
    assert sending.join() == 20
    assert server.most_open == server.connections == width
    assert set(taken(server).values()) == {1}
    assert settled(server, backend.pool) == QUIET


def test_one_connection_keeps_the_order(server, mailer):
    assert mailer(server, batch_connections=1).send_messages(iter(messages(20))) == 20
    assert order_of(server) == list(range(20))
    assert server.connections == 1


def test_a_worker_that_has_its_reply_sends_the_next_message(mailer, monkeypatch):
    dials, dial = [], Connector.open
    monkeypatch.setattr(Connector, "open", lambda *given: dials.append(given) or dial(*given))

    def all_answered():
        """Return whether the reply to the content, the third one, is in the socket of each busy connection."""
        busy = [slot.connection.channel.transport._sock for slot in backend.pool._state.busy]
        readable = select.select(busy, [], [], 0)[0]
        return readable == busy and all(sock.recv(4096, socket.MSG_PEEK).count(b"\r\n") == 3 for sock in busy)

    def ready_when_answered():
        for mail in messages(10):
            until(all_answered)
            yield mail

    with FaultServer(chunking=True) as server:
        backend = mailer(server, observer=Observers(()))  # while an observer is told, no message waits
        for _ in range(2):  # from the second on, a message needs one round trip
            backend.send_messages(messages(1))
        assert backend.send_messages(ready_when_answered()) == 10
    assert len(dials) == 1


def test_fewer_messages_than_connections_need_no_more_connections(server, mailer):
    assert mailer(server).send_messages(messages(2)) == 2
    assert server.connections <= 2


def test_the_first_slow_dial_holds_up_nobody(server, mailer):
    server.hold("banner")
    sending = in_thread(mailer(server, batch_connections=3).send_messages, messages(10))
    assert server.wait_for(lambda: server.held == 3)
    server.release(2)
    # The first connection has not said a word yet: the batch ends without it.
    assert server.wait_for(lambda: len(server.accepted) == 10)
    assert sending.join() == 10
    server.release()


@pytest.mark.parametrize("width", [1, 3])
def test_the_next_messages_are_rendered_while_the_servers_work(server, mailer, width):
    rendered = []

    def one_after_another():
        for mail in messages(12):
            rendered.append(mail)
            yield mail

    server.hold("data")
    sending = in_thread(mailer(server, batch_connections=width).send_messages, one_after_another())
    assert server.wait_for(lambda: server.held == width)
    until(lambda: len(rendered) == 2 * width)
    for done in range(1, 5):  # and with every message that gets its turn one more, no earlier
        server.release(1)
        assert server.wait_for(lambda done=done: len(server.accepted) == done and server.held == width)
        until(lambda done=done: len(rendered) == 2 * width + done)
    server.release()
    assert sending.join() == 12


def test_a_generator_of_many_is_never_held(server, mailer):
    width = 3
    alive = weakref.WeakSet()
    most = []
    unfinished = []

    def one_after_another():
        for number in range(300):
            mail = message(number)
            alive.add(mail)
            unfinished.append(weakref.ref(mail))
            there = [each for each in unfinished if each() is not None]
            unfinished[:] = [each for each in there if each().smtp_pool_status is None]
            most.append((len(unfinished), len(alive)))
            yield mail
            del mail

    # The status is None before a message is sent for the first time, too.
    original = message.__globals__["EmailMessage"]
    original.smtp_pool_status = None
    try:
        assert mailer(server, batch_connections=width).send_messages(one_after_another()) == 300
    finally:
        del original.smtp_pool_status
    # Under way, rendered ahead, and those whose end is known and has not been told yet.
    assert max(ahead for ahead, _ in most) <= 3 * width + 1
    assert max(there for _, there in most) <= 3 * width + 3  # the last one told of may still be in somebody's hands
    gc.collect()
    assert len(alive) == 0


def test_the_callers_code_never_runs_half_way_through_a_write(mailer, monkeypatch, receive):
    drivers, waits_while_writing, runs_of_code = [], [], []
    begin, poll = _SideBySide.__init__, _SideBySide._poll

    def remember(self, *args, **kwargs):
        begin(self, *args, **kwargs)
        drivers.append(self)

    def watch(self):
        waits_while_writing.append(self._held_until() > self._clock.monotonic())
        return poll(self)

    monkeypatch.setattr(channel, "STUCK", math.inf)
    monkeypatch.setattr(_SideBySide, "__init__", remember)
    monkeypatch.setattr(_SideBySide, "_poll", watch)

    def note(**_):
        runs_of_code.append(drivers[0]._held_until() > drivers[0]._clock.monotonic())

    def large_ones():
        for mail in messages(6, attachments=[("large.bin", bytes(4_000_000), "application/octet-stream")]):
            note()
            yield mail

    receive(note)
    with FaultServer(receive_buffer=65536) as server:
        assert mailer(server, batch_connections=3).send_messages(large_ones()) == 6
    assert len(runs_of_code) == 12
    assert not any(runs_of_code)
    assert any(waits_while_writing), "the server was to be slower than the writer"


def test_a_server_that_stops_reading_holds_up_nobody_else(mailer):
    """Half-way through a write the caller's code does not run: for a second, and not for as long as we would wait."""
    clock = ManualClock()
    batch = messages(6, attachments=[("large.bin", bytes(4_000_000), "application/octet-stream")])
    with FaultServer(fault=Fault(at="body", do=faults.stall), receive_buffer=65536) as server:
        backend = mailer(server, clock=clock, max_connections=2, timeout=60)
        sending = in_thread(backend.send_messages, iter(batch))
        assert server.wait_for(lambda: server.struck)
        until_it_waits(clock)
        assert len(server.accepted) < 5, "the next messages are not rendered yet"
        clock.advance(channel.STUCK)
        assert server.wait_for(lambda: len(server.accepted) == 5)
        until(lambda: clock.advance(1) or sending.is_done)  # what becomes of the last one is not the matter here
        assert outcomes(batch).count("accepted") >= 5
        assert misreported(server, batch) == []


@pytest.fixture
def turns(monkeypatch):
    """Record what a batch does: "look" at the servers, "ask" for a connection, "keep" it, "told" the caller."""
    turns = []

    def noting(word, method):
        def noted(self, *args, **how):
            turns.append(word)
            return method(self, *args, **how)

        return noted

    monkeypatch.setattr(_SideBySide, "_look", noting("look", _SideBySide._look))
    monkeypatch.setattr(Pool, "request", noting("ask", Pool.request))
    monkeypatch.setattr(Pool, "lend_again", noting("keep", Pool.lend_again))
    monkeypatch.setattr(Batch, "_tell", noting("told", Batch._tell))
    return turns


def test_the_servers_are_looked_at_between_two_pieces_of_the_callers_code(server, mailer, turns):
    def mailing():
        for mail in messages(60):
            turns.append("rendered")
            yield mail

    assert mailer(server, max_connections=8).send_messages(mailing()) == 60
    pieces = [turn for turn in turns if turn not in {"ask", "keep"}]
    assert pieces.count("told") == pieces.count("rendered") == 60
    assert all("look" in pair for pair in itertools.pairwise(pieces))


def test_a_connection_that_is_kept_keeps_its_limits(server, mailer):
    """Of messages and of time; and it is nobody's when another thread wants it (test_fairness)."""
    server.hold("end")
    backend = mailer(server, max_connections=1, max_messages=3)
    sending = in_thread(backend.send_messages, messages(10))
    until(lambda: server.held == 1)
    server.release()
    assert sending.join() == 10
    assert server.connections == 4
    stats = backend.pool.stats()
    assert stats.connections_closed == {"max_messages": 3}
    assert (stats.busy, stats.idle) == (0, 1)


@pytest.mark.parametrize("hears", [False, True])
def test_the_connection_goes_on_before_the_caller_hears_unless_he_may_want_it(server, mailer, turns, receive, hears):
    rendered = []

    def mailing():
        for mail in messages(2):
            rendered.append(mail)
            yield mail

    if hears:
        receive(lambda **_: None)
    server.hold("end")
    sending = in_thread(mailer(server, max_connections=1).send_messages, mailing())
    until(lambda: server.held == 1 and len(rendered) == 2)
    server.release()
    assert sending.join() == 2
    order = [turn for turn in turns if turn != "look"]
    assert order == (["ask", "told", "ask", "told"] if hears else ["ask", "keep", "told", "told"])


@pytest.mark.parametrize("allowed", [1, 3])
def test_a_server_that_allows_fewer_connections_gets_every_message(mailer, allowed):
    diary = Diary()
    with FaultServer(max_connections=allowed) as server:
        backend = mailer(server, observer=diary, max_connections=10)
        server.hold("data")
        sending = in_thread(backend.send_messages, messages(60))
        assert server.wait_for(lambda: server.held == allowed)
        server.release()
        assert sending.join() == 60
        assert set(taken(server).values()) == {1}
        assert diary.of(Attempted) == []
        assert server.connections <= 2 * 10, "it does with what it is allowed, and does not knock for each message"


@pytest.mark.parametrize("each", [1, 3])
def test_a_server_that_closes_every_connection_after_some_messages(mailer, each):
    with FaultServer(max_messages=each) as server:
        batch = messages(60)
        assert mailer(server, max_connections=6).send_messages(batch) == 60
        assert set(taken(server).values()) == {1}


def test_a_server_that_hangs_up_after_each_message(mailer):
    with FaultServer(fault=Fault(at="after", do=faults.fin, times=None)) as server:
        assert mailer(server, max_connections=4).send_messages(messages(40)) == 40
        assert set(taken(server).values()) == {1}


def test_warm_connections_are_used_again(server, mailer):
    backend = mailer(server, max_connections=3)
    fill(server, backend, 3, messages(30))
    assert backend.send_messages(messages(30)) == 30
    assert server.connections == 3


def test_a_connection_that_another_thread_closes_is_closed_while_the_batch_waits(server, mailer):
    """A socket that a thread polls stays open until its poll returns: it counts at the server, but not in the pool."""
    backend = mailer(server, max_connections=2, timeout=0.5, data_timeout=30)
    server.hold("end")
    sending = in_thread(backend.send_messages, messages(2))
    assert server.wait_for(lambda: server.held == 2)
    server.release(1)
    until(lambda: backend.pool.stats().idle == 1)
    server.fault = Fault(at="noop", do=faults.hang)
    backend.open()
    with pytest.raises(SMTPException, match="timed out"):
        backend.connection.noop()  # over the one that the batch has given back, and without an octet of an answer
    assert server.wait_for(lambda: server.open_now == 1, 5)
    server.release()
    assert sending.join() == 2


def test_connections_that_died_while_idle_are_invisible(server, mailer):
    backend = mailer(server, max_connections=4)
    fill(server, backend, 4, messages(8))
    assert server.wait_for(lambda: server.idle_now == 4)
    assert server.close_idle("fin") == 4
    batch = messages(8)
    assert backend.send_messages(batch) == 8
    assert [mail.smtp_pool_status.attempts for mail in batch] == [1] * 8
    assert backend.pool.stats().stale == 4


@pytest.mark.parametrize("refused_at", ["rcpt", "end", "size"])
def test_the_errors_of_a_batch_keep_no_rendered_message(mailer, monkeypatch, refused_at):
    """There may be as many as messages; and the frames that an error arose in hold the content."""

    def spied(*how):
        envelope = envelope_of(*how)
        rendered.append(weakref.ref(envelope))
        return envelope

    rendered = []
    monkeypatch.setattr("django_smtp_pool.mailing.envelope_of", spied)
    fault = None if refused_at == "size" else Fault(at=refused_at, do=faults.code_5xx, times=None)
    extensions = ("SIZE 10",) if refused_at == "size" else ("8BITMIME",)
    with FaultServer(fault=fault, extensions=extensions) as server:
        with pytest.raises(SMTPException) as caught:
            mailer(server).send_messages(messages(20))
        assert len(caught.value.failures) == len(rendered) == 20
        gc.collect()
        assert [each() for each in rendered] == [None] * 20
