"""Interrupts from the code of others: mail that a signal handler sends, receivers that raise, and what they leave."""

import asyncio
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from django_smtp_pool.core.errors import ConnectionLost, PoolTimeout, RecipientsRefused, is_failure
from django_smtp_pool.signals import message_sent
from django_smtp_pool.status import SmtpPoolStatus
from tests.handlers import SIGNAL, handling, ring
from tests.mailing import message
from tests.servers import Fault
from tests.servers.misbehaviour import Misbehaviour

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


def striking(session, proper):
    os.kill(os.getpid(), SIGNAL)  # it runs in the main thread, which waits for this reply


@posix
@pytest.mark.parametrize(
    "error",
    [ConnectionLost("mail of the handler"), PoolTimeout("mail of the handler"), RecipientsRefused({})],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("count", [1, 2])
def test_the_failure_of_a_signal_handlers_mail_is_not_that_of_the_interrupted_message(mailer, server, error, count):
    """It used to be tried again, so the message was delivered twice, or it was called not sent."""

    def handler(number, frame):
        raise error

    server.fault = Fault(at="end", do=Misbehaviour(name="strike", act=striking))
    mails = [message(number) for number in range(count)]
    with handling(handler), pytest.raises(type(error)) as caught:
        mailer(server, max_connections=1).send_messages(mails)
    assert caught.value is error
    assert mails[0].smtp_pool_status.outcome == "unknown"
    assert mails[0].smtp_pool_status.attempts == 1
    assert len(server.commands("MAIL")) == 1


@posix
def test_a_failure_is_an_interrupt_if_a_signal_handler_raised_it():
    def handler(number, frame):
        raise ConnectionLost("mail of the handler")

    with handling(handler):
        with pytest.raises(ConnectionLost) as caught:
            ring()
        assert not is_failure(caught.value)
    assert is_failure(ConnectionLost("mine"))


class Stop(BaseException):
    """What a receiver raises."""


NOT_REACHED = SmtpPoolStatus(outcome="not_sent")


@pytest.fixture
def stopping():
    def receiver(**_):
        raise Stop

    message_sent.connect(receiver)
    yield
    message_sent.disconnect(receiver)


@pytest.mark.usefixtures("stopping")
@pytest.mark.parametrize("count", [1, 3])
def test_an_accepted_message_whose_receiver_raises_is_among_the_accepted(mailer, server, count):
    mails = [message(number) for number in range(count)]
    with pytest.raises(Stop) as caught:
        mailer(server, batch_connections=1).send_messages(mails)
    status_of = lambda mail: mail.smtp_pool_status or NOT_REACHED  # noqa: E731
    accepted = {number for number, mail in enumerate(mails) if status_of(mail).outcome == "accepted"}
    unknown = {number for number, mail in enumerate(mails) if status_of(mail).outcome == "unknown"}  # on its way then
    assert set(caught.value.batch.accepted) == accepted
    assert 1 <= len(accepted) <= len(server.accepted) <= len(accepted | unknown)
    assert not set(caught.value.batch.not_tried) & accepted


@pytest.mark.usefixtures("stopping")
def test_every_message_under_way_has_its_outcome_although_each_receiver_raises(mailer, server):
    server.hold("end")
    backend, mails, came = mailer(server, max_connections=3), [message(number) for number in range(3)], []

    def work():
        try:
            backend.send_messages(mails)
        except Stop as error:
            came.append(error)

    sending = threading.Thread(target=work)
    sending.start()
    assert server.wait_for(lambda: server.gate.standing == 3)
    server.release(2)
    sending.join(20)
    outcomes = [mail.smtp_pool_status.outcome for mail in mails]
    assert sorted(outcomes) in (["accepted", "accepted", "unknown"], ["accepted", "unknown", "unknown"])
    assert came[0].batch.not_tried == ()


def test_a_message_whose_recipients_cannot_be_listed_does_not_stop_the_others(mailer, server):
    wrong = message(1)
    wrong.to = "b@example.com"
    mails = [message(0), wrong, message(2)]
    with pytest.raises(TypeError) as caught:
        mailer(server).send_messages(mails)
    assert sorted(caught.value.batch.accepted) == [0, 2]
    assert wrong.smtp_pool_status.outcome == "not_sent"


def test_a_task_needs_no_thread_of_the_executor_while_it_holds_a_connection(mailer, server):
    """All threads of the executor may wait for that connection."""

    async def main():
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(max_workers=1))
        gate = threading.Event()
        waiting = asyncio.ensure_future(asyncio.to_thread(gate.wait, 20))
        await asyncio.sleep(0)
        sent = await asyncio.wait_for(backend.asend_messages([message(1)]), 20)
        gate.set()
        await waiting
        return sent

    backend = mailer(server)
    assert backend.config  # made here: that may take a thread
    assert asyncio.run(main()) == 1


def test_the_loop_is_free_while_a_pool_is_being_closed(mailer, server):
    async def main():
        pool.announce_close(20)
        sending = asyncio.ensure_future(backend.asend_messages([message(1)]))
        await asyncio.sleep(0)
        pool.shut()
        return await asyncio.wait_for(sending, 20)

    backend = mailer(server)
    pool = backend.pool
    assert asyncio.run(main()) == 1
    assert backend.pool is not pool
