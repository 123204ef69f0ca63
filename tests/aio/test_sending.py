"""`asend_messages()`: the contract of `send_messages()`, in an event loop."""

import asyncio
import smtplib
import threading
from contextvars import ContextVar

import pytest
from django.core.mail import EmailMessage

from django_smtp_pool.backend import PooledBackend
from django_smtp_pool.core.errors import PoolTimeout, outcome_of
from django_smtp_pool.signals import message_failed, message_sent
from tests.aio.waiting import assert_no_place_is_taken, until
from tests.mailing import backend_for, message
from tests.servers import Fault, faults

LARGE = ("y" * 70 + "\n") * 2000
HALF = "half@example.com"
NOWHERE = "550 5.1.1 no such user"


def run(coroutine):
    """Run in a loop that complains about what it is not used to."""
    return asyncio.run(coroutine, debug=True)


def test_one_message(server):
    backend, mail = backend_for(server), message(1)
    assert run(backend.asend_messages([mail])) == 1
    assert mail.smtp_pool_status.outcome == "accepted"
    assert len(server.accepted) == 1
    assert_no_place_is_taken(backend)


@pytest.mark.parametrize("chunking", [False, True], ids=["DATA", "BDAT"])
@pytest.mark.parametrize(
    "body", ["Hello\n", LARGE, ".\n" * 50000, "ä\n" * 50000], ids=["small", "large", "dots", "8bit"]
)
def test_the_octets_are_those_of_send_messages(server, body, chunking):
    server.chunking = chunking
    headers = {"Message-ID": "<a@example.com>", "Date": "Thu, 1 Jan 2026 00:00:00 +0000"}
    mails = [message(1, body=body, headers=headers) for _ in range(2)]
    backend = backend_for(server)
    assert backend.send_messages(mails[:1]) == run(backend.asend_messages(mails[1:])) == 1
    assert server.accepted[0].content == server.accepted[1].content


def test_a_batch_uses_several_connections_and_knows_each_outcome(server):
    server.refuse_recipients = {HALF: NOWHERE}
    backend = backend_for(server, max_connections=3)
    mails = [message(number, to=[HALF if number in {3, 7} else "to@example.com"]) for number in range(20)]
    mails[5].subject = "two\nlines"
    with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
        run(backend.asend_messages(mails))
    assert list(caught.value.failures) == [3, 5, 7]
    assert (len(caught.value.batch.accepted), caught.value.batch.not_tried) == (17, ())
    assert len(server.accepted) == 17
    assert mails[5].smtp_pool_status.outcome == "not_sent"
    assert_no_place_is_taken(backend)


def test_one_connection_keeps_the_order(server):
    backend = backend_for(server, batch_connections=1)
    mails = [message(number, body=LARGE if number % 3 == 0 else "Hello\n") for number in range(10)]
    assert run(backend.asend_messages(iter(mails))) == 10
    assert [f"Message {n}\r\n".encode() in each.content for n, each in enumerate(server.accepted)] == [True] * 10


def test_nothing_to_send(server):
    backend = backend_for(server)
    assert run(backend.asend_messages([])) == 0
    assert run(backend.asend_messages([message(1, to=[])])) == 0
    with pytest.raises(TypeError):
        run(backend.asend_messages("hello"))
    assert server.connections == 0


@pytest.mark.parametrize("count", [1, 3])
def test_fail_silently(server, count):
    server.refuse_recipients = {HALF: NOWHERE}
    backend = backend_for(server, fail_silently=True)
    assert run(backend.asend_messages([message(number, to=[HALF]) for number in range(count)])) == 0


@pytest.mark.parametrize("count", [1, 3])
def test_nobody_listens(server, count):
    server.refuse()
    mails = [message(number) for number in range(count)]
    with pytest.raises(ConnectionRefusedError):
        run(backend_for(server, max_requeues=0).asend_messages(mails))
    assert {mail.smtp_pool_status.outcome for mail in mails[:1]} == {"not_sent"}


@pytest.mark.parametrize(("point", "outcome"), [("mail", "not_sent"), ("end", "unknown")])
@pytest.mark.parametrize("count", [1, 2])
def test_a_silent_server(server, point, outcome, count):
    server.fault = Fault(at=point, do=faults.hang, times=None)
    mails = [message(number) for number in range(count)]
    backend = backend_for(server, timeout=0.05, max_requeues=0)
    with pytest.raises(OSError) as caught:  # noqa: PT011 - which one the other tests say
        run(backend.asend_messages(mails))
    assert outcome_of(caught.value) == outcome
    assert mails[0].smtp_pool_status.outcome == outcome
    assert_no_place_is_taken(backend)


def test_an_exhausted_pool_does_not_block_the_loop(server):
    server.hold("mail")
    backend = backend_for(server, max_connections=1, acquire_timeout=0.2)

    async def main():
        first = asyncio.create_task(backend.asend_messages([message(1)]))
        await until(server, lambda: server.held == 1)
        second = asyncio.create_task(backend.asend_messages([message(2)]))
        turns = 0
        while not second.done():
            turns += 1
            await asyncio.sleep(0)
        server.release()
        with pytest.raises(PoolTimeout):
            await second
        return turns, await first

    turns, sent = run(main())
    assert (turns > 10, sent) == (True, 1)


# -- the caller's code -------------------------------------------------------------------------------------

tenant = ContextVar("tenant", default="nobody")


class Rendering(EmailMessage):
    """Notes who renders it, and for whom."""

    def message(self, *args, **kwargs):
        """Render as Django does."""
        self.rendered_by = (threading.get_ident(), tenant.get())
        return super().message(*args, **kwargs)


def rendering(number):
    return Rendering(f"Message {number}", "Hello\n", "from@example.com", ["to@example.com"])


@pytest.mark.parametrize("count", [1, 3])
def test_what_renders_itself_is_rendered_in_a_thread_with_the_context(server, count):
    mails = [rendering(number) for number in range(count)]

    async def main():
        tenant.set("shop")
        return await backend_for(server).asend_messages(mails)

    assert run(main()) == count
    assert {mail.rendered_by[1] for mail in mails} == {"shop"}
    assert threading.get_ident() not in {mail.rendered_by[0] for mail in mails}


@pytest.mark.parametrize("count", [1, 4])
def test_receivers_of_both_kinds_are_told(server, count):
    server.refuse_recipients = {HALF: NOWHERE}
    told = []

    def sent(message, **_):
        told.append((message.subject, "sent", threading.get_ident() == loops_thread))

    async def asent(message, **_):
        await asyncio.sleep(0)
        told.append((message.subject, "asent", threading.get_ident() == loops_thread))

    async def failed(message, error, **_):
        told.append((message.subject, type(error).__name__))

    mails = [message(number, to=[HALF if number == 2 else "to@example.com"]) for number in range(count)]
    message_sent.connect(sent)
    message_sent.connect(asent)
    message_failed.connect(failed)
    loops_thread = threading.get_ident()
    try:
        if count == 1:
            run(backend_for(server).asend_messages(mails))
        else:
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                run(backend_for(server).asend_messages(mails))
    finally:
        message_sent.disconnect(sent)
        message_sent.disconnect(asent)
        message_failed.disconnect(failed)
    good = [mail.subject for number, mail in enumerate(mails) if number != 2]
    wanted = [(each, "sent", False) for each in good] + [(each, "asent", True) for each in good]
    wanted += [("Message 2", "RecipientsRefused")] if count > 2 else []
    assert sorted(told) == sorted(wanted)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["in a thread", "in the loop"])
def test_a_receiver_that_sends_mail_with_the_only_connection(server, asynchronous):
    backend = backend_for(server, max_connections=1, acquire_timeout=10)
    results = []

    def again(message, **_):
        results.append(backend_for(server, max_connections=1, acquire_timeout=10).send_messages([copy(message)]))

    async def aagain(message, **_):
        results.append(await backend.asend_messages([copy(message)]))

    def copy(original):
        return message(99, to=original.to)

    receiver = aagain if asynchronous else again
    message_sent.connect(receiver)
    try:
        assert run(backend.asend_messages([message(number) for number in range(3)])) == 3
    finally:
        message_sent.disconnect(receiver)
    assert results == [1, 1, 1]


class Own(PooledBackend):
    """Sends each message in a way of its own."""

    def _send(self, email_message):
        self.seen = threading.get_ident()
        return super()._send(email_message)


class OwnBatch(PooledBackend):
    """Sends lists in a way of its own."""

    def send_messages(self, email_messages):
        self.seen = threading.get_ident()
        return super().send_messages(email_messages)


@pytest.mark.parametrize("kind", [Own, OwnBatch])
def test_a_subclass_with_a_way_of_its_own_is_asked_in_a_thread(server, kind):
    backend = backend_for(server, kind)
    assert run(backend.asend_messages([message(1), message(2)])) == 2
    assert backend.seen != threading.get_ident()
