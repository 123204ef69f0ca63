"""One line each: the apps in INSTALLED_APPS, and what they say where a library is missing."""

import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_smtp_pool.core.options import extras

ROOT = Path(__file__).parents[2]
PROJECT = """
import sys
import django
from django.conf import settings
options = {"host": "127.0.0.1", "port": int(sys.argv[1]), "local_hostname": "client.example.com"}
POOLED = "django_smtp_pool.backend.PooledBackend"
if django.VERSION >= (6, 1):
    mail = {"MAILERS": {"default": {"BACKEND": POOLED, "OPTIONS": options}}}
else:
    del options["local_hostname"]
    mail = {"EMAIL_BACKEND": POOLED, **{f"EMAIL_{key.upper()}": value for key, value in options.items()}}
settings.configure(INSTALLED_APPS=["django_smtp_pool", sys.argv[2]], **mail)
django.setup()
from django.core.mail import send_mail
send_mail("Hello", "Hello", "from@example.com", ["to@example.com"])
"""
IN_PROMETHEUS = """
import prometheus_client
labels = {"server": f"127.0.0.1:{sys.argv[1]}"}
print(prometheus_client.REGISTRY.get_sample_value("smtp_pool_opened_connections_total", labels))
"""
# The SDK may be set up after the app.
IN_OPENTELEMETRY = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
send_mail("Hello", "Hello", "from@example.com", ["to@example.com"])
print(*[span.name for span in exporter.get_finished_spans()])
"""


@pytest.mark.parametrize(
    ("app", "library", "script", "expected"),
    [
        ("prometheus", "prometheus_client", IN_PROMETHEUS, "1.0"),
        ("opentelemetry", "opentelemetry.sdk", IN_OPENTELEMETRY, "smtp.conversation smtp.send"),
    ],
)
def test_an_app_measures(server, app, library, script, expected):
    pytest.importorskip(library)
    command = [sys.executable, "-c", PROJECT + script, str(server.port), f"django_smtp_pool.metrics.{app}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    # On a busy machine there is a span of the wait too.
    assert (done.returncode, done.stdout.strip().removeprefix("smtp.wait ")) == (0, expected), done.stderr


@pytest.mark.parametrize("extra", ["prometheus", "opentelemetry"])
def test_a_missing_library_is_an_error_that_names_the_extra(monkeypatch, extra):
    from django_smtp_pool.metrics import opentelemetry, prometheus

    install = {"prometheus": prometheus, "opentelemetry": opentelemetry}[extra].install
    monkeypatch.setitem(extras.EXTRAS, extra, ("no_such_library",))
    with pytest.raises(ImproperlyConfigured, match=rf"needs no_such_library: pip install .*\[{extra}\]"):
        install()
