"""How fast a batch is where the server takes its time, and how much memory a long one needs.

    python benchmarks/batches.py             5000 messages to a server that needs 20 ms for each, beside Django's own
    python benchmarks/batches.py --memory    the peak for 100 and for 100 000 messages of a generator

What the server counted is what counts. The stock backend sends fewer messages, since it takes 20 ms for each.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

import django  # noqa: E402

django.setup()

from django.core.mail import EmailMessage  # noqa: E402
from django.core.mail.backends.smtp import EmailBackend  # noqa: E402

from benchmarks.servers import counted, sink  # noqa: E402
from django_smtp_pool import close_all  # noqa: E402
from django_smtp_pool.backend import PooledBackend  # noqa: E402

ALIAS = "benchmark" if django.VERSION >= (6, 1) else None
BODY = "All work and no play makes Jack a dull boy.\n" * 40


def mails(count):
    """Make messages one by one, each as a project would."""
    for number in range(count):
        yield EmailMessage(f"Message {number}", BODY, "from@example.com", [f"to{number}@example.com"])


class Measured:
    """One row of the table."""

    def __init__(self, label, count, delay, send, *, chunking=False):
        self.label = label
        with sink(delay=delay, chunking=chunking) as port:
            cpu, started = time.process_time(), time.perf_counter()
            send(port, count)
            self.seconds, self.cpu = time.perf_counter() - started, time.process_time() - cpu
            self.messages, self.connections, self.needed = counted(port)
        if self.messages != count:
            raise SystemExit(f"{label}: {count} messages were sent, {self.messages} arrived")

    @property
    def rate(self):
        """Messages a second."""
        return self.messages / self.seconds

    def line(self, delay):
        """Return the row: the rate as a part of what the server's delay allows, the one asked for and the real one."""
        asked, real = (self.rate * each / self.connections for each in (delay, self.needed))
        return (
            f"{self.label:32}{self.messages:>9}{self.connections:>12}{self.seconds:>9.2f}{self.rate:>9.1f}"
            f"{asked:>12.3f}{self.needed * 1000:>10.2f}{real:>10.3f}{self.cpu / self.messages * 1000:>9.2f}"
        )


def pooled(width):
    """Return a function that sends in one batch over so many connections."""

    def send(port, count):
        options = {"host": "127.0.0.1", "port": port, "max_connections": width, "max_messages": 0}
        if PooledBackend(alias=ALIAS, **options).send_messages(mails(count)) != count:
            raise SystemExit("not every message was accepted")
        close_all()

    return send


def stock(port, count):
    """Send in one batch with Django's own backend."""
    EmailBackend(alias=ALIAS, host="127.0.0.1", port=port).send_messages(list(mails(count)))


def rendering(count=1000):
    """Return the seconds that Django takes to render one of the messages."""
    started = time.process_time()
    for mail in mails(count):
        mail.message().as_bytes()
    return (time.process_time() - started) / count


def speed(options):
    """Print the table."""
    delay = options.delay / 1000
    versions = f"Django {django.__version__}, Python {sys.version.split()[0]}"
    print(f"{versions}; rendering alone takes {rendering() * 1000:.2f} ms of CPU a message")
    print(f"The server needs {options.delay:g} ms for each message.\n")
    print(
        "of c/delay: the rate as a part of connections / delay; of real: with the delay that the server really took\n"
    )
    print(
        f"{'':32}{'messages':>9}{'connections':>12}{'s':>9}{'1/s':>9}{'of c/delay':>12}{'real ms':>10}{'of real':>10}"
        f"{'CPU ms':>9}"
    )
    for _ in range(options.repeat):
        print(Measured("stock", options.messages // 10, delay, stock).line(delay), flush=True)
        for width in options.connections:
            for chunking in (False, True):
                label = f"pool, {width} connections{', CHUNKING' if chunking else ''}"
                measured = Measured(label, options.messages, delay, pooled(width), chunking=chunking)
                print(measured.line(delay), flush=True)


def memory(options):
    """Print the peak of one batch, in a process of its own for each size."""
    if options.size is None:
        print(f"{'messages':>9}{'traced peak, kB':>18}{'resident peak, kB':>20}")
        for size in (100, 100_000):
            subprocess.run([sys.executable, __file__, "--memory", "--size", str(size)], check=True)
        return
    with sink(chunking=False) as port:
        pooled(10)(port, 20)  # what is imported and cached once
        if options.size <= 1000:
            tracemalloc.start()
        pooled(10)(port, options.size)
        traced = f"{tracemalloc.get_traced_memory()[1] // 1024}" if tracemalloc.is_tracing() else "-"
    print(f"{options.size:>9}{traced:>18}{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss:>20}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--delay", type=float, default=20, help="milliseconds that the server needs for each message")
    parser.add_argument("--connections", type=int, nargs="+", default=[10])
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    memory(chosen) if chosen.memory else speed(chosen)
