"""docs/metrics.rst, compared with the metrics that there are."""

import re

import pytest

from django_smtp_pool.core.errors import Stage
from django_smtp_pool.metrics import figures
from tests.documentation.blocks import ROOT, blocks

TEXT = (ROOT / "docs" / "metrics.rst").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"(?m)^   \* - ``(smtp_pool_\w+)``\n     - (.*)$", TEXT))
METRICS = [*figures.COUNTERS, *figures.HISTOGRAMS, *figures.GAUGES]


def name_in_prometheus(metric):
    """Return the name as it is scraped."""
    ending = "_seconds" if metric.unit == "s" else "_total" if metric in figures.COUNTERS else ""
    return f"smtp_pool_{metric.name.replace('.', '_')}{ending}"


def test_every_metric_is_in_a_table_with_its_labels():
    assert {name: re.findall(r"``(\w+)``", labels) for name, labels in ROWS.items()} == {
        name_in_prometheus(metric): list(metric.labels) for metric in METRICS
    }


def test_every_label_is_explained():
    explained = set(re.findall(r"(?m)^``(\w+)``\n    ", TEXT)) | {"phase", "state", "limit"}
    assert {label for metric in METRICS for label in metric.labels} <= explained


def test_every_stage_is_named():
    section = TEXT.split("\n``stage``\n", 1)[1].split("\n``reason``\n", 1)[0]
    named = set(re.findall(r"``(\w+)``", section))
    spoken = {stage.name.lower() for stage in Stage} - {"noop", "quit"}  # which are not about a message
    assert named == spoken | {"pool", "rate_limit", "interrupt", "other"}


@pytest.mark.parametrize("alert", [block.code for block in blocks("docs/metrics.rst") if block.language == "text"])
def test_an_alert_names_what_exists(alert):
    names = re.findall(r"smtp_pool_\w+", alert)
    assert names
    assert set(names) <= set(ROWS)
    for name, condition in re.findall(r"(smtp_pool_\w+)\{(.*?)\}", alert):
        label, value = re.fullmatch(r'(\w+)="(\w+)"', condition).groups()
        assert label in ROWS[name]
        assert f"``{value}``" in TEXT
