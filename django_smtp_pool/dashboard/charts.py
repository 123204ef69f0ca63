"""Small charts as SVG paths for a template, without scripts, styles or a library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

HEIGHT = 40  # units of the drawing; its width is one unit for each value


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Values from left to right, as steps.

    Arguments:
        width: the width of the drawing, in units.
        paths: the areas, the one in the back first, each with the name of its class.
        top: the value at the upper edge.
    """

    width: int
    paths: Sequence[tuple[str, str]]
    top: float

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not self.top


def chart(**series: Sequence[float]) -> Chart:
    """Draw series over each other, each as an area from the lower edge; name the tallest series first."""
    top = max((value for values in series.values() for value in values), default=0.0)
    width = max(map(len, series.values()))
    paths = [(name, steps(values, top)) for name, values in series.items() if any(values)]
    return Chart(width=width, paths=paths, top=top)


def steps(values: Sequence[float], top: float) -> str:
    """Return the path of an area below steps; repeated values add no points."""
    path, before = [f"M0 {HEIGHT}"], HEIGHT
    for number, value in enumerate(values):
        y = HEIGHT - round(HEIGHT * value / top) if value else HEIGHT
        if value and y == HEIGHT:
            y = HEIGHT - 1  # a small value must be visible
        if y != before:
            path.append(f"H{number}V{y}")
            before = y
    return "".join([*path, f"H{len(values)}V{HEIGHT}Z"])
