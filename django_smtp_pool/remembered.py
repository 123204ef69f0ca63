"""Keep each configuration by the values it was made from: Django creates a new backend object for every message."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from .core.once import once
from .core.options.oauth2 import Same
from .core.options.options import PoolOptions, ServerOptions
from .core.options.quotas import Quota
from .core.options.storage_uri import StorageURI
from .core.rate_limit.redis import key_of

T = TypeVar("T")

MOST = 64  # configurations to keep
PLAIN = frozenset({str, int, float, bool, bytes, type(None)})  # immutable types whose equal values mean the same


@dataclass(frozen=True, kw_only=True)
class PoolKey:
    """The identity of a pool: both option sets, compared field by field and not only by hash."""

    server: ServerOptions
    pool: PoolOptions

    @once
    def _hash(self) -> int:
        return hash((self.server, self.pool))

    def __hash__(self) -> int:
        return self._hash


@dataclass(frozen=True, kw_only=True)
class RateKey:
    """Identifies a rate limit: the account (host, port, user name), and the limits."""

    account: str
    quotas: frozenset[Quota]
    storage: StorageURI | None
    on_failure: str

    @classmethod
    def of(cls, key: PoolKey) -> RateKey:
        """Return the key for a pool."""
        return cls(
            account=key_of(key.server),
            quotas=frozenset(key.pool.quotas),
            storage=key.pool.rate_storage,
            on_failure=key.pool.on_rate_storage_failure,
        )


def frozen(values: Iterable[Any], other: Callable[[Any], Any] = Same) -> tuple[Any, ...]:
    """Return values as a hashable key. Equal keys mean equal values of the same types; later changes do not affect it.

    Arguments:
        other: returns what represents a value that is neither plain nor a container of plain values; by default an
            object that equals only itself.
    """
    values = tuple(values)
    kinds = [value.__class__ for value in values]  # True equals 1, so compare the types too
    if PLAIN.issuperset(kinds):
        return (*kinds, *values)
    return (*kinds, *[value if value.__class__ in PLAIN else _frozen(value, other) for value in values])


def _frozen(value: Any, other: Callable[[Any], Any]) -> Any:
    if type(value) is dict:
        return frozen((*value, *value.values()), other)
    if type(value) in {list, tuple}:
        return frozen(value, other)
    if type(value) in {set, frozenset}:
        return frozenset(frozen([each], other) for each in value)
    return other(value)


class Memory(dict[Any, Any]):
    """Keeps values by key. It is bounded, because a key may hold objects of the project."""

    def keep(self, key: Any, value: T) -> T:
        """Keep a value, and return it."""
        if len(self) >= MOST:
            self.clear()
        self[key] = value
        return value

    def __repr__(self) -> str:
        return f"<{len(self)} values>"  # the keys may hold passwords

    def forget(self) -> None:
        """Remove all values."""
        self.clear()


configurations = Memory()
