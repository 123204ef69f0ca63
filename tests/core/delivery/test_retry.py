"""What follows a try, as a table; and the tries themselves, at the fault server."""

import socket
import ssl

import pytest

from django_smtp_pool.core.delivery.delivery import Delivery
from django_smtp_pool.core.delivery.retry import Retry, judge
from django_smtp_pool.core.errors import (
    AuthRefused,
    ConnectionLost,
    DataRefused,
    DeliveryUnknown,
    EhloRefused,
    GreetingRefused,
    NotOffered,
    Outcome,
    PoolClosed,
    PoolFull,
    PoolTimeout,
    ProtocolError,
    ReplyTimeout,
    SenderRefused,
    Stage,
    StartTLSRefused,
    refusal,
)
from django_smtp_pool.core.events.events import Attempted, Finished
from django_smtp_pool.core.options.options import PoolOptions, ServerOptions
from django_smtp_pool.core.smtp.content import Content
from django_smtp_pool.core.smtp.envelope import Envelope
from django_smtp_pool.registry import PoolKey, Registry
from tests.clocks import ServersClock
from tests.core.fakes import Diary
from tests.core.transcript import reply_of
from tests.servers import Fault, faults

STALE_451 = faults.reply_and_close("451 4.4.2 Timeout")
ENVELOPE = Envelope(sender="a@example.com", recipients=("b@example.com",), content=Content.of(b""))


def refused(kind, line, stage, *extra, outcome=Outcome.NOT_SENT):
    return refusal(kind, reply_of(line), *extra, stage=stage, outcome=outcome)


def at(stage, error):
    error.stage = stage
    return error


def final(error):
    error.is_final = True
    return error


MAY_PASS = [
    ConnectionLost("eof"),
    ReplyTimeout("late"),
    ProtocolError("garbage"),
    refused(GreetingRefused, "421 busy", Stage.GREETING),
    refused(GreetingRefused, "450 later", Stage.GREETING),
    refused(EhloRefused, "421 bye", Stage.EHLO),
    refused(StartTLSRefused, "454 later", Stage.STARTTLS),
    refused(AuthRefused, "454 later", Stage.AUTH),
    refused(AuthRefused, "432 busy", Stage.AUTH),
    refused(SenderRefused, "421 bye", Stage.MAIL, "a@x"),
    refused(DataRefused, "432 busy", Stage.CONTENT),
    refused(DataRefused, "552 in the middle", Stage.CONTENT),
    at(Stage.CONNECT, OSError(113, "No route to host")),
    at(Stage.CONNECT, ConnectionResetError()),
    at(Stage.CONNECT, socket.gaierror(socket.EAI_AGAIN, "try again")),
]
FINAL = [
    refused(GreetingRefused, "554 no", Stage.GREETING),
    refused(EhloRefused, "550 no", Stage.EHLO),
    refused(StartTLSRefused, "501 no", Stage.STARTTLS),
    refused(AuthRefused, "535 no", Stage.AUTH),
    refused(AuthRefused, "534 no", Stage.AUTH),
    NotOffered("no TLS"),
    at(Stage.CONNECT, TimeoutError("timed out")),
    at(Stage.GREETING, ReplyTimeout("timed out")),
    at(Stage.TLS, ReplyTimeout("timed out")),
    at(Stage.AUTH, ReplyTimeout("timed out")),
    at(Stage.CONNECT, final(ConnectionRefusedError())),  # as the dial marks them
    at(Stage.CONNECT, final(socket.gaierror(socket.EAI_NONAME, "unknown"))),
    at(Stage.TLS, ssl.SSLCertVerificationError("bad")),
    at(Stage.TLS, ssl.SSLError("bad")),
    FileNotFoundError("client.pem"),
    ValueError("a bug"),
    PoolTimeout("t"),
    PoolFull("f"),
    PoolClosed("c"),
]
NEVER = [
    DeliveryUnknown("?"),
    refused(SenderRefused, "451 later", Stage.MAIL, "a@x", outcome=Outcome.REFUSED),
    refused(DataRefused, "550 no", Stage.DATA, outcome=Outcome.REFUSED),
]


def judged(error, *, max_requeues=5, time_left=100.0, jitter=1.0, **so_far):
    """Judge an error of a delivery that has come so far."""
    delivery = Delivery(envelope=ENVELOPE, **so_far)
    return judge(error, delivery, max_requeues, time_left=time_left, jitter=jitter)


def named(errors):
    return pytest.mark.parametrize("error", errors, ids=lambda error: f"{type(error).__name__} {error}"[:60])


@named(MAY_PASS)
def test_what_may_pass_is_tried_again(error):
    assert judged(error) == Retry(0.05, is_free=False)


@named(MAY_PASS)
def test_a_reused_connection_has_one_free_retry(error):
    assert judged(error, reused=True) == Retry(0.0, is_free=True)
    assert judged(error, reused=True, free_retry_spent=True) == Retry(0.05, is_free=False)


def test_a_free_retry_is_free_even_of_max_requeues():
    assert judged(ConnectionLost("eof"), max_requeues=0, reused=True) == Retry(0.0, is_free=True)
    assert judged(ConnectionLost("eof"), max_requeues=0) is None


@named(FINAL + NEVER)
@pytest.mark.parametrize("reused", [False, True], ids=["fresh", "reused"])
def test_what_will_not_pass_or_may_have_arrived_is_raised(error, reused):
    assert judged(error, reused=reused) is None


def test_the_pause_doubles_up_to_two_seconds():
    pauses = [judged(ConnectionLost("x"), max_requeues=9, requeues=n).after for n in range(9)]
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0]


def test_the_pause_is_jittered_downwards():
    assert judged(ConnectionLost("x"), max_requeues=9, jitter=0.5).after == 0.025


def test_there_is_an_end_of_tries():
    assert judged(ConnectionLost("x"), requeues=5) is None


@pytest.mark.parametrize("left", [0.0, -1.0, 0.05])
def test_there_is_an_end_of_time(left):
    assert judged(ConnectionLost("x"), time_left=left) is None


def test_a_free_retry_needs_time_too():
    assert judged(ConnectionLost("x"), time_left=0.0, reused=True) is None


# At the fault server


@pytest.fixture
def bench(server):
    bench = Bench(server)
    yield bench
    bench.registry.at_exit()


class Bench:
    """A sender to the fault server, on the server's own time."""

    def __init__(self, server):
        self.server = server
        self.clock = ServersClock(server)
        self.diary = Diary()
        self.registry = Registry(clock=self.clock, observer=self.diary)

    def sender(self, **options):
        server = ServerOptions(host=self.server.host, port=self.server.port, local_hostname="client.example")
        return self.registry.sender(PoolKey(server=server, pool=PoolOptions(**options)))

    def send(self, **options):
        content = b"Subject: x\r\n\r\nhello\r\n"
        envelope = Envelope(sender="a@example.com", recipients=("b@example.com",), content=Content.of(content))
        return self.sender(**options).send(envelope)


def test_a_message_is_sent_over_the_same_connection_as_the_last(bench):
    deliveries = [bench.send() for _ in range(3)]
    assert [delivery.reused for delivery in deliveries] == [False, True, True]
    assert [delivery.outcome for delivery in deliveries] == [Outcome.ACCEPTED] * 3
    assert bench.server.connections == 1


@pytest.mark.parametrize("how", ["fin", "rst", "421"])
def test_a_stale_connection_is_invisible(bench, how):
    bench.send()
    bench.server.close_idle(how)
    delivery = bench.send()
    assert (delivery.outcome, delivery.error) == (Outcome.ACCEPTED, None)
    assert len(bench.server.accepted) == 2
    assert not [timeout for timeout in bench.clock.waits if timeout == 0.05], "somebody paused"


@pytest.mark.parametrize(
    "what", [faults.fin, faults.reset, faults.code_421, faults.reply_and_close("451 4.4.2 Timeout")]
)
def test_a_connection_that_goes_at_the_first_word_is_replaced_for_free(bench, what):
    bench.send()
    bench.server.fault = Fault(at="next", do=what)
    delivery = bench.send(max_requeues=5)
    assert (delivery.outcome, delivery.attempts) == (Outcome.ACCEPTED, 2)
    assert len(bench.server.accepted) == 2
    assert bench.sender().pool.stats().requeues == 1


def test_a_connection_that_only_idled_and_never_sent_is_stale_too(bench):
    """One opened by open(), or for min_connections."""
    bench.sender().warm_up()
    bench.server.fault = Fault(at="mail", do=faults.reply_and_close("451 4.4.2 Timeout"))
    assert (bench.send().outcome, len(bench.server.accepted)) == (Outcome.ACCEPTED, 1)


def test_tries_on_fresh_connections_are_counted_and_end(bench):
    bench.server.fault = Fault(at="mail", do=faults.reset, times=None)
    delivery = bench.send(max_requeues=3)
    assert (delivery.outcome, delivery.attempts, bench.server.connections) == (Outcome.NOT_SENT, 4, 4)
    pauses = [event.retry_after for event in bench.diary.of(Attempted)]
    assert len(pauses) == 3
    assert all(full / 2 <= pause <= full for full, pause in zip([0.05, 0.1, 0.2], pauses, strict=True))


def test_all_tries_share_the_time_of_the_message(bench):
    bench.server.fault = Fault(at="mail", do=faults.hang, times=None)
    before = bench.clock.monotonic()
    delivery = bench.send(delivery_timeout=100, max_requeues=50)
    assert delivery.outcome is Outcome.NOT_SENT
    assert bench.clock.monotonic() - before <= 101
    assert delivery.attempts == 2


@pytest.mark.parametrize("what", [faults.reset, faults.fin, faults.truncated, faults.garbage, faults.hang])
@pytest.mark.parametrize("reused", [True, False])
def test_a_message_in_doubt_is_never_tried_again(bench, what, reused):
    if reused:
        bench.send()
    bench.server.fault = Fault(at="end", do=faults.accepted_then(what))
    delivery = bench.send()
    assert (delivery.outcome, type(delivery.error)) == (Outcome.UNKNOWN, DeliveryUnknown)
    assert len(bench.server.accepted) == 1 + reused


@pytest.mark.parametrize("point", ["mail", "rcpt", "data", "end"])
@pytest.mark.parametrize("what", [faults.code_4xx, faults.code_5xx])
def test_a_refusal_is_the_callers(bench, point, what):
    bench.server.fault = Fault(at=point, do=what)
    delivery = bench.send()
    assert (delivery.outcome, delivery.attempts, bench.server.accepted) == (Outcome.REFUSED, 1, [])
    assert (bench.send().outcome, bench.server.connections) == (Outcome.ACCEPTED, 1)


def test_a_refused_connection_is_not_tried_again(bench):
    bench.server.refuse()
    delivery = bench.send()
    assert isinstance(delivery.error, ConnectionRefusedError)
    assert delivery.attempts == 1


def test_what_became_of_it_is_told_once(bench):
    bench.server.fault = Fault(at="mail", do=faults.reset)
    delivery = bench.send()
    (finished,) = bench.diary.of(Finished)
    assert (finished.outcome, finished.delivery, delivery.attempts) == (Outcome.ACCEPTED, delivery, 2)
    stats = bench.sender().pool.stats()
    assert (stats.messages_accepted, stats.messages_not_sent, stats.requeues) == (1, 0, 1)


def test_an_observer_that_fails_after_the_acceptance_changes_nothing(server):
    from django_smtp_pool.core.events.events import Observer, Observers

    class Failing(Observer):
        def notice(self, event):
            raise RuntimeError("what an observer should not do")

    bench = Bench(server)
    bench.registry = Registry(clock=bench.clock, observer=Observers([Failing()]))
    assert bench.send().outcome is Outcome.ACCEPTED
    bench.registry.at_exit()


def test_an_unknown_host_is_not_tried_again(bench):
    server = ServerOptions(host="no-such-host.invalid", local_hostname="client.example")
    envelope = Envelope(sender="a@example.com", recipients=("b@example.com",), content=Content.of(b""))
    delivery = bench.registry.sender(PoolKey(server=server, pool=PoolOptions(max_requeues=2))).send(envelope)
    assert isinstance(delivery.error, socket.gaierror)
    assert "no-such-host.invalid" in str(delivery.error)
    again = delivery.error.errno == socket.EAI_AGAIN  # a machine without a resolver says so
    assert delivery.attempts == (3 if again else 1)
