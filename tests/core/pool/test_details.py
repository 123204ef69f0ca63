"""What a pool shows of its single connections, and how all of them are replaced."""

from django_smtp_pool.core.errors import GreetingRefused, Stage, refusal
from django_smtp_pool.core.pool.learning import RAISE_AFTER
from django_smtp_pool.core.pool.slots import Slot
from django_smtp_pool.core.pool.stats import Details
from django_smtp_pool.core.replies import Reply
from tests.core.fakes import Bench


def shown(pool):
    """Return state, age, seconds in that state and messages of each connection."""
    return [(each.state, each.age, each.in_state, each.messages) for each in pool.details().connections]


def test_each_connection_with_its_state_age_and_messages():
    bench = Bench(max_messages=0)
    first, second = bench.pool.acquire(), bench.pool.acquire()
    bench.clock.advance(5)
    first.connection.messages = 3
    first.give_back()
    bench.clock.advance(2)
    third = bench.pool.acquire()
    assert third.connection is first.connection
    bench.clock.advance(1)
    assert shown(bench.pool) == [("busy", 8, 1, 3), ("busy", 8, 8, 0)]
    second.give_back()
    bench.clock.advance(4)
    assert sorted(shown(bench.pool)) == [("busy", 12, 5, 3), ("idle", 12, 4, 0)]
    numbers = {each.number for each in bench.pool.details().connections}
    assert numbers == {first.connection.number, second.connection.number}


def test_one_that_is_being_opened_has_no_number_yet():
    bench, seen = Bench(), []

    def slow(clock, deadline):
        bench.clock.advance(3)
        seen.extend(bench.pool.details().connections)
        yield from ()
        return bench.server.connect(None)

    bench.server.open = slow
    bench.use()
    assert [(each.number, each.state, each.age, each.messages) for each in seen] == [(None, "connecting", 3, 0)]
    assert bench.pool.details().connections[0].age == 0, "its age begins when it is open"


def test_one_that_says_quit_is_leaving():
    bench = Bench()
    bench.housekeeper.is_quick = False
    bench.use()
    bench.pool.drain()
    bench.clock.advance(2)
    assert shown(bench.pool) == [("leaving", 2, 2, 1)]
    bench.housekeeper.leaving.pop()()
    assert shown(bench.pool) == []


def test_how_long_a_lesson_holds():
    bench = Bench()
    lease = bench.pool.acquire()
    slot = Slot()
    bench.pool._state.dialling.add(slot)
    reply = Reply(code=421, lines=(b"too many connections",))
    bench.pool.failed_to_open(slot, refusal(GreetingRefused, reply, stage=Stage.GREETING))
    bench.clock.advance(20)
    assert dict(bench.pool.details().learnt_for) == {"max_connections": RAISE_AFTER - 20}
    assert bench.pool.details().learnt_for.keys() == bench.pool.stats().learnt.keys()
    bench.clock.advance(RAISE_AFTER)
    assert dict(bench.pool.details().learnt_for) == {"max_connections": 0}
    lease.give_back()


def test_code_in_the_middle_of_a_change_sees_nothing_and_waits_for_nothing():
    bench = Bench()
    bench.use()
    with bench.pool._lock:
        assert bench.pool.details() == Details()


def test_a_drained_pool_opens_new_connections_and_refuses_nobody():
    bench = Bench(max_connections=2, max_messages=0)
    busy = bench.pool.acquire()
    idle = bench.use()
    bench.pool.drain()
    assert (idle.seen_off, busy.connection.seen_off) == (1, 0)
    assert bench.use() is not idle
    busy.give_back()
    assert busy.connection.seen_off == 1
    assert bench.reasons() == {"drained": 2}
    assert not bench.pool.is_closed


def test_a_connection_that_is_being_opened_is_not_drained():
    bench = Bench(max_messages=0)

    def slow(clock, deadline):
        bench.pool.drain()
        yield from ()
        return bench.server.connect(None)

    bench.server.open = slow
    assert bench.use() is bench.use()
    assert bench.reasons() == {}
