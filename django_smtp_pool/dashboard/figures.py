"""The data of each pool for the page: current figures, and those of the last minutes, as text and charts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..core.delivery.connection import Connection
from ..core.pool.pool import Pool
from ..core.pool.stats import ConnectionStats
from ..mailers import aliases, backend_of
from ..registry import registry
from ..remembered import PoolKey
from .charts import Chart, chart
from .recorder import History, recorder

STATES = ("busy", "idle", "connecting", "leaving")
JUST_NOW = 5  # seconds over which the current rate is averaged


@dataclass(frozen=True, kw_only=True)
class Box:
    """One connection, as text."""

    state: str
    name: str
    age: str
    messages: str


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A limit that was learnt, the reason, and for how much longer it holds."""

    what: str
    why: str
    left: str


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """What is left of one rate limit."""

    name: str
    left: int
    limit: int


class PoolFigures:
    """One pool, as the page shows it."""

    def __init__(self, key: PoolKey, pool: Pool[Connection], history: History, mailers: str) -> None:
        self.mailers = mailers
        self.account = key.server.shown_username
        self.options = key.pool
        self.history = history
        self.number = history.number
        self.name = pool.name
        self.stats = pool.stats()
        self._details = pool.details()
        self._seconds = history.seconds()

    @cached_property
    def boxes(self) -> Sequence[Box]:
        """Each connection, the oldest first, so that a box keeps its position when the page is refreshed."""
        return [_box(each) for each in self._details.connections]

    @cached_property
    def summary(self) -> str:
        """The number of connections in each state."""
        states = [box.state for box in self.boxes]
        return ", ".join(f"{states.count(state)} {state}" for state in STATES if state in states) or "none open"

    @property
    def failures(self) -> Sequence[Any]:
        """The last failures."""
        return self.history.failures()

    @cached_property
    def lessons(self) -> Sequence[Lesson]:
        """What the pool has learnt about its server."""
        left = self._details.learnt_for
        lessons = self.stats.learnt.items()
        return [Lesson(what=what, why=why, left=_left(left.get(what, 0.0))) for what, why in lessons]

    @cached_property
    def allowances(self) -> Sequence[Allowance]:
        """What is left of each rate limit."""
        limits = {str(quota): quota.limit for quota in self.options.quotas}
        return [Allowance(name=name, left=left, limit=limits[name]) for name, left in self.stats.rate_left.items()]

    @cached_property
    def throughput(self) -> Chart:
        """Messages per second; failed messages are in front of all."""
        return chart(
            accepted=[each.messages for each in self._seconds],
            failed=[each.failed for each in self._seconds],
        )

    @cached_property
    def waiting(self) -> Chart:
        """Seconds that messages waited for a connection: the longest wait, and the average in front of it."""
        return chart(
            longest=[each.longest for each in self._seconds],
            average=[each.waited / each.messages if each.messages else 0.0 for each in self._seconds],
        )

    @property
    def rate_now(self) -> str:
        """Messages per second, over the last few complete seconds."""
        rate = sum(each.messages for each in self._seconds[-JUST_NOW - 1 : -1]) / JUST_NOW
        return f"{rate:.1f}" if 0 < rate < 10 else f"{rate:.0f}"

    @property
    def average_wait(self) -> str:
        """The average wait of the last minutes."""
        messages = sum(each.messages for each in self._seconds)
        return duration(sum(each.waited for each in self._seconds) / messages if messages else 0.0)

    @property
    def longest_wait(self) -> str:
        """The longest wait of the last minutes."""
        return duration(self.waiting.top)


def _box(one: ConnectionStats) -> Box:
    name = "" if one.number is None else f"#{one.number}"
    messages = "" if one.state == "connecting" else f"{one.messages} msg"
    return Box(state=one.state, name=name, age=duration(one.age), messages=messages)


def _left(seconds: float) -> str:
    return f"for {duration(seconds)} more" if seconds else "until the next message"


def duration(seconds: float) -> str:
    """Return seconds as text, in a suitable unit."""
    if not seconds:
        return "0 s"
    if seconds < 1:
        return f"{max(1, round(seconds * 1000))} ms"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"


def all_figures() -> Iterator[PoolFigures]:
    """Return the pools of this process."""
    pools = registry.open_pools()
    names = mailers_of() if pools else {}
    for key, pool in pools.items():
        yield PoolFigures(key, pool, recorder.watch(key), ", ".join(names.get(key, ())))


def mailers_of() -> dict[PoolKey, list[str]]:
    """Return the project's mailers by the pool that they use; before Django 6.1 there is one, without a name."""
    names: dict[PoolKey, list[str]] = {}
    for alias in aliases():
        with suppress(Exception):  # it has another backend, or is invalid, which a check reports
            names.setdefault(backend_of(alias).config.key, []).append(alias)
    return names
