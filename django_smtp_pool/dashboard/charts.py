"""Small charts as the paths of an SVG, which a template draws: no script, no style, no library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

HEIGHT = 40  # units of the drawing; its width is one unit for each value


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Values from left to right, as steps.

    Arguments:
        width: of the drawing, in units.
        paths: areas, the lowest first, each with the name of its class.
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
    """Draw series over each other, each as an area from the lower edge; the tallest is to be named first."""
    top = max((value for values in series.values() for value in values), default=0.0)
    width = max(map(len, series.values()))
    paths = [(name, steps(values, top)) for name, values in series.items() if any(values)]
    return Chart(width=width, paths=paths, top=top)


def steps(values: Sequence[float], top: float) -> str:
    """Return the path of an area below steps; a value that stays the same takes no further point."""
    path, before = [f"M0 {HEIGHT}"], HEIGHT
    for number, value in enumerate(values):
        y = HEIGHT - round(HEIGHT * value / top) if value else HEIGHT
        if value and y == HEIGHT:
            y = HEIGHT - 1  # a little is not nothing
        if y != before:
            path.append(f"H{number}V{y}")
            before = y
    return "".join([*path, f"H{len(values)}V{HEIGHT}Z"])
