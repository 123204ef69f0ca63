"""Signals and log records: receivers and handlers that fail, or send mail themselves, do no harm."""

import contextlib
import logging
import logging.config
import logging.handlers
import queue
import sys

import django
import pytest
from django.core import mail

from django_smtp_pool import signals
from django_smtp_pool.core.errors import SenderRefused
from django_smtp_pool.core.events import records
from django_smtp_pool.status import SmtpPoolStatus
from tests.interrupts import Interrupting
from tests.mailing import backend_for, message
from tests.servers import Fault, FaultServer, faults

MAILERS = django.VERSION >= (6, 1)
REFUSE_ALL = Fault(at="mail", do=faults.code_5xx, times=None)


@pytest.fixture
def receive():
    """Return a function that connects a receiver until the test ends."""
    connected = []

    def connect(signal, receiver):
        signal.connect(receiver, weak=False)
        connected.append((signal, receiver))

    yield connect
    for signal, receiver in connected:
        signal.disconnect(receiver)


# -- signals -------------------------------------------------------------------------------------------


def test_a_message_that_was_sent(server, receive):
    seen = []
    receive(signals.message_sent, lambda **told: seen.append(told))
    backend, made = backend_for(server), message()
    backend.send_messages([made])
    assert len(seen) == 1
    assert seen[0]["sender"] is type(backend)
    assert seen[0]["message"] is made
    assert seen[0]["status"] is made.smtp_pool_status


@pytest.mark.parametrize("made", [message(), message(to=["a@[::1"])])
def test_a_message_that_failed(receive, made):
    seen = []
    receive(signals.message_failed, lambda **told: seen.append(told))
    with FaultServer(fault=REFUSE_ALL) as server, pytest.raises((SenderRefused, ValueError)) as caught:
        backend_for(server).send_messages([made])
    assert [told["error"] for told in seen] == [caught.value]
    assert seen[0]["message"] is made
    assert seen[0]["status"] is made.smtp_pool_status


def test_the_connection_is_back_before_a_receiver_is_called(server, receive):
    backend = backend_for(server, max_connections=1, acquire_timeout=0.05)
    busy = []
    receive(signals.message_sent, lambda **told: busy.append(backend.pool.stats().busy))
    backend.send_messages([message()])
    assert busy == [0]


def test_a_receiver_that_raises_changes_nothing(server, receive):
    def fail(**told):
        raise RuntimeError

    for signal in (signals.message_sent, signals.connection_opened, signals.connection_closed):
        receive(signal, fail)
    assert backend_for(server).send_messages([message(1), message(2)]) == 2


def test_a_receiver_that_sends_mail_goes_round_no_circle(server, receive):
    backend = backend_for(server)
    receive(signals.message_sent, lambda message, **told: backend.send_messages([_copy_of(message)]))
    backend.send_messages([message()])
    assert [b"Copy" in each.content for each in server.accepted] == [False, True]


def _copy_of(original):
    return message(subject=f"Copy of {original.subject}")


def test_a_receiver_that_mails_of_failures_goes_round_no_circle(receive):
    with FaultServer(fault=REFUSE_ALL) as server:
        backend = backend_for(server)
        receive(signals.message_failed, lambda message, **told: backend.send_messages([_copy_of(message)]))
        with pytest.raises(SenderRefused):
            backend.send_messages([message()])
        assert len(server.commands("MAIL")) == 2


def test_a_receiver_of_a_batch_that_sends_mail(server, receive):
    backend = backend_for(server, max_connections=2)
    receive(signals.message_sent, lambda message, **told: backend.send_messages([_copy_of(message)]))
    assert backend.send_messages([message(number) for number in range(6)]) == 6
    assert len(server.accepted) == 12


def test_a_log_handler_that_fails_on_a_failing_receiver(server, receive):
    class Failing(logging.Handler):
        def emit(self, record):
            raise RuntimeError

    def fail(**told):
        raise ValueError

    receive(signals.message_sent, fail)
    dispatch, handler = logging.getLogger("django.dispatch"), Failing()
    dispatch.addHandler(handler)
    try:
        assert backend_for(server).send_messages([message()]) == 1
    finally:
        dispatch.removeHandler(handler)


# -- records -------------------------------------------------------------------------------------------


@pytest.fixture
def site(settings):
    """Return a function that makes a server the site's mail server, as its settings would."""

    def configure(server):
        settings.ADMINS = ["admin@example.com"] if django.VERSION >= (6, 0) else [("Admin", "admin@example.com")]
        backend = "django_smtp_pool.backend.PooledBackend"
        options = {"host": server.host, "port": server.port, "local_hostname": "client.example"}
        if MAILERS:
            settings.MAILERS = {"default": {"BACKEND": backend, "OPTIONS": {**options, "fail_silently": True}}}
        else:
            settings.EMAIL_BACKEND, settings.EMAIL_HOST, settings.EMAIL_PORT = backend, server.host, server.port
            settings.EMAIL_LOCAL_HOSTNAME = "client.example"

    return configure


@pytest.fixture
def mail_admins():
    """Let the records of the site and of this package be mailed to the admins, from WARNING up."""
    from django.utils.log import AdminEmailHandler

    handler = AdminEmailHandler()
    handler.setLevel(logging.WARNING)
    loggers = [logging.getLogger(name) for name in ("shop", "django_smtp_pool")]
    for logger in loggers:
        logger.addHandler(handler)
    yield handler
    for logger in loggers:
        logger.removeHandler(handler)


def warnings_of(caplog):
    ours = [each for each in caplog.records if each.name.startswith("django_smtp_pool")]
    assert all(each.levelno <= logging.WARNING for each in ours)
    return [each for each in ours if each.levelno == logging.WARNING]


@pytest.mark.parametrize("misbehaviour", [faults.code_5xx, faults.code_4xx])
def test_admins_mailed_while_the_server_refuses_everything(site, mail_admins, caplog, misbehaviour):
    with FaultServer(fault=Fault(at="mail", do=misbehaviour, times=None)) as server:
        site(server)
        logging.getLogger("shop").error("Out of stock")
        assert len(server.commands("MAIL")) == 1
        assert len(warnings_of(caplog)) == 1
    assert "A message was refused, and fail_silently hides it" in warnings_of(caplog)[0].getMessage()


def test_admins_mailed_while_every_outcome_is_unknown(site, mail_admins, caplog):
    with FaultServer(fault=Fault(at="end", do=faults.reset, times=None)) as server:
        site(server)
        logging.getLogger("shop").error("Out of stock")
        assert len(server.commands("MAIL")) == 1
        assert len(warnings_of(caplog)) == 1


def test_a_warning_of_ours_sends_no_mail_by_us(site, mail_admins, caplog):
    with FaultServer(refuse_recipients={"b@example.com": "550 5.1.1 No"}) as server:
        site(server)
        made = message(to=["a@example.com", "b@example.com"])
        mail.get_connection().send_messages([made]) if not MAILERS else mail.mailers["default"].send_messages([made])
        assert len(server.accepted) == 1
        assert len(warnings_of(caplog)) == 1


def test_a_record_of_the_site_is_mailed(site, mail_admins):
    with FaultServer() as server:
        site(server)
        logging.getLogger("shop").error("Out of stock")
        assert b"Out of stock" in server.accepted[0].content


def test_a_raising_receiver_whose_error_is_mailed_goes_round_no_circle(site, mail_admins, receive):
    def fail(**told):
        raise RuntimeError("receiver")

    receive(signals.message_sent, fail)
    receive(signals.message_failed, fail)
    with FaultServer() as server:
        site(server)
        logging.getLogger("shop").error("Out of stock")
        assert len(server.commands("MAIL")) == 2  # the error; that of the receiver, which Django mails


def test_a_queue_between_record_and_handler_goes_round_no_circle(site, caplog):
    from django.utils.log import AdminEmailHandler

    waiting, ours = queue.Queue(), logging.getLogger("django_smtp_pool")
    handler = logging.handlers.QueueHandler(waiting)
    ours.addHandler(handler)
    try:
        with FaultServer(fault=REFUSE_ALL) as server:
            site(server)
            backend_for(server, fail_silently=True).send_messages([message()])
            admin, handled = AdminEmailHandler(), 0
            while not waiting.empty() and handled < 50:
                record, handled = waiting.get(), handled + 1
                if record.levelno >= logging.WARNING:
                    admin.handle(record)
            # The last one twice: on a connection that has carried a message a refusal may be about that.
            assert len(server.commands("MAIL")) == 3
    finally:
        ours.removeHandler(handler)
    assert len(warnings_of(caplog)) == 1


def test_a_handler_that_raises_harms_no_message(server):
    class Failing(logging.Handler):
        def emit(self, record):
            raise RuntimeError

    ours, handler = logging.getLogger("django_smtp_pool"), Failing()
    ours.addHandler(handler)
    level, ours.level = ours.level, logging.DEBUG
    try:
        assert backend_for(server, debug=True).send_messages([message()]) == 1
    finally:
        ours.removeHandler(handler)
        ours.setLevel(level)


def test_a_mail_that_a_handler_makes_of_our_record_is_left_unsent(server):
    class Mailing(logging.Handler):
        def emit(self, record):
            assert records.are_being_handled()
            results.append((made, backend_for(server).send_messages([made])))

    made, results = message(), []
    logger, handler = logging.getLogger("django_smtp_pool.sender"), Mailing()
    logger.addHandler(handler)
    try:
        records.write(logger, logging.WARNING, "One")
    finally:
        logger.removeHandler(handler)
    assert results == [(made, 0)]
    assert made.smtp_pool_status.outcome == "not_sent"
    assert server.connections == 0
    assert not records.are_being_handled()


def test_an_interrupt_in_the_middle_of_a_signal_keeps_no_later_one_back(receive):
    seen = []
    receive(signals.message_sent, lambda **told: seen.append(told))
    status, places = SmtpPoolStatus(outcome="accepted"), set()
    for step in range(80):
        interrupt = KeyboardInterrupt()
        interrupting = Interrupting(step, interrupt)
        with contextlib.suppress(KeyboardInterrupt):
            interrupting.run(signals.tell, object, message(), status)
        interrupt.__traceback__ = None  # it leads to the frames that were interrupted
        places.add(interrupting.where)
        seen.clear()
        signals.tell(object, message(), status)
        assert len(seen) == 1
    assert None in places, "the last ones came too late to interrupt anything"
    assert len(places) > 8
    assert sys.exc_info() == (None, None, None)
