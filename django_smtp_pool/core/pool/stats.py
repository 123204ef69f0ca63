"""What a pool tells of itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from .state import State

COUNTERS = (
    "messages_accepted",
    "messages_refused",
    "messages_not_sent",
    "messages_unknown",
    "connections_opened",
    "stale",
    "requeues",
    "rate_storage_failures",
    "wait_ms",
)


@dataclass(frozen=True, kw_only=True)
class Stats:
    """A pool at one moment: gauges, and counters that only grow."""

    open: int
    idle: int
    busy: int
    connecting: int
    waiting: int
    max_connections: int
    messages_accepted: int
    messages_refused: int
    messages_not_sent: int
    messages_unknown: int
    connections_opened: int
    connections_closed: Mapping[str, int]
    stale: int
    requeues: int
    rate_storage_failures: int
    wait_ms: int
    rate_left: Mapping[str, int]  # what may still be sent under each rate limit
    learnt: Mapping[str, str]  # what was found out about the server's limits, and why


class Gauges(NamedTuple):
    """The places of a pool at one moment."""

    connecting: int
    busy: int
    idle: int
    waiting: int
    max_connections: int

    def __str__(self) -> str:
        places = f"{self.connecting} connecting, {self.busy} busy, {self.idle} idle"
        return f"{places}, at most {self.max_connections} connections"


def gauges(state: State) -> Gauges:
    """Return the places of the pool; as a string they are for messages."""
    return Gauges(len(state.dialling), len(state.busy), len(state.idle), len(state.waiting), state.ceiling_in_force)


def snapshot(
    now: Gauges, why: Mapping[str, str], counters: Counter[str], closed_for: Counter[str], rate_left: Mapping[str, int]
) -> Stats:
    """Return the figures of one moment."""
    return Stats(
        open=now.idle + now.busy,
        **now._asdict(),
        rate_left=MappingProxyType(dict(rate_left)),
        learnt=MappingProxyType(dict(why)),
        connections_closed=MappingProxyType(dict(closed_for)),
        **{name: counters[name] for name in COUNTERS},
    )
