"""Charts as separate SVG files, which follow the reader's light or dark mode."""

import math
from html import escape

STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #24292f; } .small { font-size: 12px; fill: #57606a; }
.title { font-weight: 600; } .axis { stroke: #d0d7de; } .bar { fill: #8c959f; } .ours { fill: #0969da; }
circle { fill: none; } .line { fill: none; stroke-width: 2; }
.a { stroke: #0969da; } .b { stroke: #bc4c00; } .c { stroke: #1a7f37; } .d { stroke: #8250df; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; } .small { fill: #9198a1; }
.axis { stroke: #3d444d; } .bar { fill: #656c76; } .ours { fill: #4493f8; }
.a { stroke: #4493f8; } .b { stroke: #f0883e; } .c { stroke: #3fb950; } .d { stroke: #ab7df8; }
}
</style>"""


def _svg(width, height, label, parts):
    size = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
    return "\n".join([f'<svg {size} role="img" aria-label="{escape(label)}">', STYLE, *parts, "</svg>"]) + "\n"


def _text(x, y, text, *, kind="", anchor="start"):
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" class="{kind}">{escape(str(text))}</text>'


def bars(title, rows):
    """Draw one bar for each (label, value, is_ours); values are written beside the bars."""
    left, right, step = 220, 620, 26
    most = max(value for _, value, _ in rows)
    parts = [_text(10, 22, title, kind="title")]
    for index, (label, value, is_ours) in enumerate(rows):
        y = 40 + index * step
        width = max(1.0, (right - left) * value / most)
        parts += [
            _text(left - 8, y + 14, label, anchor="end"),
            f'<rect x="{left}" y="{y}" width="{width:.1f}" height="18" class="{"ours" if is_ours else "bar"}"/>',
            _text(left + width + 6, y + 14, f"{value:.3g}" if value < 100 else f"{value:.0f}", kind="small"),
        ]
    return _svg(700, 50 + step * len(rows), title, parts)


def lines(title, unit, series):
    """Draw a line for each (label, [(number, value)]), at most four, on logarithmic scales."""
    left, top, width, height = 60, 44, 480, 240
    points = [point for _, each in series for point in each]
    highest = max(math.ceil(math.log10(number)) for number, _ in points) or 1
    low = math.floor(math.log10(min(value for _, value in points)))
    high = max(low + 1, math.ceil(math.log10(max(value for _, value in points))))
    parts = [_text(10, 22, title, kind="title"), _text(left, top - 6, unit, kind="small")]

    def place(number, value):
        return (
            left + width * math.log10(number) / highest,
            top + height * (high - math.log10(value)) / (high - low),
        )

    for power in range(highest + 1):
        x, y = place(10**power, 10**low)
        parts += [
            f'<path d="M{x:.1f} {top}V{y:.1f}" class="axis"/>',
            _text(x, y + 18, f"{10**power:,}", kind="small", anchor="middle"),
        ]
    for power in range(low, high + 1):
        x, y = place(1, 10.0**power)
        parts += [
            f'<path d="M{x:.1f} {y:.1f}h{width}" class="axis"/>',
            _text(x - 6, y + 4, f"{10.0**power:g}", kind="small", anchor="end"),
        ]
    for kind, (label, each) in zip("abcd", series, strict=False):
        places = [place(*point) for point in each]
        parts.append(f'<path d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in places)}" class="line {kind}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" class="{kind}"/>' for x, y in places]
        y = top + height + 44 + 20 * "abcd".index(kind)
        parts += [f'<path d="M{left} {y - 4}h24" class="line {kind}"/>', _text(left + 32, y, label)]
    return _svg(600, top + height + 44 + 20 * len(series), title, parts)
