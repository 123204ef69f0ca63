"""The pool with a server that is none, and a clock that stands still."""

import contextlib
import gc
import math
import threading
from dataclasses import FrozenInstanceError

import pytest

from django_smtp_pool.core.delivery import life
from django_smtp_pool.core.drivers import blocking
from django_smtp_pool.core.errors import DataRefused, PoolClosed, PoolFull, PoolTimeout, Stage, refusal
from django_smtp_pool.core.events.events import Closed, DialFailed, Opened
from django_smtp_pool.core.needs import Call
from django_smtp_pool.core.pool import policy
from django_smtp_pool.core.pool.policy import GRACE
from django_smtp_pool.core.pool.retirement import IN_USE
from django_smtp_pool.core.pool.slots import Slot
from django_smtp_pool.core.pool.waiters import _GONE, Waiter
from django_smtp_pool.core.replies import Reply
from tests.clocks import LeapingClock
from tests.core.fakes import Bench, Diary, FakeHousekeeper, in_thread, until


def waiting(bench, count):
    until(lambda: bench.pool.stats().waiting == count)


# Reuse


def test_one_connection_serves_one_thread():
    bench = Bench(max_messages=0)
    assert len({bench.use() for _ in range(200)}) == 1
    assert bench.pool.stats().connections_opened == 1


def test_the_connection_used_last_is_used_next():
    bench = Bench()
    first, second = bench.pool.acquire(), bench.pool.acquire()
    second.give_back()
    first.give_back()
    assert bench.pool.acquire().connection is first.connection


def test_a_lease_tells_whether_its_connection_was_idle():
    bench = Bench()
    fresh = bench.pool.acquire()
    fresh.give_back()
    assert (fresh.reused, bench.pool.acquire().reused) == (False, True)


def test_a_lease_given_back_twice_is_given_back_once():
    bench = Bench()
    lease = bench.pool.acquire()
    lease.give_back()
    lease.give_back()
    assert (bench.pool.stats().idle, bench.pool.stats().busy) == (1, 0)
    assert bench.pool.acquire().connection is not bench.pool.acquire().connection


# The ceiling


def test_32_threads_never_have_more_than_the_ceiling_and_all_are_served():
    bench = Bench(max_connections=3)
    lock, now, most = threading.Lock(), set(), []

    def work():
        for _ in range(20):
            lease = bench.pool.acquire()
            with lock:
                assert lease.connection not in now, "two have the same connection"
                now.add(lease.connection)
                most.append(len(now))
            with lock:
                now.remove(lease.connection)
            lease.connection.messages += 1
            lease.give_back()
        return True

    assert all(worker.join() for worker in [in_thread(work) for _ in range(32)])
    assert max(most) <= 3
    assert bench.pool.stats().connections_opened <= 3 * (1 + 640 // 100 + 1)
    assert bench.pool.stats().open <= 3


def test_dialling_counts_towards_the_ceiling():
    bench = Bench(max_connections=1)
    gate, inside = threading.Event(), threading.Event()
    connect = bench.server.connect

    def slow(deadline):
        inside.set()
        assert gate.wait(20)
        return connect(deadline)

    bench.server.connect = slow
    first = in_thread(bench.pool.acquire)
    assert inside.wait(20)
    second = in_thread(bench.pool.acquire)
    waiting(bench, 1)
    stats = bench.pool.stats()
    assert (stats.connecting, stats.open, stats.waiting) == (1, 0, 1)
    gate.set()
    first.join().give_back()
    assert second.join().reused


# Waiting


def test_waiters_are_served_in_the_order_they_came():
    bench = Bench(max_connections=1)
    lease = bench.pool.acquire()
    served = []

    def work(number):
        mine = bench.pool.acquire()
        served.append(number)
        mine.give_back()

    workers = []
    for number in range(8):
        workers.append(in_thread(work, number))
        waiting(bench, number + 1)
    lease.give_back()
    for worker in workers:
        worker.join()
    assert served == list(range(8))


def test_who_gives_back_and_wants_again_is_behind_who_waits():
    """So a mass mailing never starves a single message."""
    bench = Bench(max_connections=1)
    lease = bench.pool.acquire()
    single = in_thread(bench.pool.acquire)
    waiting(bench, 1)
    lease.give_back()
    again = in_thread(bench.pool.acquire)
    single.join().give_back()
    again.join()


def test_a_wait_ends_with_an_error_that_says_all():
    bench = Bench(max_connections=2, acquire_timeout=5, clock=LeapingClock())
    leases = [bench.pool.acquire(), bench.pool.acquire()]
    with pytest.raises(PoolTimeout) as caught:
        bench.pool.acquire()
    assert str(caught.value) == (
        "no connection to mail.example:25 became free within 5.0 s "
        "(0 connecting, 2 busy, 0 idle, at most 2 connections, 0 others waiting): "
        "raise max_connections if the server allows more, or find out why it is slow"
    )
    assert caught.value.__cause__ is None
    assert isinstance(caught.value, TimeoutError)
    assert (len(leases), bench.pool.stats().waiting) == (2, 0)


def test_a_wait_ends_at_the_deadline_of_the_message_if_that_is_sooner():
    bench = Bench(max_connections=1, acquire_timeout=30, clock=LeapingClock())
    lease = bench.pool.acquire()
    with pytest.raises(PoolTimeout, match=r"within 2\.0 s"):
        bench.pool.acquire(bench.clock.monotonic() + 2)
    lease.give_back()


def test_a_wait_in_vain_has_the_last_connection_failure_for_its_cause():
    bench = Bench(max_connections=1, acquire_timeout=5, clock=LeapingClock())
    gate, inside = threading.Event(), threading.Event()
    refused, connect = ConnectionRefusedError(111, "Connection refused"), bench.server.connect
    bench.server.fails_with = [refused]
    with pytest.raises(ConnectionRefusedError):
        bench.pool.acquire()
    bench.server.connect = lambda deadline: (inside.set(), gate.wait(20))[1] and connect(deadline)
    dialling = in_thread(bench.pool.acquire)
    assert inside.wait(20)
    with pytest.raises(PoolTimeout, match=r"1 connecting.*the last attempt to connect failed:.*refused") as caught:
        bench.pool.acquire()
    cause = caught.value.__cause__
    assert (type(cause), cause.args) == (type(refused), refused.args)
    assert cause.__traceback__ is None  # it would lead to what another thread was about
    gate.set()
    dialling.join()


def test_a_failure_that_was_made_good_is_no_cause():
    bench = Bench(max_connections=1, acquire_timeout=5, clock=LeapingClock())
    bench.server.fails_with = [ConnectionRefusedError()]
    with pytest.raises(ConnectionRefusedError):
        bench.pool.acquire()
    lease = bench.pool.acquire()
    with pytest.raises(PoolTimeout) as caught:
        bench.pool.acquire()
    assert caught.value.__cause__ is None
    lease.give_back()


def test_what_nobody_can_give_back_any_more_is_taken_back():
    bench = Bench(max_connections=1)
    lease = bench.pool.acquire()
    connection = lease.connection
    del lease
    assert bench.pool.stats().busy == 1  # nobody has looked yet
    other = bench.pool.acquire()
    assert other.connection is not connection
    assert connection.seen_off == 1
    assert bench.reasons() == {"abandoned": 1}
    other.give_back()


def test_a_thread_that_is_killed_takes_no_place_along():
    """At no moment between the request and the end: as long as somebody comes who wants a connection."""
    bench = Bench(max_connections=1)

    class Killed(BaseException):
        pass

    def work():
        lease = bench.pool.acquire()
        assert lease.connection is not None
        raise Killed

    with pytest.raises(Killed):
        in_thread(work).join()
    gc.collect()
    assert bench.use() is bench.server.connections[-1]
    assert bench.pool.stats().busy == 0


def test_too_many_waiters_are_turned_away_at_once():
    bench = Bench(max_connections=1, max_waiting=2)
    lease = bench.pool.acquire()
    patient = [in_thread(bench.pool.acquire) for _ in range(2)]
    waiting(bench, 2)
    with pytest.raises(PoolFull, match=r"2 others wait already.*1 busy.*raise max_connections or max_waiting"):
        bench.pool.acquire()
    assert bench.pool.stats().waiting == 2
    lease.give_back()
    until(lambda: any(worker.is_done for worker in patient))
    next(worker for worker in patient if worker.is_done).join().give_back()
    for worker in patient:
        until(lambda worker=worker: worker.is_done)


def test_max_waiting_concerns_only_those_who_would_wait():
    bench = Bench(max_connections=2, max_waiting=1)
    assert bench.pool.acquire() is not bench.pool.acquire()


@pytest.mark.parametrize("connected", [True, False])
def test_a_time_out_that_races_with_a_grant_loses_no_slot(connected, monkeypatch):
    """The waiter's time is up; before it leaves the line, it is granted a slot: that must come back."""
    bench = Bench(max_connections=1, acquire_timeout=5)
    if connected:
        bench.use()
    late, grant = [], Waiter.grant

    def grant_late(self, slot):
        late.append(slot)
        self._said.insert(0, _GONE)  # as `leave` would have, a moment ago
        return grant(self, slot)

    with monkeypatch.context() as patch:
        patch.setattr(Waiter, "grant", grant_late)
        patch.setattr(policy, "lend_at_once", lambda *_: None)  # there it could not have left the line
        with pytest.raises(PoolTimeout):
            bench.pool.acquire()
    assert isinstance(late[0], Slot)
    stats = bench.pool.stats()
    assert (stats.busy, stats.connecting, stats.idle) == (0, 0, int(connected))
    bench.pool.acquire()


def test_a_waiter_takes_one_slot_or_none():
    waiter, slot = Waiter(), Slot()
    assert waiter.grant(slot)
    assert waiter.grant(slot)
    assert waiter.leave() is slot
    assert waiter.leave() is None
    assert not waiter.grant(Slot())


def test_a_grant_after_the_time_out_but_before_leaving_is_taken():
    bench = Bench(max_connections=1, acquire_timeout=5, clock=LeapingClock())
    lease, leave_line = bench.pool.acquire(), bench.pool.leave_line
    bench.pool.leave_line = lambda *arguments: (lease.give_back(), leave_line(*arguments))
    before = bench.clock.monotonic()
    assert bench.pool.acquire().connection is lease.connection
    assert bench.clock.monotonic() - before == 5


# Interrupts


class InterruptedClock(LeapingClock):
    """A clock that is interrupted at its nth question."""

    countdown = None

    def _tick(self):
        if self.countdown is not None:
            self.countdown -= 1
            if self.countdown == 0:
                raise KeyboardInterrupt

    def monotonic(self):
        self._tick()
        return super().monotonic()

    def wall(self):
        self._tick()
        return super().wall()

    def wait(self, block, timeout):
        self._tick()
        return super().wait(block, timeout)


@pytest.mark.parametrize("nth", range(1, 8))
@pytest.mark.parametrize("state", ["empty", "idle", "dead"])
def test_an_interrupt_leaks_no_slot(nth, state):
    clock = InterruptedClock()
    bench = Bench(max_connections=1, clock=clock)
    if state != "empty":
        bench.use().is_usable = state == "idle"
    clock.countdown = nth
    lease = None
    with contextlib.suppress(KeyboardInterrupt):
        lease = bench.pool.acquire()
    clock.countdown = None
    if lease is None:
        bench.pool.acquire()
    stats = bench.pool.stats()
    assert (stats.busy, stats.connecting, stats.idle, stats.waiting) == (1, 0, 0, 0)


def test_an_interrupt_while_waiting_leaks_no_slot():
    clock = InterruptedClock()
    bench = Bench(max_connections=1, clock=clock)
    lease = bench.pool.acquire()
    interrupted = threading.Event()
    clock.wait = lambda block, timeout: interrupted.set() or (_ for _ in ()).throw(KeyboardInterrupt)
    worker = in_thread(bench.pool.acquire)
    with pytest.raises(KeyboardInterrupt):
        worker.join()
    assert interrupted.is_set()
    assert bench.pool.stats().waiting == 0
    lease.give_back()
    assert bench.pool.stats().idle == 1


class StruckWhenServed(Waiter):
    """A waiter that is served by a thread which is interrupted at that moment."""

    is_struck = False

    def grant(self, slot):
        is_taken = super().grant(slot)
        if not self.is_struck:
            self.is_struck = True
            raise KeyboardInterrupt
        return is_taken


def test_an_interrupt_after_a_slot_was_handed_on_does_not_hit_who_has_it_now():
    """It was closed under the next thread's hands, which was in the middle of a message."""
    bench = Bench(max_connections=1)
    lease, waiter = bench.pool.acquire(), StruckWhenServed()
    bench.pool.request(waiter)
    with pytest.raises(KeyboardInterrupt):
        lease.give_back()
    assert waiter.leave().connection is lease.connection
    assert (lease.connection.closed, lease.connection.seen_off) == (0, 0)
    stats = bench.pool.stats()
    assert (stats.busy, stats.idle, stats.waiting) == (1, 0, 0)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, OSError, ValueError])
def test_a_dial_that_ends_badly_leaks_no_slot(error):
    bench = Bench(max_connections=1)
    bench.server.fails_with = [error()]
    with pytest.raises(error):
        bench.pool.acquire()
    assert bench.pool.stats().connecting == 0
    assert [event.server for event in bench.diary.of(DialFailed)] == ["mail.example:25"]
    bench.pool.acquire()


def test_a_dial_that_fails_lets_the_next_in_line_try():
    bench = Bench(max_connections=1)
    gate, inside = threading.Event(), threading.Event()
    connect = bench.server.connect
    bench.server.fails_with = [OSError("no")]
    bench.server.connect = lambda deadline: (inside.set(), gate.wait(20)) and connect(deadline)
    first = in_thread(bench.pool.acquire)
    assert inside.wait(20)
    second = in_thread(bench.pool.acquire)
    waiting(bench, 1)
    gate.set()
    with pytest.raises(OSError, match=r"no"):
        first.join()
    assert not second.join().reused


def test_an_interrupt_while_looking_at_an_idle_connection_leaks_no_slot():
    bench = Bench(max_connections=1)

    class Interrupting(type(bench.use())):
        @property
        def is_usable(self):
            raise KeyboardInterrupt

        @is_usable.setter
        def is_usable(self, value):
            pass

    bench.pool.acquire().slot.connection.__class__ = Interrupting
    bench.pool.take_back(next(iter(bench.pool._state.busy)))
    with pytest.raises(KeyboardInterrupt):
        bench.pool.acquire()
    assert bench.pool.stats().busy == 0
    bench.pool.acquire()


def test_an_observer_that_interrupts_leaks_no_slot():
    bench = Bench(max_connections=1)

    def interrupt(event):
        bench.diary.notice = type(bench.diary).notice.__get__(bench.diary)
        raise KeyboardInterrupt

    bench.diary.notice = interrupt
    lease = bench.pool.acquire()
    with pytest.raises(KeyboardInterrupt):
        lease.give_back()
    assert (bench.pool.stats().busy, bench.pool.stats().idle) == (0, 1)
    assert bench.pool.acquire().reused


# Leaving the pool


def test_after_max_messages():
    bench = Bench(max_messages=3)
    used = [bench.use() for _ in range(7)]
    assert [used.count(connection) for connection in bench.server.connections] == [3, 3, 1]
    assert bench.reasons() == {"max_messages": 2}
    assert [connection.seen_off for connection in bench.server.connections] == [1, 1, 0]


def test_0_messages_is_no_limit():
    bench = Bench(max_messages=0)
    assert len({bench.use() for _ in range(300)}) == 1


def test_after_idle_timeout():
    bench = Bench(idle_timeout=10)
    connection = bench.use()
    assert bench.housekeeper.due[-1] == bench.clock.monotonic() + 10
    bench.clock.advance(9.9)
    assert bench.pool.tidy() == pytest.approx(bench.clock.monotonic() + 0.1)
    bench.clock.advance(0.1)
    assert bench.pool.tidy() is None
    assert (connection.seen_off, bench.reasons()) == (1, {"idle_timeout": 1})


def test_an_idle_connection_past_its_time_is_not_used_although_nobody_tidied():
    bench = Bench(idle_timeout=10)
    connection = bench.use()
    bench.clock.advance(10)
    assert bench.use() is not connection


@pytest.mark.parametrize("draw", [0.0, 0.5, 1.0])
def test_after_max_lifetime_jittered_downwards_only(draw):
    bench = Bench(max_lifetime=100, idle_timeout=0, uniform=lambda low, high: low + (high - low) * draw)
    connection = bench.use()
    due = bench.housekeeper.due[-1] - bench.clock.monotonic()
    assert 90 <= due <= 100
    bench.clock.advance(due - 0.1)
    assert bench.use() is connection
    bench.clock.advance(0.2)
    assert bench.use() is not connection
    assert bench.reasons() == {"max_lifetime": 1}


def test_0_is_never():
    bench = Bench(max_lifetime=0, idle_timeout=0)
    connection = bench.use()
    assert bench.housekeeper.due == []
    bench.clock.advance(10**6)
    assert bench.use() is connection


def test_out_of_step():
    bench = Bench()
    lease = bench.pool.acquire()
    lease.connection.in_step = False
    lease.give_back()
    assert (lease.connection.closed, lease.connection.seen_off) == (1, 0)
    assert bench.reasons() == {"out of step": 1}


def test_a_dead_idle_connection_is_replaced_unseen():
    bench = Bench()
    dead = bench.use()
    dead.is_usable = False
    assert bench.use() is not dead
    assert (dead.closed, dead.seen_off) == (1, 0)
    assert bench.pool.stats().stale == 1


def test_all_dead_connections_are_replaced_by_one():
    bench = Bench()
    leases = [bench.pool.acquire() for _ in range(4)]
    for lease in leases:
        lease.give_back()
        lease.connection.is_usable = False
    lease = bench.pool.acquire()
    assert not lease.reused
    assert bench.pool.stats().open == 1


def test_a_dead_connection_costs_no_turn():
    bench = Bench(max_connections=1)
    bench.use().is_usable = False
    first = in_thread(bench.pool.acquire)
    assert not first.join().reused


def test_one_stale_connection_condemns_those_idle_for_as_long():
    bench = Bench()
    old, stale, young = (bench.pool.acquire() for _ in range(3))
    old.give_back()
    bench.clock.advance(1)
    stale.give_back()
    again = bench.pool.acquire()
    assert again.connection is stale.connection
    bench.clock.advance(1)
    young.give_back()
    again.give_back_stale()
    assert (old.connection.closed, young.connection.closed) == (1, 0)
    assert bench.reasons() == {"stale": 2}


@pytest.mark.parametrize("jump", [3600, -3600])
def test_a_jump_of_the_clock_discards_what_was_idle(jump):
    bench = Bench()
    connection = bench.use()
    bench.clock.jump(jump)
    assert bench.use() is not connection
    assert bench.reasons() == {"clock jump": 1}


@pytest.mark.parametrize("jump", [5, -5])
def test_a_small_correction_of_the_clock_discards_nothing(jump):
    bench = Bench()
    connection = bench.use()
    bench.clock.jump(jump)
    assert bench.use() is connection


# Spares


def test_min_connections_are_opened_after_the_first_use_and_kept():
    bench = Bench(min_connections=3, idle_timeout=10)
    bench.use()
    until(lambda: bench.pool.stats().idle == 3)
    bench.clock.advance(60)
    bench.pool.tidy()
    assert bench.pool.stats().idle == 3


def test_min_connections_are_let_go_when_the_pool_is_out_of_use():
    bench = Bench(min_connections=2, idle_timeout=10)
    bench.use()
    until(lambda: bench.pool.stats().idle == 2)
    bench.clock.advance(IN_USE)
    assert bench.pool.tidy() is None
    assert bench.pool.stats().open == 0


def test_a_server_that_is_down_is_not_dialled_for_spares_over_and_over():
    bench = Bench(min_connections=1)
    bench.server.is_down = ConnectionRefusedError()
    with pytest.raises(ConnectionRefusedError):
        bench.pool.acquire()
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "django-smtp-pool-dial"])
    assert len(bench.server.deadlines) == 1


def test_a_thread_that_cannot_be_started_disturbs_nobody(monkeypatch):
    """At the end of the interpreter, or of memory: what was sent is sent."""
    bench = Bench(min_connections=2)

    def fail(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        lease = bench.pool.acquire()
        lease.give_back()
    assert (bench.pool.stats().idle, bench.pool.stats().connecting) == (1, 0)


def test_a_waiter_that_came_while_no_thread_could_be_started_is_served(monkeypatch):
    """The place that was to be for a spare is free again, and somebody decides what becomes of it."""
    bench, waiter = Bench(max_connections=1, min_connections=1, max_messages=1), Waiter()
    lease = bench.pool.acquire()
    lease.connection.messages = 1

    def fail(self):
        bench.pool.request(waiter)
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        lease.give_back()
    assert waiter.leave().connection is None
    assert (bench.pool.stats().connecting, bench.pool.stats().waiting) == (1, 0)


# Closing


def test_close_refuses_who_waits():
    bench = Bench(max_connections=1)
    lease = bench.pool.acquire()
    waiter = in_thread(bench.pool.acquire)
    waiting(bench, 1)
    bench.pool.close(timeout=0)
    with pytest.raises(PoolClosed):
        waiter.join()
    lease.give_back()
    assert (lease.connection.seen_off, bench.reasons()) == (1, {"pool closed": 1})


def test_close_says_goodbye_to_idle_connections_once():
    bench = Bench()
    connection = bench.use()
    bench.pool.close(timeout=0)
    bench.pool.close(timeout=0)
    assert (connection.seen_off, connection.closed) == (1, 0)


def test_a_closed_pool_gives_nothing():
    bench = Bench()
    bench.pool.close(timeout=0)
    with pytest.raises(PoolClosed):
        bench.pool.acquire()
    assert bench.server.connections == []


def test_close_waits_for_deliveries_under_way():
    bench = Bench()
    lease = bench.pool.acquire()
    closing = in_thread(bench.pool.close)
    until(lambda: bench.clock.waits)
    assert not closing.is_done
    lease.give_back()
    closing.join()
    assert lease.connection.seen_off == 1


def test_close_waits_no_longer_than_it_is_told():
    bench = Bench(clock=LeapingClock())
    lease = in_thread(bench.pool.acquire).join()
    before = bench.clock.monotonic()
    bench.pool.close(timeout=7)
    assert bench.clock.monotonic() - before == 7
    lease.give_back()
    assert lease.connection.seen_off == 1


def test_close_lets_one_that_finds_its_connection_dead_have_another():
    """It has waited its turn before the pool was closed, and the time has not ended."""
    bench = Bench()
    connection = bench.use()
    looking, closing = threading.Event(), []

    class Dying(type(connection)):
        @property
        def is_usable(self):
            closing.append(in_thread(bench.pool.close))
            until(lambda: bench.clock.waits)
            looking.set()
            return False

    connection.__dict__.pop("is_usable")
    connection.__class__ = Dying
    lease = bench.pool.acquire()
    assert looking.is_set()
    assert not closing[0].is_done
    lease.give_back()
    closing[0].join()
    assert (lease.connection.seen_off, bench.pool.is_closed) == (1, True)


# Telling


def test_stats_are_a_snapshot():
    bench = Bench()
    stats = bench.pool.stats()
    with pytest.raises(FrozenInstanceError):
        stats.open = 5
    with pytest.raises(TypeError):
        stats.connections_closed["x"] = 1
    bench.use()
    assert (stats.open, bench.pool.stats().open) == (0, 1)


def test_counters_only_grow():
    bench = Bench(max_messages=2)
    before = bench.pool.stats()
    for _ in range(5):
        bench.use()
        after = bench.pool.stats()
        assert after.connections_opened >= before.connections_opened
        assert sum(after.connections_closed.values()) >= sum(before.connections_closed.values())
        before = after
    assert (before.connections_opened, dict(before.connections_closed)) == (3, {"max_messages": 2})


def test_places_add_up():
    bench = Bench()
    leases = [bench.pool.acquire() for _ in range(3)]
    leases[0].give_back()
    stats = bench.pool.stats()
    assert (stats.open, stats.idle, stats.busy, stats.connecting, stats.max_connections) == (3, 1, 2, 0, 5)


def test_time_spent_waiting_is_counted_once():
    bench = Bench(max_connections=1)
    bench.use().is_usable = False
    connect = bench.server.connect
    bench.server.connect = lambda deadline: bench.clock.advance(1) or connect(deadline)
    lease = bench.pool.acquire()
    assert (lease.waited, lease.dialled) == (0.0, 1.0)
    assert bench.pool.stats().wait_ms == 0


def test_what_happens_is_told():
    bench = Bench(max_messages=1)
    connection = bench.use()
    assert [event.connection for event in bench.diary.of(Opened)] == [connection.number]
    assert [(event.connection, event.reason, event.messages) for event in bench.diary.of(Closed)] == [
        (connection.number, "max_messages", 1)
    ]


def test_nothing_is_told_dialled_or_closed_under_the_lock():
    bench = Bench(max_messages=1)

    def free(*_):
        assert bench.pool._lock.acquire(blocking=False), "the lock is held"
        bench.pool._lock.release()

    connect = bench.server.connect
    bench.server.connect = lambda deadline: free() or connect(deadline)
    bench.diary.notice = bench.housekeeper.watch = bench.housekeeper.see_off = free
    bench.use()
    bench.use()


def test_warming_up_opens_one_connection_and_no_more():
    bench = Bench()

    def warm_up():
        return blocking.run(life.warm_up(bench.service, bench.clock), bench.clock)

    assert warm_up() is True
    assert warm_up() is False
    lease = bench.pool.acquire()
    assert warm_up() is False
    lease.give_back()
    assert bench.pool.stats().connections_opened == 1


def test_a_pool_is_forgettable_when_it_is_unused_and_empty():
    bench = Bench(idle_timeout=10)
    bench.use()
    bench.clock.advance(IN_USE + 1)
    assert not bench.pool.is_forgettable
    bench.pool.tidy()
    assert bench.pool.is_forgettable


def test_a_new_pool_is_not_forgettable():
    """Its maker has not come to use it yet: a second pool for the same options would break the ceiling."""
    bench = Bench()
    assert not bench.pool.is_forgettable
    bench.clock.advance(IN_USE + 1)
    assert bench.pool.is_forgettable


def test_after_a_fork_the_pool_is_empty_and_unlocked():
    bench = Bench()
    lease = bench.pool.acquire()
    bench.use()
    bench.pool._lock.acquire()
    bench.pool.after_fork()
    assert bench.pool.stats().open == 0
    lease.give_back()
    assert (bench.pool.stats().open, lease.connection.closed) == (0, 0)
    assert not bench.pool.acquire().reused


def test_the_repr_tells_the_state():
    bench = Bench()
    bench.use()
    assert repr(bench.pool) == "<Pool mail.example:25: 0 connecting, 0 busy, 1 idle, at most 5 connections>"


# What is leaving


def test_a_connection_that_says_quit_keeps_its_place_until_it_has_left():
    bench = Bench(max_connections=1, max_messages=1)
    bench.housekeeper.is_quick = False
    first = bench.use()
    second = in_thread(bench.pool.acquire)
    waiting(bench, 1)
    assert bench.server.connections == [first]
    bench.housekeeper.leaving.pop()()
    assert second.join().connection is not first


def test_a_goodbye_takes_no_longer_than_a_second_where_the_place_is_needed():
    bench = Bench(max_connections=1, max_messages=1)
    bench.housekeeper.is_quick = False
    first = bench.use()
    second = in_thread(bench.pool.acquire)
    waiting(bench, 1)
    assert bench.housekeeper.due[-1] == bench.clock.monotonic() + GRACE
    bench.clock.advance(GRACE)
    bench.pool.tidy()
    assert second.join().connection is not first
    assert first.closed == 1


# What nobody else would notice


@pytest.mark.parametrize("interrupt", [GeneratorExit, KeyboardInterrupt, TimeoutError])
def test_a_dial_that_is_broken_off_teaches_nothing(interrupt):
    """A batch breaks off the dials that it no longer needs."""
    bench = Bench(min_connections=1)
    bench.server.open = lambda clock, deadline: iter([Call(None)])
    opening = life.Loan(bench.service, bench.clock).take(math.inf)
    assert isinstance(next(opening), Call)
    with pytest.raises(interrupt):
        opening.throw(interrupt)
    assert bench.diary.of(DialFailed) == []
    until(lambda: bench.pool.stats().idle == 1)  # the spare: no dial has failed, so there is no pause before it


def test_who_leaves_the_line_makes_way_for_the_next():
    bench = Bench(max_connections=2, max_messages=1)
    bench.housekeeper.is_quick = False
    worn, good = bench.pool.acquire(), bench.pool.acquire()
    worn.connection.messages = 1
    worn.give_back()
    good.give_back()
    picky, other = Waiter(fresh=True), Waiter()
    bench.pool.request(picky)
    bench.pool.request(other)
    assert not other.served
    bench.pool.leave_line(picky)
    assert other.leave().connection is good.connection


def test_a_dial_that_succeeds_beyond_a_lowered_ceiling_closes_an_idle_connection():
    bench = Bench(max_connections=3)
    lease, dials = bench.pool.acquire(), [Waiter(), Waiter()]
    for waiter in dials:
        bench.pool.request(waiter)
    first, second = [waiter.leave() for waiter in dials]
    lease.give_back()
    too_many = refusal(DataRefused, Reply(code=421, lines=(b"too many",)), stage=Stage.GREETING)
    bench.pool.failed_to_open(second, too_many)
    assert bench.pool.stats().idle == 1
    bench.pool.opened(first, bench.server.connect(None), 0.0)
    assert bench.reasons() == {"ceiling lowered": 1}


# A pause ends by itself


def test_one_that_waits_for_the_end_of_a_pause_is_looked_after():
    bench = Bench(max_connections=1)
    lease = bench.pool.acquire()
    lease.give_back(refusal(DataRefused, Reply(code=454, lines=(b"later",)), stage=Stage.CONTENT))
    waiter = in_thread(bench.pool.acquire)
    waiting(bench, 1)
    assert bench.housekeeper.due[-1] == bench.clock.monotonic() + 1
    bench.clock.advance(1)
    bench.pool.tidy()
    assert waiter.join().reused


def test_a_connection_that_comes_back_without_a_message_does_not_end_the_doubling_of_pauses():
    """After NOOP, or a message that the rate limit has put off, the server has accepted nothing."""
    bench = Bench(max_connections=1)
    later = Reply(code=454, lines=(b"later",))
    for pause in (1, 2, 4):
        lease = bench.pool.acquire()
        lease.give_back(refusal(DataRefused, later, stage=Stage.CONTENT))
        assert bench.pool._state.lessons.paused_until == bench.clock.monotonic() + pause
        bench.clock.advance(pause)
        bench.use()


def test_a_connection_that_is_worn_out_meanwhile_carries_no_further_message():
    bench = Bench()
    lease = bench.pool.acquire()
    lease.connection.messages = lease.connection.message_limit = 4
    assert not bench.pool.lend_again(lease.slot, "from@example.com")
    lease.give_back()
    assert bench.reasons() == {"max_messages": 1}


def test_where_nobody_looks_it_looks_for_itself():
    bench = Bench(max_connections=1, clock=LeapingClock())
    lease = bench.pool.acquire()
    lease.give_back(refusal(DataRefused, Reply(code=454, lines=(b"later",)), stage=Stage.CONTENT))
    assert bench.pool.acquire().reused


# Nothing that goes wrong here is a message's failure


@pytest.mark.parametrize("error", [RuntimeError("no"), MemoryError(), OSError(24, "no"), IndexError()])
@pytest.mark.parametrize(
    "where",
    [
        (FakeHousekeeper, "watch"),
        (FakeHousekeeper, "see_off"),
        (Diary, "notice"),
        (policy, "learn"),
        (policy, "put_back"),
        (policy, "decide"),
        (policy, "next_look"),
        (threading.Thread, "start"),
    ],
    ids=lambda where: where[1],
)
def test_giving_back_raises_nothing(where, error, monkeypatch):
    bench = Bench(max_connections=1, min_connections=1, max_messages=1)
    lease = bench.pool.acquire()
    lease.connection.messages = 1
    waiter = in_thread(bench.pool.acquire)
    waiting(bench, 1)

    def fail(*arguments, **keywords):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(*where, fail)
        lease.give_back()
        bench.pool.count("requeues")
    bench.pool.tidy()
    assert waiter.join().connection is not lease.connection
    assert bench.pool.stats().busy == 1


# Re-entry


def test_inside_the_lock_the_last_figures_are_told_a_send_fails_at_once_and_closing_comes_later():
    bench = Bench()
    bench.use()
    with bench.pool._lock:
        stats = bench.pool.stats()
        with pytest.raises(PoolTimeout, match="used by this same thread"):
            bench.pool.acquire()
        bench.pool.close(timeout=0)
        bench.pool.count("requeues")
        assert not bench.pool.is_closed
    assert stats.idle == 1
    bench.pool.tidy()
    assert (bench.pool.is_closed, bench.pool.stats().requeues, bench.pool.stats().open) == (True, 1, 0)


# Order: grants first, tell last


def test_a_receiver_holds_up_nobody_whose_turn_it_is():
    bench = Bench(max_connections=1, max_messages=1)
    lease = bench.pool.acquire()
    lease.connection.messages = 1
    waiter = in_thread(bench.pool.acquire)
    waiting(bench, 1)
    bench.diary.notice = lambda event: waiter.join()
    lease.give_back()
    assert waiter.is_done


def test_one_that_is_told_holds_no_place():
    bench = Bench(max_connections=1)
    busy = []
    bench.diary.notice = lambda event: busy.append(bench.pool.stats().busy)
    bench.use()
    assert busy == [0]


def test_sleepers_hear_of_the_end():
    bench = Bench()
    sleeper = in_thread(blocking.run, life.nap(bench.service, 1000, "the rate limit"), bench.clock)
    until(lambda: bench.clock.waits)
    bench.pool.close(timeout=0)
    with pytest.raises(PoolClosed):
        sleeper.join()


def test_a_slot_that_is_taken_before_the_grant_has_returned_is_granted():
    """The life may go on with its slot before the thread that grants it has taken another step."""
    waiter, slot, taken = Waiter(), Slot(), []
    waiter.wake = lambda: taken.append(waiter.leave())
    assert waiter.grant(slot)
    assert taken == [slot]
    assert waiter.leave() is None
