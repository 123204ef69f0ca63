"""Nobody starves beside a mailing, and the ceiling is a ceiling."""

import subprocess
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from django_smtp_pool.core.errors import Outcome, PoolTimeout
from django_smtp_pool.core.pool import policy
from django_smtp_pool.core.pool.pool import Pool
from django_smtp_pool.core.smtp.content import Content
from django_smtp_pool.core.smtp.envelope import Envelope
from tests.batches.ledger import QUIET, address_of, messages, order_of, outcomes, settled, taken
from tests.core.fakes import in_thread, until
from tests.mailing import message


@pytest.fixture
def handovers(monkeypatch):
    """Count the connections that came back, and note how many had when one was found for a single message.

    Not when the message had it: the thread that hands it over may be slow.
    """
    handovers = SimpleNamespace(returns=0, granted_at=[], singles=[])
    take_back, lend = Pool.take_back, policy._lend

    def counting(pool, *lease):
        handovers.returns += 1
        take_back(pool, *lease)

    def lent(state, waiter, slot, where):
        if waiter.holder is None:  # a single message
            handovers.granted_at.append(handovers.returns)
        lend(state, waiter, slot, where)

    monkeypatch.setattr(Pool, "take_back", counting)
    monkeypatch.setattr(policy, "_lend", lent)
    return handovers


def in_between(source, every, pool, handovers, send):
    """Yield what a mailing consists of; every now and then another thread sends a single message meanwhile."""
    for number, each in enumerate(source):
        if number and number % every == 0:
            before, single = handovers.returns, in_thread(send, 100_000 + number)
            until(lambda single=single: pool.stats().waiting or single.is_done)
            handovers.singles.append((single, before))
        yield each


def waits(handovers):
    """Return how many connections came back before each thread had one: 0 where one was free at that moment."""
    return [at - before for at, (_, before) in zip(handovers.granted_at, handovers.singles, strict=True)]


@pytest.mark.parametrize("width", [1, 4])
def test_a_single_message_has_the_next_connection(server, mailer, handovers, width):
    backend = mailer(server, max_connections=width, max_messages=0)  # one that is worn out serves nobody
    at_the_server = []

    def single(number):
        at_the_server.append(len(server.accepted))
        return backend.send_messages([message(to=[address_of(number)])])

    mailing = in_between(messages(400), 50, backend.pool, handovers, single)
    assert backend.send_messages(mailing) == 400
    assert [each.join() for each, _ in handovers.singles] == [1] * 7
    assert max(waits(handovers)) <= 1
    if width == 1:
        order = order_of(server)
        singles = [100_000 + 50 * (number + 1) for number in range(7)]
        assert all(order.index(each) <= at + 1 for each, at in zip(singles, at_the_server, strict=True))
    assert set(taken(server).values()) == {1}


def test_during_a_batch_of_ten_thousand_a_single_message_has_the_next_connection(mailer, handovers):
    told = Counter()
    with sink() as server:
        sender = mailer(server, max_connections=4, max_messages=0)._sender
        source = ((number, envelope(number)) for number in range(10_000))
        mailing = in_between(source, 1000, sender.pool, handovers, lambda number: sender.send(envelope(number)))
        sender.send_many(mailing, lambda _, delivery: told.update([delivery.outcome]), 4)
        assert told == {Outcome.ACCEPTED: 10_000}
        assert [single.join().outcome for single, _ in handovers.singles] == [Outcome.ACCEPTED] * 9
        assert max(waits(handovers)) <= 1
        assert sender.pool.stats().messages_accepted == 10_009


@contextmanager
def sink():
    """Run the benchmarks' server, which throws mail away faster than one that keeps books."""
    command = [sys.executable, str(Path(__file__).parents[2] / "benchmarks" / "sink.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield SimpleNamespace(host="127.0.0.1", port=int(process.stdout.readline()))
        finally:
            process.kill()


def envelope(number):
    """Return a message that need not be rendered."""
    return Envelope(
        sender="from@example.com",
        recipients=(address_of(number),),
        content=Content.of(b"Subject: Hello\r\n\r\nHello\r\n"),
    )


def test_the_ceiling_holds_for_two_batches_and_eight_threads(server, mailer):
    # Without wear: one that says QUIT has left its place in the pool, and is open at the server until that is heard.
    backend = mailer(server, max_connections=3, max_messages=0)

    def singles(first):
        return sum(backend.send_messages([message(to=[address_of(first + number)])]) for number in range(10))

    work = [in_thread(backend.send_messages, [message(to=[address_of(number)]) for number in range(100)])]
    work.append(in_thread(backend.send_messages, iter([message(to=[address_of(100 + n)]) for n in range(100)])))
    work += [in_thread(singles, 200 + 10 * thread) for thread in range(8)]
    assert [each.join() for each in work] == [100, 100, *[10] * 8]
    assert server.most_open <= 3
    assert server.connections <= 3
    assert taken(server) == {address_of(number): 1 for number in range(280)}
    assert settled(server, backend.pool) == QUIET


def test_a_batch_that_waits_for_the_connection_of_another_thread(server, mailer):
    backend = mailer(server, max_connections=1)
    server.hold("data")
    single = in_thread(backend.send_messages, [message(to=[address_of(0)])])
    assert server.wait_for(lambda: server.held == 1)
    batch = in_thread(backend.send_messages, messages(5))
    until(lambda: backend.pool.stats().waiting == 1)
    server.release()
    assert (single.join(), batch.join()) == (1, 5)
    assert server.connections == 1


# -- mail that is sent in the middle of a batch, by the same thread ----------------------------------------


def answering(backend, replies):
    """Return a receiver that answers the messages of a batch, and keeps what came of it."""

    def receiver(message, **_):
        number = int(message.to[0].removeprefix("to").partition("@")[0])
        if number < 100:
            reply = message.__class__("Re", "x", "from@example.com", [address_of(100 + number)])
            try:
                replies.append(backend.send_messages([reply]))
            except PoolTimeout as error:
                replies.append(error)

    return receiver


@pytest.mark.parametrize("options", [{}, {"batch_connections": 1}, {"max_connections": 2, "batch_connections": 1}])
def test_a_receiver_may_send_mail(server, mailer, receive, options):
    backend = mailer(server, acquire_timeout=3600, **options)
    replies = []
    receive(answering(backend, replies))
    assert backend.send_messages(messages(30)) == 30
    told_at_once = [each for each in replies if each != 1]
    assert all("batch of this same thread" in str(error) for error in told_at_once)
    if options:
        assert not told_at_once, "a connection is left for it"
    assert sum(each == 1 for each in replies) == len(server.accepted) - 30


def test_a_receiver_that_cannot_have_a_connection_hears_so_at_once(server, mailer, receive):
    backend = mailer(server, max_connections=2, acquire_timeout=3600)
    replies = []
    answer = answering(backend, replies)

    def when_the_batch_has_everything(message, **_):
        if not replies and message.to[0] == address_of(0):
            answer(message)

    receive(when_the_batch_has_everything)
    server.hold("data")
    sending = in_thread(backend.send_messages, messages(6))
    assert server.wait_for(lambda: server.held == 2)
    single = in_thread(backend.send_messages, [message(to=[address_of(50)])])
    until(lambda: backend.pool.stats().waiting == 1)
    # The first connection goes to the single message, the second one stays with the batch: the reply waits for
    # the single message, and must not be overtaken by the batch, which would keep what it gets.
    server.release(1)
    assert server.wait_for(lambda: server.held == 2)
    server.release()
    assert sending.join() == 6
    assert single.join() == 1
    assert len(replies) == 1


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_batches_whose_receivers_send_mail_never_wait_for_one_another(server, mailer, receive, threads):
    backend = mailer(server, max_connections=2, acquire_timeout=3600)
    replies = []
    receive(answering(backend, replies))
    batches = [messages(40) for _ in range(threads)]
    work = [in_thread(backend.send_messages, batch) for batch in batches]
    assert [each.join(60) for each in work] == [40] * threads
    assert all(set(outcomes(batch)) == {"accepted"} for batch in batches)
    assert all(each == 1 or "batch of this same thread" in str(each) for each in replies)
    assert settled(server, backend.pool) == QUIET


def test_rendering_may_send_mail(server, mailer):
    backend = mailer(server, max_connections=2, acquire_timeout=3600)
    results = []

    def mailing():
        for mail in messages(20):
            try:
                results.append(backend.send_messages([message(to=[address_of(100)])]))
            except PoolTimeout as error:
                results.append(error)
            yield mail

    assert backend.send_messages(mailing()) == 20
    assert len(results) == 20
    assert sum(each == 1 for each in results) == taken(server)[address_of(100)]
    assert all(each == 1 or "batch of this same thread" in str(each) for each in results)


def test_a_batch_in_the_middle_of_a_batch(server, mailer):
    backend = mailer(server, max_connections=3, batch_connections=2, acquire_timeout=3600)
    inner = []

    def mailing():
        for number, mail in enumerate(messages(12)):
            if number % 4 == 3:
                inner.append(backend.send_messages([message(to=[address_of(100 * number + n)]) for n in range(5)]))
            yield mail

    assert backend.send_messages(mailing()) == 12
    assert inner == [5, 5, 5]
    assert set(taken(server).values()) == {1}


def test_the_receivers_run_in_the_thread_that_sends(server, mailer, receive):
    threads = set()
    receive(lambda **_: threads.add(threading.get_ident()))
    mailer(server).send_messages(messages(20))
    assert threads == {threading.get_ident()}
