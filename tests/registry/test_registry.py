"""The registry: which options share a pool, which never do, and how pools end."""

from dataclasses import replace

import pytest

from django_smtp_pool.core.events.events import Observer
from django_smtp_pool.core.options.options import PoolOptions, ServerOptions, TLSOptions
from django_smtp_pool.core.pool.policy import IN_USE
from django_smtp_pool.registry import PoolKey, Registry
from tests.clocks import ManualClock
from tests.core.options.test_options import POOL, SERVER, TLS

OTHER = [
    *((ServerOptions, key, good[0]) for key, (good, _) in SERVER.items() if good),
    *((PoolOptions, key, good[0]) for key, (good, _) in POOL.items() if good),
    *((ServerOptions, "tls_options", TLSOptions(**{key: good[0]})) for key, (good, _) in TLS.items() if good),
]
KEY = PoolKey(server=ServerOptions(username="me", password="mine", host="h"), pool=PoolOptions())


@pytest.fixture
def registry():
    return Registry(clock=ManualClock(), observer=Observer())


def key_with(kind, key, value):
    if kind is PoolOptions:
        return replace(KEY, pool=replace(KEY.pool, **{key: value}))
    return replace(KEY, server=replace(KEY.server, **{key: value}))


def test_the_same_options_share_a_pool(registry):
    same = PoolKey(
        server=ServerOptions(host="h", username="me", password="mine"), pool=PoolOptions(max_connections="5")
    )
    assert registry.sender(KEY) is registry.sender(same)
    assert len(registry.pools()) == 1


@pytest.mark.parametrize(("kind", "key", "value"), OTHER, ids=lambda value: str(value)[:40])
def test_any_other_option_is_another_pool(registry, kind, key, value):
    other = key_with(kind, key, value)
    assert registry.sender(KEY).pool is not registry.sender(other).pool
    assert registry.sender(KEY).pool is registry.sender(KEY).pool


def test_pools_are_compared_and_not_only_hashed(registry):
    """As two accounts may hash alike."""

    class Colliding(ServerOptions):
        def __hash__(self):
            return 1

    one, two = (Colliding(username="u", password=word) for word in "ab")
    pool = PoolOptions()
    assert registry.sender(PoolKey(server=one, pool=pool)) is not registry.sender(PoolKey(server=two, pool=pool))


def test_a_new_pool_is_not_forgotten_for_another(registry):
    sender = registry.sender(KEY)
    registry.sender(key_with(ServerOptions, "port", 26))
    assert registry.sender(KEY) is sender


def test_a_pool_unused_for_ten_minutes_is_forgotten(registry):
    sender = registry.sender(KEY)
    registry._clock.advance(IN_USE - 1)
    registry.sender(key_with(ServerOptions, "port", 26))
    assert sender.pool in registry.pools()
    registry._clock.advance(2)
    registry.sender(key_with(ServerOptions, "port", 27))
    assert sender.pool not in registry.pools()


def test_closing_all_makes_room_for_fresh_pools(registry):
    senders = [registry.sender(KEY), registry.sender(key_with(ServerOptions, "port", 26))]
    registry.close_all(timeout=0)
    assert registry.pools() == []
    assert registry.sender(KEY) not in senders


def test_a_pool_that_was_closed_by_its_owner_is_replaced(registry):
    """get_pool().close(), and the next message goes through a fresh one (DESIGN §2.9)."""
    pool = registry.sender(KEY).pool
    pool.close(timeout=0)
    assert registry.sender(KEY).pool is not pool


def test_a_child_by_another_fork_is_noticed_at_the_next_use(registry):
    pool = registry.sender(KEY).pool
    pool._lock.acquire()
    registry._lock.acquire()
    registry._pid -= 1
    assert registry.sender(KEY).pool.stats().open == 0
