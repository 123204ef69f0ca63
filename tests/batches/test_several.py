"""Several connections at once: what overlaps with what, and how far ahead messages are asked for."""

import gc
import weakref
from smtplib import SMTPException

import pytest

from django_smtp_pool.core.batch import Batch
from django_smtp_pool.core.events import Attempted
from django_smtp_pool.core.lanes import Lanes
from django_smtp_pool.envelope import envelope_of
from django_smtp_pool.signals import message_sent
from tests.batches.ledger import QUIET, messages, order_of, settled, taken
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
    assert max(ahead for ahead, _ in most) <= 2 * width
    assert max(there for _, there in most) <= 2 * width + 2  # the last one told of may still be in somebody's hands
    gc.collect()
    assert len(alive) == 0


def test_the_callers_code_never_runs_half_way_through_a_write(mailer, monkeypatch):
    batches, waits_while_writing, runs_of_code = [], [], []
    begin, wait = Batch.__init__, Lanes.wait

    def remember(self, *args, **kwargs):
        begin(self, *args, **kwargs)
        batches.append(self)

    def watch(self, until):
        waits_while_writing.append(self.are_writing)
        wait(self, until)

    monkeypatch.setattr(Batch, "__init__", remember)
    monkeypatch.setattr(Lanes, "wait", watch)

    def note(**_):
        runs_of_code.append(any(lane.run is not None and lane.run.is_writing for lane in batches[0]._lanes.all))

    def large_ones():
        for mail in messages(6, attachments=[("large.bin", bytes(4_000_000), "application/octet-stream")]):
            note()
            yield mail

    message_sent.connect(note)
    try:
        with FaultServer(receive_buffer=65536) as server:
            assert mailer(server, batch_connections=3).send_messages(large_ones()) == 6
    finally:
        message_sent.disconnect(note)
    assert len(runs_of_code) == 12
    assert not any(runs_of_code)
    assert any(waits_while_writing), "the server was to be slower than the writer"


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
    server.hold("data")  # until all three are there
    sending = in_thread(backend.send_messages, messages(30))
    assert server.wait_for(lambda: server.held == 3)
    server.release()
    assert sending.join() == 30
    assert backend.send_messages(messages(30)) == 30
    assert server.connections == 3


def test_connections_that_died_while_idle_are_invisible(server, mailer):
    backend = mailer(server, max_connections=4)
    server.hold("data")
    sending = in_thread(backend.send_messages, messages(8))
    assert server.wait_for(lambda: server.held == 4)
    server.release()
    assert sending.join() == 8
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
