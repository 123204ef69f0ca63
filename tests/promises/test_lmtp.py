"""Mail by LMTP (RFC 2033): each recipient has a verdict of his own, and each fault leaves each in a state that is told.

The server writes down for whom it took a message before it tries to say so; what we tell is compared with that.
"""

import logging
import pickle
from collections import Counter

import django
import pytest

from django_smtp_pool import DeliveryUnknown, PartiallyRefused
from django_smtp_pool.core.delivery.channel import Channel
from django_smtp_pool.core.errors import EhloRefused, RecipientsRefused, Stage
from tests.batches.ledger import QUIET, messages, misreported, outcomes, settled, taken
from tests.clocks import ServersClock
from tests.mailing import backend_for, message
from tests.promises.test_point_by_fault import GARBLED, HARMLESS, LOST
from tests.servers import Fault, FaultServer, RandomFaults, faults
from tests.servers.client import Client

THREE = ("a@example.com", "b@example.com", "c@example.com")
FULL = "552 5.2.2 Mailbox full"


@pytest.fixture
def server():
    """A well-behaved LMTP server."""
    with FaultServer(lmtp=True) as running:
        yield running


@pytest.fixture
def mailer(mailer):
    """Return a function that makes a backend whose time passes only when the server hangs."""
    return lambda server, **how: mailer(server, clock=ServersClock(server), **{"lmtp": True, **how})


def send(backend, made):
    """Send a message; return the error, None for success."""
    try:
        assert backend.send_messages([made]) == 1
    except OSError as error:
        return error
    return None


def fates(made):
    """Return what the status tells of each recipient."""
    return {each.address: (each.outcome, each.code) for each in made.smtp_pool_status.recipients.values()}


# Where all is well


def test_a_message_to_three(server):
    made = message(to=THREE)
    assert send(backend_for(server, lmtp=True), made) is None
    assert taken(server) == dict.fromkeys(THREE, 1)
    assert fates(made) == dict.fromkeys(THREE, ("accepted", 250))
    assert [each.text.split()[0] for each in made.smtp_pool_status.recipients.values()] == [f"<{to}>" for to in THREE]
    assert server.commands()[0] == (1, "LHLO client.example")
    assert server.commands("EHLO") == server.commands("HELO") == []


def test_the_next_message_goes_over_the_same_connection(server):
    backend = backend_for(server, lmtp=True)
    for number in range(5):
        assert send(backend, message(number, to=THREE[: 1 + number % 3])) is None
    assert (server.connections, len(server.accepted)) == (1, 9)
    assert server.commands("RSET") == []


@pytest.mark.parametrize("pipelining", [True, False])
def test_chunking_is_not_used(pipelining):
    with FaultServer(lmtp=True, chunking=True, pipelining=pipelining) as server:
        backend = backend_for(server, lmtp=True)
        for _ in range(3):
            assert send(backend, message(to=THREE)) is None
        assert server.commands("BDAT") == []
        assert len(server.commands("DATA")) == 3


def test_dsn_goes_by_lmtp_too():
    with FaultServer(lmtp=True, extensions=("8BITMIME", "DSN")) as server:
        made = message(to=THREE)
        made.smtp_options = {"dsn": {"notify": {"b@example.com": "never"}}}
        assert send(backend_for(server, lmtp=True), made) is None
        assert server.accepted[1].rcpt_parameters == {"b@example.com": ("NOTIFY=NEVER",)}


def test_a_server_that_speaks_smtp_is_told_apart():
    with FaultServer() as server:
        error = send(backend_for(server, lmtp=True), message())
        assert isinstance(error, EhloRefused)
        assert server.connections == 1


def test_an_lmtp_server_is_not_spoken_to_by_smtp(server):
    assert isinstance(send(backend_for(server), message()), EhloRefused)
    assert server.connections == 1


def test_pools_of_smtp_and_lmtp_are_apart(server):
    assert backend_for(server).pool is not backend_for(server, lmtp=True).pool


def test_the_server_refuses_data_to_nobody(server):
    with Client(server) as client:
        client.hear()
        assert client.ask("EHLO x").startswith("500")
        assert client.ask("LHLO x").startswith("250-")
        client.ask("MAIL FROM:<a@example.com>", "RCPT TO:<a@example.com>", "RCPT TO:<b@example.com>", "DATA")
        assert client.ask("hi\r\n.").startswith("250 2.0.0 <a@example.com>")
        assert client.hear().startswith("250 2.0.0 <b@example.com>")
        assert client.ask("MAIL FROM:<a@example.com>", "DATA").startswith("503")


# Some, or all, refused


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("mode", ["warn", "ignore", "raise"])
def test_some_refused_by_rcpt_and_some_after_the_data(mode, pipelining, caplog):
    refusing = {"refuse_recipients": {"a@example.com": "550 5.1.1 Nobody"}, "refuse_content": {"b@example.com": FULL}}
    with FaultServer(lmtp=True, pipelining=pipelining, **refusing) as server, caplog.at_level(logging.WARNING):
        made = message(to=THREE)
        backend = backend_for(server, lmtp=True, on_partial_refusal=mode)
        error = send(backend, made)
        assert taken(server) == {"c@example.com": 1}
        assert fates(made) == {THREE[0]: ("refused", 550), THREE[1]: ("refused", 552), THREE[2]: ("accepted", 250)}
        assert made.smtp_pool_status.outcome == "accepted"
        assert send(backend, message(to=["c@example.com"])) is None
        assert server.connections == 1
    if mode == "raise":
        assert isinstance(error, PartiallyRefused)
        assert (error.accepted, list(error.refused)) == (("c@example.com",), ["a@example.com", "b@example.com"])
    else:
        assert error is None
    assert ("b@example.com (552 5.2.2 Mailbox full)" in caplog.text) is (mode == "warn")


@pytest.mark.parametrize("to", [THREE[:1], THREE])
def test_all_refused_after_the_data(to):
    with FaultServer(lmtp=True, refuse_content=dict.fromkeys(THREE, FULL)) as server:
        backend = backend_for(server, lmtp=True)
        made = message(to=to)
        error = send(backend, made)
        assert isinstance(error, RecipientsRefused)
        assert error.recipients == dict.fromkeys(to, (552, b"5.2.2 Mailbox full"))
        assert fates(made) == dict.fromkeys(to, ("refused", 552))
        assert made.smtp_pool_status.outcome == "refused"
        assert send(backend, message(to=["d@example.com"])) is None
        assert (server.connections, taken(server)) == (1, {"d@example.com": 1})
        assert pickle.loads(pickle.dumps(error)).recipients == error.recipients


# Faults at each of the verdicts

RETRIED, REFUSED, ACCEPTED, UNKNOWN, PARTLY = "retried", "refused", "accepted", "unknown", "accepted for the others"
ENDS = [*LOST, *GARBLED, faults.code_3xx]


def check(server, made, error, first=0):
    """Compare what the status tells of each recipient with the server's truth."""
    counts = Counter(address for each in server.accepted[first:] for address in each.recipients)
    allowed = {"accepted": {1}, "unknown": {0, 1}, "refused": {0}, "not_sent": {0}}
    told = {address: outcome for address, (outcome, _) in fates(made).items()}
    assert {address for address, outcome in told.items() if counts[address] not in allowed[outcome]} == set()
    if isinstance(error, DeliveryUnknown):
        assert error.in_doubt
        assert [address for address, outcome in told.items() if outcome == "unknown"] == list(error.recipients)
        assert [address for address, outcome in told.items() if outcome == "accepted"] == list(error.accepted)
        assert (made.smtp_pool_status.outcome, made.smtp_pool_status.attempts) == ("unknown", 1)
        assert made.smtp_pool_status.accepted == tuple(error.accepted)
    return list(told.values())


def try_verdict(mailer, server, sin, position):
    """Let a fault hit the verdict on one of three recipients; return the error and what is told of each."""
    server.fault = Fault(at="end", do=sin, skip=position)
    backend, made = mailer(server), message(to=THREE)
    error = send(backend, made)
    assert server.wait_for(lambda: [struck.name for struck in server.struck] == [sin.name])
    server.settle()
    told = check(server, made, error)
    before = len(server.accepted)
    assert send(backend, message(2, to=THREE)) is None
    assert len(server.accepted) == before + 3
    return error, told


@pytest.mark.parametrize("sin", ENDS, ids=lambda sin: sin.name)
@pytest.mark.parametrize("position", [0, 1, 2])
def test_the_verdicts_end(mailer, server, sin, position):
    error, told = try_verdict(mailer, server, sin, position)
    assert isinstance(error, DeliveryUnknown)
    assert told == ["accepted"] * position + ["unknown"] * (3 - position)


@pytest.mark.parametrize("position", [0, 1])
def test_421_in_the_middle(mailer, server, position):
    error, told = try_verdict(mailer, server, faults.code_421, position)
    assert isinstance(error, DeliveryUnknown)
    assert told == ["accepted"] * position + ["refused"] + ["unknown"] * (2 - position)
    assert server.connections == 2


def test_421_to_the_last_recipient(mailer, server):
    error, told = try_verdict(mailer, server, faults.code_421, 2)
    assert (error, told) == (None, ["accepted", "accepted", "refused"])
    assert server.connections == 2


@pytest.mark.parametrize("sin", [faults.code_4xx, faults.code_5xx, faults.reply("432 4.3.2 busy")])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_one_refused(mailer, server, sin, position):
    error, told = try_verdict(mailer, server, sin, position)
    assert error is None
    assert told == ["refused" if place == position else "accepted" for place in range(3)]
    assert server.connections == 1


@pytest.mark.parametrize("sin", HARMLESS, ids=lambda sin: sin.name)
@pytest.mark.parametrize("position", [0, 1, 2])
def test_odd_but_good(mailer, server, sin, position):
    assert try_verdict(mailer, server, sin, position) == (None, ["accepted"] * 3)


def test_421_to_the_only_recipient_is_tried_again(mailer, server):
    server.fault = Fault(at="end", do=faults.code_421)
    made = message()
    assert send(mailer(server), made) is None
    assert (made.smtp_pool_status.attempts, len(server.accepted)) == (2, 1)


def test_nobody_has_it_and_the_server_is_busy_so_it_is_tried_again(mailer, server):
    server.fault = [
        Fault(at="end", do=faults.reply("452 4.2.2 full"), times=2),
        Fault(at="end", do=faults.code_421),
    ]
    made = message(to=THREE)
    assert send(mailer(server), made) is None
    assert (made.smtp_pool_status.attempts, taken(server)) == (2, dict.fromkeys(THREE, 1))


@pytest.mark.parametrize("sin", [faults.reset, faults.early_552, faults.early_250])
def test_a_failure_in_the_middle_of_the_content_is_certainly_not_sent(mailer, sin):
    with FaultServer(lmtp=True, fault=Fault(at="body", do=sin), receive_buffer=65536) as server:
        made = message(to=THREE, attachments=[("large.bin", bytes(6_000_000), "application/octet-stream")])
        assert send(mailer(server, delivery_timeout=600), made) is None
        assert (made.smtp_pool_status.attempts, taken(server)) == (2, dict.fromkeys(THREE, 1))


@pytest.mark.parametrize("sin", [faults.reset, faults.hang, faults.code_421, faults.code_5xx, faults.garbage])
def test_doubt_leaves_the_refused_refused(mailer, sin):
    with FaultServer(lmtp=True, refuse_recipients={"a@example.com": "550 5.1.1 Nobody"}) as server:
        server.fault = Fault(at="end", do=sin, skip=1)
        made = message(to=THREE)
        error = send(mailer(server), made)
        told = check(server, made, error)
        assert told[:2] == ["refused", "accepted"]
        assert made.smtp_pool_status.recipients["a@example.com"].code == 550
        assert told[2] == ("refused" if sin in (faults.code_421, faults.code_5xx) else "unknown")


def test_each_verdict_has_the_whole_of_the_patience(mailer, server):
    """`delivery_timeout` cuts none of them: a server that delivers as it goes may take its time for each."""
    server.fault = Fault(at="end", do=faults.hang, skip=2)
    backend, made = mailer(server, data_timeout=300, delivery_timeout=100), message(to=THREE)
    error = send(backend, made)
    assert isinstance(error, DeliveryUnknown)
    assert "timed out after 300.0 s waiting for content" in str(error)
    assert check(server, made, error) == ["accepted", "accepted", "unknown"]


def test_doubt_survives_pickling(mailer, server):
    server.fault = Fault(at="end", do=faults.reset, skip=1)
    made = message(to=THREE)
    error = send(mailer(server), made)
    again = pickle.loads(pickle.dumps(error))
    assert (again.recipients, again.accepted) == (error.recipients, error.accepted) == (THREE[1:], error.accepted)
    assert pickle.loads(pickle.dumps(made.smtp_pool_status)).recipients == made.smtp_pool_status.recipients


class InterruptBetweenVerdicts(BaseException):
    """Stands for a Ctrl-C."""


@pytest.mark.parametrize("where", ["_say", "_hears_enough"])
def test_an_interrupt_between_two_verdicts_leaves_doubt(mailer, server, monkeypatch, where):
    go_on = getattr(Channel, where)

    def interrupted(channel, step, *rest):
        if step.stage is Stage.CONTENT and server.accepted:
            raise InterruptBetweenVerdicts
        return go_on(channel, step, *rest)

    monkeypatch.setattr(Channel, where, interrupted)
    server.hold("end")
    server.release(1)
    made = message(to=THREE)
    with pytest.raises(InterruptBetweenVerdicts):
        mailer(server).send_messages([made])
    assert made.smtp_pool_status.outcome == "unknown"


# Batches


@pytest.mark.parametrize("connections", [1, 4])
def test_a_batch(mailer, connections):
    with FaultServer(lmtp=True, refuse_content={"to3@example.com": FULL}) as server:
        backend, batch = mailer(server, batch_connections=connections), messages(30)
        with pytest.raises(RecipientsRefused) as caught:
            backend.send_messages(batch)
        assert list(caught.value.failures) == [3]
        assert outcomes(batch) == ["refused" if n == 3 else "accepted" for n in range(30)]
        assert misreported(server, batch) == []
        assert settled(server, backend.pool) == QUIET


@pytest.mark.parametrize("sin", [*LOST, faults.garbage, faults.code_421], ids=lambda sin: sin.name)
def test_a_batch_in_which_one_of_the_verdicts_is_lost(mailer, server, sin):
    backend = mailer(server, batch_connections=1)
    batch = [message(n, to=[f"{name}{n}@example.com" for name in "abc"]) for n in range(6)]
    server.fault = Fault(at="end", do=sin, skip=7)
    with pytest.raises(DeliveryUnknown) as caught:
        backend.send_messages(batch)
    assert list(caught.value.failures) == [2]
    assert outcomes(batch) == ["unknown" if n == 2 else "accepted" for n in range(6)]
    middle = "refused" if sin is faults.code_421 else "unknown"
    assert [outcome for outcome, _ in fates(batch[2]).values()] == ["accepted", middle, "unknown"]
    counts = taken(server)
    assert all(counts[address] == 1 for made in batch[:2] + batch[3:] for address in made.to)


def test_random_faults_are_never_told_wrongly(mailer):
    points = ["mail", "rcpt", "data", "end", "after", "banner", "ehlo"]
    with FaultServer(lmtp=True, fault=RandomFaults(rate=0.04, seed=2033, points=points)) as server:
        backend = mailer(server, max_requeues=30, fail_silently=True)
        batch = [message(n, to=[f"{name}{n}@example.com" for name in "abc"]) for n in range(60)]
        backend.send_messages(batch)
        server.settle()
        for made in batch:
            counts, allowed = taken(server), {"accepted": {1}, "unknown": {0, 1}, "refused": {0}, "not_sent": {0}}
            assert all(counts[address] in allowed[outcome] for address, (outcome, _) in fates(made).items())
        assert len({outcome for made in batch for outcome, _ in fates(made).values()}) >= 3


# The port


@pytest.mark.skipif(django.VERSION >= (6, 1), reason="EMAIL_* are for those without MAILERS here")
@pytest.mark.parametrize(("port", "expected"), [(None, 24), (2424, 2424)])
def test_the_port_of_lmtp_by_settings(settings, port, expected):
    from django_smtp_pool.backend import PooledBackend

    settings.EMAIL_POOL_LMTP = True
    if port is not None:
        settings.EMAIL_PORT = port
    assert PooledBackend().config.server.port == expected


@pytest.mark.skipif(django.VERSION < (6, 1), reason="MAILERS are of Django 6.1")
@pytest.mark.parametrize(("options", "expected"), [({}, 24), ({"port": 2424}, 2424), ({"lmtp": False}, 25)])
def test_the_port_of_lmtp_under_mailers(settings, options, expected):
    from django.core.mail import mailers

    options = {"host": "mail.example.com", "lmtp": True, **options}
    settings.MAILERS = {"default": {"BACKEND": "django_smtp_pool.backend.PooledBackend", "OPTIONS": options}}
    backend = mailers["default"]
    assert (backend.config.server.port, backend.port) == (expected, expected)
