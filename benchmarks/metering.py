"""What metrics and spans cost per message: calls in our code, all calls, and CPU time as a ratio in one run.

`python -m benchmarks.metering` prints a table. One thread sends one plain message after the other over one connection,
with each observer in turn; the values are medians of the rounds. OpenTelemetry is measured without an SDK, with one
that discards everything, and with one whose sampler takes one message in ten.
"""

import cProfile
import pstats
import statistics
import sys
import time

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from benchmarks import project, servers
from benchmarks.measures import warm_send_mail

ROUNDS, EACH = 15, 100
MESSAGE = ("Hello", project.TEXT, "from@example.com", ["to@example.com"])


def providers(**options):
    """Return an SDK that discards its spans."""
    tracers = TracerProvider(**options)
    tracers.add_span_processor(SpanProcessor())
    return tracers, MeterProvider([InMemoryMetricReader()])


def ways(pools):
    """Return the observers to measure, by name."""
    from django_smtp_pool.metrics.opentelemetry.observer import OpenTelemetryObserver
    from django_smtp_pool.metrics.prometheus.collector import PrometheusObserver

    return {
        "nothing": (),
        "Prometheus": (PrometheusObserver(pools),),
        "OpenTelemetry, no SDK": (OpenTelemetryObserver(pools),),
        "OpenTelemetry, every message": (OpenTelemetryObserver(pools, *providers()),),
        "OpenTelemetry, one in ten": (OpenTelemetryObserver(pools, *providers(sampler=TraceIdRatioBased(0.1))),),
    }


def all_calls(send):
    """Return the number of calls for a message, including built-in functions; the minimum of several messages."""
    found = []
    for _ in range(20):
        profile = cProfile.Profile()
        profile.enable()
        send(*MESSAGE)
        profile.disable()
        found.append(pstats.Stats(profile).total_calls)
    return min(found)


def seconds(send):
    """Return the CPU time of a message, in seconds."""
    began = time.process_time()
    for _ in range(EACH):
        send(*MESSAGE)
    return (time.process_time() - began) / EACH


def main():
    """Print the table."""
    with servers.sink() as port:
        project.configure(project.POOLED, port, max_messages=0)
        from django.core.mail import send_mail

        import django_smtp_pool
        from django_smtp_pool.registry import observers, registry

        usual = observers._observers
        found = {name: usual + added for name, added in ways(registry.pools).items()}
        calls, times = {}, {name: [] for name in found}
        for name, watching in found.items():
            observers._observers = watching
            calls[name] = (warm_send_mail().count, all_calls(send_mail))
        for _ in range(3 if "--quick" in sys.argv[1:] else ROUNDS):
            for name, watching in found.items():
                observers._observers = watching
                times[name].append(seconds(send_mail))
        observers._observers = usual
        django_smtp_pool.close_all()
    print(f"{'':32}{'our calls':>10}{'all calls':>10}{'CPU, µs':>10}{'added, µs':>10}{'ratio':>8}")
    base = statistics.median(times["nothing"])
    for name, (ours, everything) in calls.items():
        # Differences and ratios within a round: a shared machine may be slower for a while.
        added = statistics.median(way - none for way, none in zip(times[name], times["nothing"], strict=True))
        ratio = statistics.median(way / none for way, none in zip(times[name], times["nothing"], strict=True))
        print(f"{name:32}{ours:>10}{everything:>10}{(base + added) * 1e6:>10.0f}{added * 1e6:>10.0f}{ratio:>8.2f}")


if __name__ == "__main__":
    main()
