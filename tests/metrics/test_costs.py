"""Who does not measure does not pay: the calls of a message are the same, the package imported or not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("prometheus_client")
pytest.importorskip("opentelemetry.sdk")

ROOT = Path(__file__).parents[2]
SCRIPT = """
import cProfile, json, pstats
import django_smtp_pool
from benchmarks import project, servers
from benchmarks.measures import warm_send_mail

def calls():
    from django.core.mail import send_mail
    found = []
    for _ in range(20):
        profile = cProfile.Profile()
        profile.enable()
        send_mail("Hello", project.TEXT, "from@example.com", ["to@example.com"])
        profile.disable()
        found.append(pstats.Stats(profile).total_calls)
    return warm_send_mail().count, min(found)  # our own; and all, on a machine that answers at once

with servers.sink() as port:
    project.configure(project.POOLED, port, max_messages=0)
    result = {"before": calls()}
    from django_smtp_pool.metrics import opentelemetry, prometheus
    import django_smtp_pool.metrics.opentelemetry.observer, django_smtp_pool.metrics.prometheus.collector
    result["imported"] = calls()
    prometheus.install()
    result["prometheus"] = calls()
    opentelemetry.install()
    result["both"] = calls()
    django_smtp_pool.close_all()
print(json.dumps(result))
"""


def test_calls_per_message():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    calls = json.loads(done.stdout)
    assert calls["imported"] == calls["before"]
    own = {name: ours - calls["before"][0] for name, (ours, _) in calls.items()}
    assert 0 < own["prometheus"] < own["both"] < 60


def test_nothing_is_imported_unless_asked_for():
    script = """
import sys
from django.conf import settings
settings.configure(INSTALLED_APPS=["django_smtp_pool"])
import django, django_smtp_pool
django.setup()
import django_smtp_pool.backend, django_smtp_pool.registry, django_smtp_pool.aio
print([name for name in sys.modules if "smtp_pool.metrics" in name or name.startswith(("prometheus", "opentelemetry"))])
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
