"""Pools of one server after each other: the server counts the connections of all of them together."""

import itertools
import threading

from django_smtp_pool.core.pool.policy import GRACE
from django_smtp_pool.core.pool.slots import Close
from django_smtp_pool.core.pool.waiters import Waiter
from tests.core.fakes import Bench, in_thread, until


def waiting(bench, count):
    until(lambda: bench.pool.stats().waiting == count)


def test_the_pool_after_a_closed_one_counts_what_is_left_of_it():
    old, new = Bench(max_connections=1), Bench(max_connections=1)
    lease = old.pool.acquire()
    old.pool.close(timeout=0)
    new.pool.follow(old.pool)
    waiter = in_thread(new.pool.acquire)
    waiting(new, 1)
    old.housekeeper.is_quick = False
    lease.give_back()
    assert new.pool.stats().waiting == 1
    old.housekeeper.leaving.pop()()
    assert new.housekeeper.due[-1] == float("-inf")
    new.pool.tidy()
    assert not waiter.join().reused


def test_a_line_of_closed_pools_may_be_longer_than_the_stack_is_deep():
    line = [Bench(max_connections=1) for _ in range(500)]
    lease = line[0].pool.acquire()
    for old, new in itertools.pairwise(line):
        old.pool.close(timeout=0)
        new.pool.follow(old.pool)
    waiter = in_thread(line[-1].pool.acquire)
    waiting(line[-1], 1)
    lease.give_back()
    assert line[-1].housekeeper.due[-1] == float("-inf")
    line[-1].pool.tidy()
    assert not waiter.join().reused


def closed_inside_a_send(bench):
    """Close a pool from inside a send of this thread, which may go on."""
    bench.pool.begin(bench)
    bench.pool.close(timeout=0)
    assert bench.pool._state.spared == {threading.get_ident()}


def closed_inside_a_send_and_next():
    """Return such a pool, and the one after it, for one connection."""
    old, new = Bench(max_connections=1), Bench(max_connections=1)
    closed_inside_a_send(old)
    new.pool.follow(old.pool)
    return old, new


def test_a_send_that_goes_on_in_a_closed_pool_counts_the_connections_of_the_next_pool():
    old, new = closed_inside_a_send_and_next()
    lease = new.pool.acquire()
    waiter = Waiter()
    old.pool.request(waiter)
    assert not waiter.served
    lease.give_back()
    assert not waiter.served  # an idle connection counts as well
    assert old.housekeeper.due[-1] == float("-inf")
    old.pool.tidy()
    assert old.housekeeper.due[-1] == float("-inf")
    old.pool.tidy()
    assert waiter.served
    assert (lease.connection.seen_off, new.pool.stats().open) == (1, 0)


def test_an_idle_connection_of_the_next_pool_makes_room_at_once():
    old, new = closed_inside_a_send_and_next()
    new.use()
    waiter = Waiter()
    old.pool.request(waiter)
    assert old.housekeeper.due[-1] == float("-inf")
    old.pool.tidy()
    assert waiter.served


def test_two_generations_that_wait_for_each_other_decide_in_the_end():
    old, new = Bench(max_connections=1), Bench(max_connections=1)
    held = old.pool.acquire()
    closed_inside_a_send(old)
    new.pool.follow(old.pool)
    waiters = Waiter(), Waiter()
    old.pool.request(waiters[0])
    new.pool.request(waiters[1])
    assert not any(each.served for each in waiters)
    old.housekeeper.is_quick = False
    held.give_back()
    assert old.housekeeper.due[-1] <= old.clock.monotonic() + GRACE
    old.housekeeper.leaving.pop()()
    new.pool.tidy()
    assert [each.served for each in waiters] == [True, False]


def test_a_pool_that_has_ended_is_no_longer_counted_nor_kept():
    old, new = Bench(max_connections=1), Bench(max_connections=1)
    old.use()
    old.pool.close(timeout=0)
    new.pool.follow(old.pool)
    new.use()
    assert list(new.pool._generations) == [new.pool]
    assert new.pool._state.occupied == 1


def test_a_change_that_waited_for_the_lock_of_another_generation_is_carried_out():
    """A finaliser strikes while this thread is changing the old pool, and gives back a connection of the new one."""
    old, new = Bench(max_connections=1), Bench(max_connections=1)
    held = old.pool.acquire()
    old.pool.close(timeout=0)
    new.pool.follow(old.pool)
    held.give_back()
    lease, waiter = new.pool.acquire(), Waiter()
    new.pool.request(waiter)
    old.pool._change(lease.give_back)
    assert waiter.served


def test_the_next_pool_looks_after_its_spares_when_the_old_connections_have_left():
    old, new = Bench(max_connections=3), Bench(max_connections=3, min_connections=2)
    old.use()
    old.housekeeper.is_quick = False
    old.pool.close(timeout=0)
    new.pool.follow(old.pool)
    new.use()
    new.housekeeper.due.clear()
    old.housekeeper.leaving.pop()()
    assert float("-inf") in new.housekeeper.due


def test_a_pool_is_not_forgettable_while_an_older_one_is_in_use():
    pools = [Bench(max_connections=1) for _ in range(2)]
    lease = pools[0].pool.acquire()
    for each in pools:
        each.pool.close(timeout=0)
    pools[1].pool.follow(pools[0].pool)
    assert not pools[1].pool.is_forgettable
    lease.give_back()
    assert pools[1].pool.is_forgettable


def test_a_pool_that_was_never_used_because_of_an_interrupt_is_not_kept():
    old, never, new = (Bench(max_connections=2) for _ in range(3))
    lease = old.pool.acquire()
    old.pool.close(timeout=0)
    never.pool.follow(old.pool)
    new.pool.follow(old.pool)
    new.use()
    assert list(new.pool._generations) == [old.pool, new.pool]
    lease.give_back()


def test_the_third_generation_is_served_when_a_connection_of_the_second_leaves():
    first, second, third = (Bench(max_connections=3) for _ in range(3))
    held = first.pool.acquire()
    first.pool.close(timeout=0)
    second.pool.follow(first.pool)
    leases = [second.pool.acquire()]
    held.give_back()  # from now on, the second one is alone
    leases += [second.pool.acquire() for _ in range(2)]
    second.pool.close(timeout=0)
    third.pool.follow(second.pool)
    waiter = in_thread(third.pool.acquire)
    waiting(third, 1)
    third.housekeeper.due.clear()
    leases.pop().give_back()
    assert set(third.housekeeper.due) == {float("-inf")}
    third.pool.tidy()
    assert waiter.join()


def test_goodbyes_of_all_generations_are_waited_for():
    old, new = Bench(), Bench()
    old.use()
    old.housekeeper.is_quick = False
    old.pool.close(timeout=0)
    new.pool.follow(old.pool)
    waiting_for_them = in_thread(lambda: new.pool.wait_for_farewells(20) or True)
    until(lambda: new.pool._alarms)
    old.housekeeper.leaving.pop()()
    assert waiting_for_them.join()
    assert not new.pool._alarms


def test_code_that_has_interrupted_the_pool_does_not_wait_for_goodbyes():
    bench = Bench()
    bench.housekeeper.is_quick = False
    bench.use()
    bench.pool.drain()
    bench.pool._change(lambda: bench.pool.wait_for_farewells(1e9))
    assert bench.pool._state.leaving


def test_a_forked_child_starts_over_with_all_generations():
    old, new = Bench(), Bench()
    lease = old.pool.acquire()
    old.pool.close(timeout=0)
    new.pool.follow(old.pool)
    lock = new.pool._lock
    new.pool.after_fork()
    assert lock not in {old.pool._lock, new.pool._lock}
    assert (old.pool._state.own, new.pool._state.own) == (0, 0)
    lease.give_back()


def test_a_connection_is_seen_off_once():
    """An interrupt may have queued its closing twice; the second time would have ended it before the server answers."""
    bench = Bench()
    bench.housekeeper.is_quick = False
    first = bench.use()
    bench.pool.drain()
    (slot,) = bench.pool._state.leaving
    first.in_step = False  # QUIT is under way
    bench.pool._state.todo.append(Close(slot, "drained"))
    bench.pool.tidy()
    assert (first.closed, list(bench.pool._state.leaving)) == (0, [slot])


def test_a_connection_whose_place_was_given_away_before_quit_could_be_sent_is_closed():
    """As if an interrupt had come, and nothing had happened in the pool for a second."""
    bench = Bench(max_connections=1)
    first = bench.use()
    see_off, bench.housekeeper.see_off = bench.housekeeper.see_off, interrupted
    try:
        bench.pool.drain()
    except KeyboardInterrupt:
        bench.housekeeper.see_off = see_off
    bench.pool._state.leaving = type(bench.pool._state.leaving)(
        (slot, bench.clock.monotonic()) for slot in bench.pool._state.leaving
    )
    bench.clock.advance(GRACE)
    second = bench.pool.acquire()
    assert second.connection is not first
    assert (first.seen_off, first.closed >= 1, first.severed) == (0, True, 1)


def interrupted(*_):
    raise KeyboardInterrupt


# Interrupts and other threads at the edges


def test_a_slot_that_was_put_back_is_not_taken_from_its_next_borrower():
    """Putting it back is repeated after an interrupt."""
    bench = Bench(max_connections=1)
    bench.use()
    first, second = Waiter(), Waiter()
    bench.pool.request(first)
    slot = first.leave()
    bench.pool.take_back_ungranted(first, slot)
    bench.pool.request(second)
    bench.pool.take_back_ungranted(first, slot)
    assert slot.is_lent_to(second)
    assert (bench.pool.stats().busy, bench.pool.stats().idle) == (1, 0)


def test_a_waiter_whose_connection_was_dead_is_not_turned_away():
    bench = Bench(max_connections=1, max_waiting=1)
    lease = bench.pool.acquire()
    other, first = Waiter(), Waiter()
    bench.pool.request(other)
    bench.pool.request(first, first=True)
    lease.give_back()
    assert (first.served, other.served) == (True, False)


def test_the_rate_limit_is_asked_without_the_lock_of_the_pool():
    bench, inside = Bench(), []
    bench.pool.rate_left = lambda: inside.append(bench.pool._is_inside) or {}
    bench.pool.stats()
    assert inside == [False]


def test_code_that_has_interrupted_the_pool_does_not_wait_until_it_is_closed():
    bench, closed = Bench(), []
    bench.pool.announce_close(1e9)
    bench.pool._change(lambda: closed.append(bench.pool.wait_until_closed()))
    assert closed == [False]


def test_what_has_waited_while_figures_were_read_is_done_when_the_lock_is_left():
    bench = Bench()
    bench.pool._late.append(lambda: bench.pool.shut())
    bench.pool.stats()
    assert bench.pool.is_closed


def test_a_send_that_goes_on_in_a_closed_pool_does_not_wait_long_for_a_goodbye_of_the_next_pool():
    old, new = closed_inside_a_send_and_next()
    new.housekeeper.is_quick = False
    new.use()
    new.pool.drain()
    waiter = Waiter()
    old.pool.request(waiter)
    assert not waiter.served
    for bench in (old, new):
        bench.clock.advance(GRACE)
    new.pool.tidy()
    old.pool.tidy()
    assert waiter.served


def test_a_closed_generation_is_closed_in_a_forked_child_too():
    old, new = Bench(), Bench()
    lease = old.pool.acquire()
    old.pool.close(timeout=0)
    new.pool.follow(old.pool)
    new.pool.after_fork()
    assert (old.pool.is_closed, new.pool.is_closed) == (True, False)
    lease.give_back()


def test_a_send_in_a_closed_pool_hears_of_a_connection_that_was_lent_at_once_and_came_back():
    old, new = closed_inside_a_send_and_next()
    new.use()
    lease, waiter = new.pool.acquire(), Waiter()
    old.pool.request(waiter)
    assert not waiter.served
    old.housekeeper.due.clear()
    lease.give_back()
    assert old.housekeeper.due[-1] == float("-inf")
    old.pool.tidy()
    new.pool.tidy()
    old.pool.tidy()
    assert waiter.served


def test_a_pool_that_was_asked_to_hurry_has_time_again_for_the_next_goodbyes():
    old, new = closed_inside_a_send_and_next()
    new.use()
    waiter = Waiter()
    old.pool.request(waiter)
    old.pool.tidy()
    assert waiter.served
    old.pool.drop(waiter)
    old.pool.end(old)
    new.use()
    assert not new.pool._state.is_needed
