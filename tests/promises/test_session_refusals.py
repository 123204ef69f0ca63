"""Refusals that may be about the connection: limits of messages, told by refusing MAIL, and lost sessions."""

import smtplib

import pytest

from tests.clocks import ServersClock
from tests.mailing import message
from tests.servers import Fault, FaultServer, faults

LIMIT = 3
LIMIT_REPLIES = [
    "452 4.4.5 Too many messages in this session",
    "451 too many",
    "452 4.5.3 too many",
    "550 too many",
    "554 5.7.0 too many",
]
TOO_MANY = faults.reply(LIMIT_REPLIES[0])


class Limit:
    """Refuses MAIL on each connection that has carried so many messages, or from one sender everywhere."""

    def __init__(self, server, reply, *, sender=None):
        self._server, self._reply, self._sender = server, faults.reply(reply), sender

    def pick(self, moment):
        """Return what is to be done at this moment, or None."""
        if "mail" not in moment.points:
            return None
        if self._sender is not None:
            return self._reply if self._sender in self._server.commands("MAIL")[-1][1] else None
        carried = [each for each in self._server.accepted if each.connection == moment.connection]
        return self._reply if len(carried) >= LIMIT else None


@pytest.fixture
def mailer(mailer):
    """Return a function that makes a backend with a clock of the server's."""
    return lambda server, **options: mailer(server, clock=ServersClock(server), **options)


def send(backend, mails, way):
    """Send one by one or in a batch; return the errors."""
    errors = []
    for part in [mails] if way == "batch" else [[mail] for mail in mails]:
        try:
            backend.send_messages(part)
        except smtplib.SMTPException as error:
            errors += error.failures.values()
    return errors


@pytest.mark.parametrize("way", ["one-by-one", "batch"])
@pytest.mark.parametrize("reply", LIMIT_REPLIES)
@pytest.mark.parametrize("chunking", [False, True], ids=["DATA", "BDAT"])
def test_a_limit_told_by_refusing_mail_costs_nobody_a_message_and_is_learnt(mailer, way, reply, chunking):
    with FaultServer(chunking=chunking) as server:
        server.fault = Limit(server, reply)
        backend = mailer(server, max_connections=1)
        mails = [message(number, to=[f"to{number}@example.com"]) for number in range(20)]
        assert send(backend, mails, way) == []
        assert [each.recipients[0] for each in server.accepted] == [mail.to[0] for mail in mails]
        assert backend.pool.stats().requeues == 2  # it took two to learn
        assert f"{LIMIT} on one connection" in backend.pool.stats().learnt["max_messages"]


@pytest.mark.parametrize("way", ["one-by-one", "batch"])
@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("chunking", [False, True], ids=["DATA", "BDAT"])
def test_a_bad_sender_costs_one_connection_and_teaches_no_limit(mailer, way, most, chunking):
    with FaultServer(chunking=chunking) as server:
        server.fault = Limit(server, "550 5.7.1 not this one", sender="bad@example.com")
        backend = mailer(server, max_connections=most, batch_connections=1)
        mails = []
        for number in range(10):
            mails += [message(number), message(number, from_email="bad@example.com")]
        errors = send(backend, mails, way)
        assert [type(error).__mro__[2] for error in errors] == [smtplib.SMTPSenderRefused] * 10
        assert {mail.smtp_pool_status.outcome for mail in mails[1::2]} == {"refused"}
        assert len(server.accepted) == 10
        assert server.connections == 2 + chunking  # a refusal in one shot costs the connection
        assert "max_messages" not in backend.pool.stats().learnt
        if most > 1 and not chunking:
            assert backend.pool.stats().idle == 2  # the used connection is kept


def test_after_ten_minutes_the_sender_is_tried_on_a_fresh_connection_again(mailer):
    with FaultServer() as server:
        server.fault = Limit(server, "550 5.7.1 not this one", sender="bad@example.com")
        backend = mailer(server, idle_timeout=0, max_lifetime=0)
        mails = [message(1), *(message(2, from_email="bad@example.com") for _ in range(3))]
        assert len(send(backend, mails, "one-by-one")) == 3
        assert [mail.smtp_pool_status.attempts for mail in mails] == [1, 2, 1, 1]
        backend.pool._clock.advance(601)
        late = message(3, from_email="bad@example.com")
        assert len(send(backend, [late], "one-by-one")) == 1
        assert late.smtp_pool_status.attempts == 2


def test_a_sender_that_is_accepted_again_is_given_the_next_try(mailer):
    with FaultServer() as server:
        backend = mailer(server)
        server.fault = Fault(at="mail", do=faults.reply("451 4.3.0 not now"), times=2, when="any", skip=1)
        assert len(send(backend, [message(1), message(2)], "one-by-one")) == 1  # refused by a fresh one too
        assert send(backend, [message(3)], "one-by-one") == []
        server.fault = Fault(at="next", do=TOO_MANY)
        mail = message(4)
        assert send(backend, [mail], "one-by-one") == []
        assert mail.smtp_pool_status.attempts == 2


@pytest.mark.parametrize(
    "reply",
    [
        "501 5.5.4 syntax", "504 5.5.4 no", "552 5.3.4 too big", "553 5.1.7 no", "555 5.5.4 no",
        "550 5.1.8 bad sender", "450 4.1.8 domain not found", "554 5.3.4 too big", "550 5.5.4 no",
    ],
)  # fmt: skip
def test_what_is_never_a_limit_is_refused_at_once(mailer, reply):
    with FaultServer() as server:
        backend = mailer(server)
        assert send(backend, [message(1)], "one-by-one") == []
        server.fault = Fault(at="mail", do=faults.reply(reply))
        mail = message(2)
        (error,) = send(backend, [mail], "one-by-one")
        assert error.smtp_code == int(reply[:3])
        assert (mail.smtp_pool_status.outcome, mail.smtp_pool_status.attempts) == ("refused", 1)
        assert server.connections == 1


@pytest.mark.parametrize("way", ["one-by-one", "batch"])
@pytest.mark.parametrize("at", ["mail", "rcpt", "data", "end"])
@pytest.mark.parametrize("reply", ["503 5.5.1 sender already specified", "530 5.7.0 authentication required"])
def test_a_session_that_the_server_has_lost_is_left(mailer, way, at, reply):
    with FaultServer() as server:
        backend = mailer(server, max_connections=1)
        assert send(backend, [message(1)], "one-by-one") == []
        server.fault = Fault(at=at, do=faults.reply(reply), when="reused", times=None)
        mail = message(2)
        assert send(backend, [mail], way) == []
        assert (mail.smtp_pool_status.attempts, server.connections) == (2, 2)


@pytest.mark.parametrize("at", ["mail", "rcpt", "data", "end"])
@pytest.mark.parametrize("code", [503, 530])
def test_on_a_fresh_connection_the_same_replies_stand(mailer, at, code):
    with FaultServer(fault=Fault(at=at, do=faults.reply(f"{code} no"), times=None)) as server:
        mail = message(1)
        (error,) = send(mailer(server), [mail], "one-by-one")
        assert getattr(error, "reply").code == code  # noqa: B009
        assert (mail.smtp_pool_status.outcome, mail.smtp_pool_status.attempts) == ("refused", 1)


def test_where_no_fresh_connection_can_be_had_the_refusal_stands(mailer):
    with FaultServer() as server:
        backend = mailer(server, max_requeues=0)
        assert send(backend, [message(1)], "one-by-one") == []
        server.fault = [Fault(at="mail", do=TOO_MANY), Fault(at="banner", do=faults.code_5xx)]
        mail = message(2)
        (error,) = send(backend, [mail], "one-by-one")
        assert isinstance(error, smtplib.SMTPSenderRefused)
        assert mail.smtp_pool_status.outcome == "refused"


def test_one_shot_that_the_server_accepts_is_never_sent_again(mailer):
    """The content has left with the commands: a word about the session to one recipient takes nothing back."""
    with FaultServer(chunking=True) as server:
        backend = mailer(server)
        assert send(backend, [message(1)], "one-by-one") == []
        server.fault = Fault(at="rcpt", do=faults.reply("451 4.4.2 timeout"), skip=1)
        mail = message(2, to=["one@example.com", "two@example.com"])
        assert send(backend, [mail], "one-by-one") == []
        assert list(mail.smtp_pool_status.refused) == ["two@example.com"]
        assert len(server.accepted) == 2
