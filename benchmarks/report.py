"""Tables of the results, for the terminal and for the documentation, and the charts of the documentation."""

import statistics
from dataclasses import dataclass
from pathlib import Path

from benchmarks import charts, scaling
from benchmarks.cases import SLOW, Case

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = ".. benchmarks: begin", ".. benchmarks: end"
REFERENCE = "stock, send()"  # the sender that ratios refer to


@dataclass(frozen=True, kw_only=True)
class Row:
    """One sender in one case: medians of all rounds. Times are milliseconds, memory is MB."""

    sender: str
    rate: float
    ratio: float | None
    cpu: float
    cpu_ratio: float | None
    memory: float | None
    p50: float | None
    p99: float | None
    calls: float | None
    sink: float


def row(sender, rounds, references):
    """Return the row for the results of all rounds; `references` are those of the stock backend in the same rounds."""
    latencies = sorted(each for result in rounds for each in result.latencies)
    rates = [result.messages / result.seconds for result in rounds]
    ratios = [rate / (other.messages / other.seconds) for rate, other in zip(rates, references, strict=False)]
    costs = [result.cpu / result.messages * 1000 for result in rounds]
    savings = [other.cpu / other.messages * 1000 / cost for cost, other in zip(costs, references, strict=False)]
    return Row(
        sender=sender,
        rate=statistics.median(rates),
        ratio=statistics.median(ratios) if ratios else None,
        cpu=statistics.median(costs),
        cpu_ratio=statistics.median(savings) if savings else None,
        memory=None if rounds[0].memory is None else max(result.memory for result in rounds) / 1024,
        p50=_percentile(latencies, 50),
        p99=_percentile(latencies, 99),
        calls=rounds[-1].calls,
        sink=statistics.median(result.sink_cpu / result.seconds for result in rounds),
    )


def _percentile(latencies, percent):
    return latencies[min(len(latencies) - 1, len(latencies) * percent // 100)] * 1000 if latencies else None


HEADS = ("messages/s", "x stock", "CPU ms", "x stock", "memory MB", "p50 ms", "p99 ms", "calls", "sink busy")


def cells(row):
    """Return the cells of a row, in the order of HEADS."""
    numbers = (row.rate, row.ratio, row.cpu, row.cpu_ratio, row.memory, row.p50, row.p99, row.calls)
    return [*map(_short, numbers), f"{row.sink:.0%}{' (!)' if row.sink > 0.8 else ''}"]


def _short(number):
    if number is None:
        return "-"
    return f"{number:.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def text(rows):
    """Return the table of one case for a terminal."""
    lines = ["".join([f"{'':30}", *(f"{head:>12}" for head in HEADS)])]
    lines += ["".join([f"{each.sender:30}", *(f"{cell:>12}" for cell in cells(each))]) for each in rows]
    return "\n".join(lines)


# The goals, as ratios in one run: the case, our sender, the other sender, how many times as fast ours should be.
GOALS = (
    (Case(connections=1), "pool, send()", "stock, open connection", 8),
    (Case(), "pool, one list", "stock, one list", 25),
    (Case(), "pool, one list", "nodemailer, queued", 10),
    (Case(content="282K"), "pool, one list", "stock, one list", 8),
)


def goals(results):
    """Return a line for each goal, with the ratio of the rates and that of the CPU times."""
    lines = []
    for case, ours, other, goal in GOALS:
        rows = {each.sender: each for each in results.get(case, ())}
        if ours in rows and other in rows:
            rate, cpu = rows[ours].rate / rows[other].rate, rows[other].cpu / rows[ours].cpu
            lines.append(f"{case}: {ours} / {other}: rate {rate:.1f}, CPU {cpu:.1f}; goal {goal}")
    slow = Case(delay=SLOW, connections=10)
    ideal = slow.connections / SLOW
    lines += [
        f"{slow}: {each.sender}: {each.rate / ideal:.2f} of the ideal; goal 0.95"
        for each in results.get(slow, ())
        if each.sender == "pool, one list"
    ]
    return lines


LABELS = {  # the senders of the table in the README
    "stock, send()": "Django, ``send()``",
    "stock, open connection": "Django, connections kept open",
    "nodemailer, queued": "nodemailer, pooled",
    "aiosmtplib": "aiosmtplib",
    "pool, send()": "django-smtp-pool, ``send()``",
    "pool, one list": "django-smtp-pool, ``send_messages()``",
    "pool, asend_messages()": "django-smtp-pool, ``asend_messages()``",
}


def rst(heads, rows):
    """Return a table in reStructuredText."""
    table = [list(heads), *([str(cell) for cell in each] for each in rows)]
    widths = [max(len(each[column]) for each in table) for column in range(len(heads))]
    rule = "  ".join("=" * width for width in widths)
    body = ["  ".join(cell.ljust(width) for cell, width in zip(each, widths, strict=True)).rstrip() for each in table]
    return "\n".join([rule, body[0], rule, *body[1:], rule]) + "\n"


def write(results, points, facts):
    """Write docs/benchmarks-tables.inc, the charts, and the table in the README, if the README has the markers."""
    docs, drawings = ROOT / "docs", ROOT / "docs" / "drawings"
    parts = [f"{facts}\n"]
    for case, rows in results.items():
        parts += [f"**{case}**\n", rst(("Sender", *HEADS), [[each.sender, *cells(each)] for each in rows])]
    (docs / "benchmarks-tables.inc").write_text("\n".join(parts))
    for number, case in enumerate(headlines(results)):
        shown = [(each.sender, each.rate, each.sender.startswith("pool")) for each in results[case]]
        (drawings / f"benchmark-rate-{number + 1}.svg").write_text(charts.bars(f"Messages a second: {case}", shown))
    base = headlines(results)[0]
    shown = [(each.sender, each.cpu, each.sender.startswith("pool")) for each in results[base]]
    (drawings / "benchmark-cpu.svg").write_text(charts.bars(f"CPU per message, ms: {base}", shown))
    series = [(scaling.TITLES[kind], each) for kind, each in cpu_series(points).items()]
    (drawings / "benchmark-scaling.svg").write_text(
        charts.lines("What a message costs when there is more of everything", "CPU per message, ms", series)
    )
    readme = ROOT / "README.rst"
    before, found, rest = readme.read_text().partition(f"{BEGIN}\n")
    if found:
        readme.write_text(f"{before}{BEGIN}\n\n{readme_table(results)}\n{END}{rest.partition(END)[2]}")


def headlines(results):
    """Return the two main cases, over 5 connections: no distance, and the longest distance with TLS."""
    ordinary = [case for case in results if case.content == "html" and case.connections == 5 and not case.delay]
    near = min(ordinary, key=lambda case: (case.rtt, case.is_secure))
    return [near, max(ordinary, key=lambda case: (case.rtt, case.is_secure))]


def readme_table(results):
    """Return the main cases for the README: messages per second, how many times Django's `send()`, and CPU time."""
    cases = headlines(results)
    found = [{each.sender: each for each in results[case]} for case in cases]
    rows = []
    for sender, label in LABELS.items():
        shown = [each.get(sender) for each in found]
        if shown[0] is not None:
            rates = ["-" if each is None else f"{each.rate:.0f} (x {each.ratio:.1f})" for each in shown]
            rows.append([label, *rates, f"{shown[0].cpu:.1f} ms"])
    heads = [f"server {case.rtt * 1000:g} ms away{', TLS' * case.is_secure}" for case in cases]
    return rst(("Messages per second", *heads, "CPU time for each"), rows)


def cpu_series(points):
    """Return the lines of the chart: (number, CPU per message) for each kind except the one about memory."""
    series = {}
    for kind, number, found in points:
        if found is not None and kind != "messages":
            series.setdefault(kind, []).append((number, found["cpu"]))
    return series
