"""Spans and metrics of OpenTelemetry, with its SDK and exporters in memory."""

import asyncio
import itertools

import pytest

from django_smtp_pool.core.errors import DeliveryUnknown, Failure, PoolTimeout, SenderRefused
from tests.clocks import ManualClock
from tests.mailing import message
from tests.metrics.conftest import cancel_at_the_end, pools
from tests.servers import Fault, faults

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from django_smtp_pool.metrics.opentelemetry.observer import OpenTelemetryObserver

WAIT, CONNECT, CONVERSATION = "smtp.wait", "smtp.connect", "smtp.conversation"


class Telemetry:
    """An observer, and what it has made."""

    def __init__(self, clock=None, **options):
        self._spans, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self._provider = TracerProvider(**options)
        self._provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.observer = OpenTelemetryObserver(pools, self._provider, MeterProvider([self._reader]), clock)

    def tracer(self):
        """Return the tracer of a project."""
        return self._provider.get_tracer("project")

    @property
    def spans(self):
        """Return all spans that have ended."""
        return self._spans.get_finished_spans()

    @property
    def messages(self):
        """Return the span of each message."""
        return [span for span in self.spans if span.name == "smtp.send"]

    def children(self, span):
        """Return the spans under a span, by their start."""
        found = [each for each in self.spans if each.parent and each.parent.span_id == span.context.span_id]
        return sorted(found, key=lambda each: each.start_time)

    def points(self, name):
        """Return the data points of a metric."""
        data = self._reader.get_metrics_data()
        scopes = [] if data is None else [scope for each in data.resource_metrics for scope in each.scope_metrics]
        found = [metric for scope in scopes for metric in scope.metrics if metric.name == f"smtp_pool.{name}"]
        return [point for metric in found for point in metric.data.data_points]

    def value(self, name, **attributes):
        """Return a metric, added up over the attributes that are not given."""
        points = [point for point in self.points(name) if attributes.items() <= point.attributes.items()]
        return sum(getattr(point, "value", None) or getattr(point, "sum", 0) for point in points)


@pytest.fixture(name="telemetry")
def fixture_telemetry():
    return Telemetry()


def names(spans):
    return [span.name for span in spans]


def seconds(span):
    return (span.end_time - span.start_time) / 1e9


def assert_inside(child, parent):
    """Check that a span lies within another; a microsecond is lost in floats of this size."""
    assert parent.start_time - 1000 <= child.start_time <= child.end_time <= parent.end_time + 1000


def test_the_span_of_a_message(server, watched, telemetry):
    mail = message(to=["ann@example.com", "bob@example.com"])
    watched(server, telemetry.observer).send_messages([mail])
    (span,) = telemetry.messages
    status = mail.smtp_pool_status
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes["server.address"] == "127.0.0.1"
    assert span.attributes["server.port"] == server.port
    assert span.attributes["smtp.outcome"] == "accepted"
    assert span.attributes["smtp.attempts"] == 1
    assert span.attributes["smtp.connection.reused"] is False
    assert span.attributes["smtp.recipients"] == 2
    assert span.attributes["smtp.message.size"] == len(server.accepted[0].content)
    assert span.attributes["smtp.round_trips"] == 2
    assert span.attributes.get("smtp.queue_id") == status.queue_id
    assert names(telemetry.children(span)) == [CONNECT, CONVERSATION]
    connect, conversation = telemetry.children(span)
    assert seconds(connect) == pytest.approx(status.connected, abs=1e-5)
    assert seconds(conversation) == pytest.approx(status.sent, abs=1e-5)
    for child in (connect, conversation):
        assert_inside(child, span)


def test_a_warm_connection_has_no_span_for_connecting(server, watched, telemetry):
    backend = watched(server, telemetry.observer)
    for number in range(2):
        backend.send_messages([message(number)])
    warm = telemetry.messages[1]
    assert warm.attributes["smtp.connection.reused"] is True
    assert names(telemetry.children(warm)) == [CONVERSATION]


def test_it_is_a_child_of_the_callers_span(server, watched, telemetry):
    backend = watched(server, telemetry.observer)
    with telemetry.tracer().start_as_current_span("request") as request:
        backend.send_messages([message(1)])
        backend.send_messages([message(number) for number in range(2, 8)])
    assert len(telemetry.messages) == 7
    assert {span.parent.span_id for span in telemetry.messages} == {request.context.span_id}
    assert {span.context.trace_id for span in telemetry.spans} == {request.context.trace_id}


def test_it_is_a_child_of_the_callers_span_in_an_event_loop(server, watched, telemetry):
    backend = watched(server, telemetry.observer)

    async def view(number):
        with telemetry.tracer().start_as_current_span(f"view {number}"):
            await backend.asend_messages([message(number)])
            await backend.asend_messages([message(number), message(number)])

    async def main():
        await asyncio.gather(*(view(number) for number in range(3)))

    asyncio.run(main())
    views = {span.context.span_id: span.name for span in telemetry.spans if span.name.startswith("view")}
    parents = [views[span.parent.span_id] for span in telemetry.messages]
    assert sorted(parents) == sorted([f"view {number}" for number in range(3) for _ in range(3)])


def test_without_a_span_around_it_is_a_root(server, watched, telemetry):
    watched(server, telemetry.observer).send_messages([message()])
    assert telemetry.messages[0].parent is None


def test_a_refusal(server, watched, telemetry):
    server.fault = Fault(at="mail", do=faults.reply("550 5.7.1 <from@example.com> may not send"))
    with pytest.raises(SenderRefused):
        watched(server, telemetry.observer).send_messages([message()])
    (span,) = telemetry.messages
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "SenderRefused at mail (550 5.7.1)"
    assert span.attributes["error.type"] == "SenderRefused"
    assert span.attributes["smtp.stage"] == "mail"
    assert span.attributes["smtp.reply.code"] == 550
    connect, conversation = telemetry.children(span)
    assert connect.status.status_code is StatusCode.UNSET
    assert conversation.status.status_code is StatusCode.ERROR
    assert not any("@" in each.to_json() for each in telemetry.spans)


def test_doubt(server, watched, telemetry):
    server.fault = Fault(at="end", do=faults.reset)
    with pytest.raises(DeliveryUnknown):
        watched(server, telemetry.observer).send_messages([message()])
    (span,) = telemetry.messages
    assert span.attributes["smtp.outcome"] == "unknown"
    assert span.status.status_code is StatusCode.ERROR


def test_a_server_that_is_not_there(server, watched, telemetry):
    server.refuse()
    with pytest.raises(ConnectionRefusedError):
        watched(server, telemetry.observer).send_messages([message()])
    (span,) = telemetry.messages
    assert names(telemetry.children(span)) == [CONNECT]
    assert telemetry.children(span)[0].status.status_code is StatusCode.ERROR
    assert span.attributes["smtp.stage"] == "connect"


def test_a_batch_whose_server_is_not_there(server, watched, telemetry):
    server.refuse()
    with telemetry.tracer().start_as_current_span("mailing"), pytest.raises(ConnectionRefusedError):
        watched(server, telemetry.observer).send_messages([message(1), message(2)])
    (mailing,) = [span for span in telemetry.spans if span.name == "mailing"]
    (span,) = telemetry.messages
    assert names(telemetry.children(span)) == [CONNECT]
    assert_inside(telemetry.children(span)[0], span)
    assert_inside(span, mailing)


def test_every_attempt_has_its_spans(server, watched, telemetry):
    backend = watched(server, telemetry.observer)
    backend.send_messages([message(1)])
    server.fault = Fault(at="mail", do=faults.code_421)
    backend.send_messages([message(2)])
    span = telemetry.messages[1]
    assert span.attributes["smtp.attempts"] == 2
    assert span.status.status_code is StatusCode.UNSET
    children = telemetry.children(span)
    assert [(child.name, child.attributes["smtp.attempt"]) for child in children] == [
        (CONVERSATION, 1),
        (CONNECT, 2),
        (CONVERSATION, 2),
    ]
    assert [child.status.status_code for child in children] == [StatusCode.ERROR, StatusCode.UNSET, StatusCode.UNSET]
    for before, after in itertools.pairwise(children):
        assert before.end_time <= after.start_time + 1000
    for child in children:
        assert_inside(child, span)


def test_a_wait(server, watched, telemetry, held_messages):
    backend = watched(server, telemetry.observer, max_connections=1, acquire_timeout=0.05)
    with held_messages(server, backend, [message(1)]), pytest.raises(PoolTimeout):
        backend.send_messages([message(2)])
    (span,) = [each for each in telemetry.messages if each.attributes["smtp.outcome"] == "not_sent"]
    (wait,) = telemetry.children(span)
    assert (wait.name, wait.status.status_code) == (WAIT, StatusCode.ERROR)
    assert 0.05 <= seconds(wait) <= seconds(span) + 1e-5
    assert span.attributes["smtp.stage"] == "pool"


def test_a_batch_in_the_time_of_the_world(server, watched):
    """Its own clock stands still while the caller renders."""
    clock = ManualClock()
    telemetry = Telemetry(clock=clock)
    backend, begin, rendered = watched(server, telemetry.observer, clock=clock, max_connections=1), clock.wall(), {}

    def messages():
        for number in range(4):
            clock.advance(5)
            rendered[number] = clock.wall()
            yield message(1, body="Hello\n" * (number + 1))

    backend.send_messages(messages())
    spans = sorted(telemetry.messages, key=lambda span: span.attributes["smtp.message.size"])
    assert len(spans) == 4
    for number, span in enumerate(spans):
        assert begin < rendered[number] - 1e-6 <= span.start_time / 1e9 <= clock.wall() + 1e-6
        assert seconds(span) == pytest.approx(0, abs=1e-6)  # without the rendering of the next one


def test_an_interrupt(server, watched, telemetry):
    cancel_at_the_end(server, watched(server, telemetry.observer))
    (span,) = telemetry.messages
    assert span.attributes["error.type"] == "CancelledError"
    assert span.attributes["smtp.outcome"] == "unknown"


def test_a_span_that_is_not_sampled_has_no_children(server, watched):
    telemetry = Telemetry(sampler=ALWAYS_OFF)
    watched(server, telemetry.observer).send_messages([message()])
    assert telemetry.spans == ()
    assert telemetry.value("messages", outcome="accepted") == 1


def test_metrics(server, watched, telemetry):
    server.fault = Fault(at="rcpt", do=faults.code_5xx, times=1)
    backend = watched(server, telemetry.observer, max_connections=1, rate_limits=["10/day"])
    mails = [message(number) for number in range(3)]
    with pytest.raises(Failure):
        backend.send_messages(mails)
    name = f"127.0.0.1:{server.port}"
    assert telemetry.value("messages", server=name, outcome="accepted", reused="true") == 2
    assert telemetry.value("failures", outcome="refused", stage="rcpt") == 1
    assert telemetry.value("opened_connections") == 1
    sent = sum(mail.smtp_pool_status.sent for mail in mails)
    assert telemetry.value("message.duration", phase="server") == pytest.approx(sent)
    assert telemetry.value("message.attempts") == 3
    assert telemetry.value("connections", state="idle") == 1
    assert telemetry.value("max_connections") == 1
    assert telemetry.value("rate_left", limit="10/day") == 7
    assert {point.value for point in telemetry.points("waiting_messages")} == {0}


def test_both_libraries_have_the_same_metrics(server, watched, telemetry):
    """OpenTelemetry's names become Prometheus' own in an exporter: dots, units and `_total`."""
    pytest.importorskip("prometheus_client")
    from django_smtp_pool.metrics import figures
    from django_smtp_pool.metrics.prometheus.files import name_of

    metrics = [*figures.COUNTERS, *figures.HISTOGRAMS, *figures.GAUGES]
    assert len({name_of(metric) for metric in metrics}) == len(metrics) == 14
    for metric in metrics:
        exported = f"smtp_pool.{metric.name}".replace(".", "_") + ("_seconds" if metric.unit == "s" else "")
        assert name_of(metric) == exported
