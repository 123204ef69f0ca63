"""The registry: which options share a pool, which never do, and how pools end."""

import threading
from dataclasses import replace

import pytest

from django_smtp_pool.core.events.events import Observer
from django_smtp_pool.core.options.options import PoolOptions, ServerOptions, TLSOptions
from django_smtp_pool.core.pool.retirement import IN_USE
from django_smtp_pool.registry import PoolKey, Registry
from tests.clocks import ManualClock
from tests.core.fakes import in_thread, until
from tests.core.options.test_options import POOL, SERVER, TLS
from tests.mailing import backend_for, message

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


def test_several_threads_of_such_a_child_start_over_once(registry, monkeypatch):
    """The second one would have closed the connections of the first, and taken its places from it."""
    registry.sender(KEY)
    begun, looks = [], []
    start_over, looks_foreign = registry.after_fork, registry._is_foreign

    def after_fork():
        begun.append(threading.get_ident())
        until(lambda: len(looks) >= 8)  # all of them have seen that they are in another process
        start_over()

    monkeypatch.setattr(registry, "after_fork", after_fork)
    monkeypatch.setattr(registry, "_is_foreign", lambda: looks.append(looks_foreign()) or looks[-1])
    registry._pid -= 1
    threads = [in_thread(registry.sender, KEY) for _ in range(8)]
    assert len({thread.join().pool for thread in threads}) == 1
    assert len(begun) == 1


def test_a_pool_is_not_forgotten_while_a_batch_is_in_its_callers_code(server, mailer):
    """For more than ten minutes, and without a connection: a second pool would have meant twice the ceiling."""
    clock = ManualClock()
    backend = mailer(server, clock=clock, idle_timeout=60)
    backend.send_messages([message(1)])
    clock.advance(61)
    backend.pool.tidy()
    until(lambda: not backend.pool._state.occupied)  # those that leave count, too
    pool = backend.pool

    def mailing():
        clock.advance(IN_USE + 1)
        assert backend_for(server, port=1).pool is not pool  # to make another one forgets what is unused
        yield message(2)

    assert backend.send_messages(mailing()) == 1
    assert backend.pool is pool


def test_a_new_pool_does_not_wait_for_the_lock_of_the_old_one(registry):
    """The thread that holds it may be in a signal handler, and wait for the registry."""
    old = registry.sender(KEY).pool
    registry.close_all(timeout=0)
    with old._lock:
        assert in_thread(lambda: registry.sender(KEY)).join().pool is not old


def test_asking_for_a_sender_counts_as_use(registry):
    """A message for it may be rendered at the moment, and a second pool would mean twice the ceiling."""
    pool = registry.sender(KEY).pool
    registry._clock.advance(IN_USE + 1)
    registry.sender(KEY)
    registry.sender(key_with(ServerOptions, "port", 26))
    assert pool in registry.pools()


def test_after_an_interrupted_close_all_every_pool_is_closed(registry, monkeypatch):
    senders = [registry.sender(KEY), registry.sender(key_with(ServerOptions, "port", 26))]

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(senders[0].pool), "close_if_unused", interrupted)
        with pytest.raises(KeyboardInterrupt):
            registry.close_all(timeout=100)
    assert all(sender.pool.is_closed for sender in senders)


def test_what_is_logged_about_a_new_pool_is_logged_without_the_lock(registry, monkeypatch):
    """A log handler may send mail."""
    inside = []
    monkeypatch.setattr("django_smtp_pool.registry.records.write", lambda *_: inside.append(registry._is_inside))
    registry.sender(PoolKey(server=ServerOptions(host="h", username="me"), pool=PoolOptions()))
    assert inside == [False]


def test_an_interrupt_before_a_fork_does_not_leave_the_housekeeper_paused(registry, monkeypatch):
    prepared = []
    monkeypatch.setattr(registry._after_fork, "prepare", lambda: prepared.append(True))
    monkeypatch.setattr(type(registry._housekeeper), "has_work", True)

    def interrupted(_):
        assert prepared, "nothing would end the pause"
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(registry._housekeeper), "pause", interrupted)
        with pytest.raises(KeyboardInterrupt):
            registry.before_fork()
