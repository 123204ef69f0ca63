"""The figures of a pool, for `stats()` and `details()`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from .slots import Slot
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
    rate_left: Mapping[str, int]  # how much may still be sent under each rate limit
    learnt: Mapping[str, str]  # the limits of the server that were learnt, and why


class Gauges(NamedTuple):
    """The slots of a pool at one moment."""

    connecting: int
    busy: int
    idle: int
    waiting: int
    max_connections: int

    def __str__(self) -> str:
        places = f"{self.connecting} connecting, {self.busy} busy, {self.idle} idle"
        return f"{places}, at most {self.max_connections} connections"


def gauges(state: State) -> Gauges:
    """Return the slots of the pool at this moment; errors show them as a string.

    A slot that moves is in two places for a moment, and code that interrupts the pool's own code may see that.
    """
    busy = len(state.busy)
    connecting = len(state.dialling - state.busy)
    idle = len(state.idle.keys() - state.busy)
    return Gauges(connecting, busy, idle, len(state.waiting), state.ceiling_in_force)


def snapshot(state: State, counters: Counter[str], rate_left: Mapping[str, int]) -> Stats:
    """Return the figures of this moment."""
    now = gauges(state)
    return Stats(
        open=now.idle + now.busy,
        **now._asdict(),
        rate_left=MappingProxyType(dict(rate_left)),
        learnt=MappingProxyType(dict(state.lessons.why)),
        connections_closed=MappingProxyType(dict(state.closed_for)),
        **{name: counters[name] for name in COUNTERS},
    )


@dataclass(frozen=True, kw_only=True)
class ConnectionStats:
    """One connection at one moment.

    Arguments:
        number: its number in logs, or None while it is being opened.
        state: "connecting", "busy", "idle" or "leaving".
        age: seconds since it was opened, or since dialling began.
        in_state: seconds since its state changed.
        messages: how many it has carried, including the current one.
    """

    number: int | None
    state: str
    age: float
    in_state: float
    messages: int


@dataclass(frozen=True, kw_only=True)
class Details:
    """A pool at one moment, connection by connection.

    Arguments:
        connections: the oldest first.
        learnt_for: seconds until each lesson of `Stats.learnt` ends or changes; 0 if the next message decides.
    """

    connections: tuple[ConnectionStats, ...] = ()
    learnt_for: Mapping[str, float] = field(default_factory=dict)


def copied(state: State) -> list[tuple[Slot, str, float]]:
    """Return each slot, its state and since when. The lock is held, so everything else is left to `detailed`."""
    leaving = [(slot, "leaving", since) for slot, since in state.leaving.items()]
    idle = [(slot, "idle", slot.idle_since) for slot in state.idle]
    busy = [(slot, "busy", max(slot.busy_since, slot.since)) for slot in state.busy]
    dialling = [(slot, "connecting", slot.since) for slot in state.dialling]
    return [*leaving, *idle, *busy, *dialling]


def detailed(places: list[tuple[Slot, str, float]], lessons: Mapping[str, float], now: float) -> Details:
    """Return the details of what `copied` has returned; needs no lock."""
    connections = [
        ConnectionStats(
            number=getattr(slot.connection, "number", None),
            state=state,
            age=max(0.0, now - slot.since),
            in_state=max(0.0, now - since),
            messages=getattr(slot.connection, "messages", 0),
        )
        for slot, state, since in places
    ]
    return Details(
        connections=tuple(sorted(connections, key=lambda each: (-each.age, each.number or math.inf))),
        learnt_for=MappingProxyType({what: max(0.0, until - now) for what, until in lessons.items()}),
    )
