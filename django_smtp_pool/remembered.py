"""Remembering a configuration by what went into it: Django makes a new backend object for every message."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from .core.options.oauth2 import Same
from .core.options.options import PoolOptions, ServerOptions

T = TypeVar("T")

MOST = 64  # configurations kept
PLAIN = frozenset({str, int, float, bool, bytes, type(None)})  # equal means the same, and they never change


@dataclass(frozen=True, kw_only=True)
class PoolKey:
    """What tells pools apart: the whole of both option sets, compared and not only hashed."""

    server: ServerOptions
    pool: PoolOptions

    @cached_property
    def _hash(self) -> int:
        return hash((self.server, self.pool))

    def __hash__(self) -> int:
        return self._hash


def frozen(values: Iterable[Any], other: Callable[[Any], Any] = Same) -> tuple[Any, ...]:
    """Return values as a key: equal keys mean equal values, of the same types, and later changes do not reach it.

    Arguments:
        other: what stands for a value that is neither plain nor made of such; by default it equals itself alone.
    """
    values = tuple(values)
    kinds = [value.__class__ for value in values]  # True is no whole number, although it equals 1
    return (*kinds, *[value if value.__class__ in PLAIN else _frozen(value, other) for value in values])


def _frozen(value: Any, other: Callable[[Any], Any]) -> Any:
    if type(value) is dict:
        return frozen((*value, *value.values()), other)
    if type(value) in {list, tuple}:
        return frozen(value, other)
    if type(value) in {set, frozenset}:
        return frozenset(frozen([each], other) for each in value)
    return other(value)


class Memory:
    """Keeps what was made last, by key; not for ever, since a key may hold somebody's objects."""

    def __init__(self) -> None:
        self._kept: dict[Any, Any] = {}

    def get(self, key: Any, make: Callable[[], T]) -> T:
        """Return what was made for a key, made now if it is not kept."""
        kept = self._kept
        if key in kept:
            try:
                return kept[key]  # type: ignore[no-any-return]
            except KeyError:  # forgotten by another thread in between
                pass
        made = make()
        if len(kept) >= MOST:
            kept.clear()
        kept[key] = made
        return made

    def __contains__(self, key: Any) -> bool:
        return key in self._kept

    def forget(self) -> None:
        """Keep nothing."""
        self._kept.clear()


configurations = Memory()
