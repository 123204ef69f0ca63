"""What a pool tells of itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from .policy import State
from .slots import Place

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


def snapshot(state: State, counters: Counter[str], closed_for: Counter[str], rate_left: Mapping[str, int]) -> Stats:
    """Return the figures of this moment."""
    idle, busy = state.count(Place.IDLE), state.count(Place.BUSY)
    return Stats(
        open=idle + busy,
        idle=idle,
        busy=busy,
        connecting=state.count(Place.DIALLING),
        waiting=len(state.waiting),
        max_connections=state.ceiling_in_force,
        rate_left=MappingProxyType(dict(rate_left)),
        learnt=MappingProxyType(dict(state.lessons.why)),
        connections_closed=MappingProxyType(dict(closed_for)),
        **{name: counters[name] for name in COUNTERS},
    )


def gauges(state: State) -> str:
    """Return the places of the pool in words, for messages."""
    places = ", ".join(f"{state.count(place)} {place.value}" for place in Place)
    return f"{places}, at most {state.ceiling_in_force} connections"
