"""The benchmarks run: what they count is right, and no message is missing (they fail if one is)."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def output(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_measures_count_every_row():
    rows = dict(re.findall(r"(?m)^(.*?) {2,}\d.*?(\d+) +<= \d+$", output("benchmarks.measures")))
    calls = rows["Python calls in our code, one warm send_mail() of plain text"]
    assert 20 < int(rows["all calls per message, prebuilt batch over 5 connections"]) < 5000
    assert 10 < int(calls) < 2000
    assert 2 < int(rows["files in our code that take part in a warm send_mail()"]) < int(calls)


def test_first_message_is_measured_for_both_backends():
    rows = re.findall(r"(?m)^(stock|pool|limit) +(\d+) ms ", output("benchmarks.cold", "--rounds", "1"))
    taken = {name: int(milliseconds) for name, milliseconds in rows}
    assert taken["limit"] <= taken["pool"]
    assert taken["limit"] <= taken["stock"]


def test_metering_measures_every_way():
    pytest.importorskip("prometheus_client")
    pytest.importorskip("opentelemetry.sdk")
    rows = re.findall(r"(?m)^(.+?) {2,}(\d+) +(\d+) +\d+ +-?\d+ +[\d.]+$", output("benchmarks.metering", "--quick"))
    calls = {name: int(ours) for name, ours, _ in rows}
    assert len(calls) == 5
    assert calls["nothing"] < calls["Prometheus"] < calls["OpenTelemetry, every message"]


def test_quick_run_measures_senders_over_a_distance_under_tls_with_a_login():
    senders = ("stock, open connection", "pool, send()", "pool, one list")
    shown = output("benchmarks", "--quick", "--only", "TLS", "--senders", *senders)
    rates = {name: float(re.search(rf"(?m)^{re.escape(name)} +([\d.]+)", shown)[1]) for name in senders}
    assert "SKIPPED" not in shown
    # Over a distance, what counts is round trips: the stock backend needs four for a message, ours one.
    assert rates["pool, one list"] > rates["stock, open connection"]
