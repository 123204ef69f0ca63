"""Closing pools: what is under way may finish, and no code waits for itself."""

import contextvars
import gc
import itertools
import threading
import weakref

from django_smtp_pool.core.pool.closing import Use, _inside, close_soon, close_together
from tests.core.fakes import Bench, in_thread, until
from tests.interrupts import Interrupting


class Send:
    """A send of another thread, which lasts until `end`."""

    def __init__(self, pool):
        self._over = threading.Event()
        begun = threading.Event()
        self._thread = in_thread(self._work, pool, begun)
        assert begun.wait(10)

    def _work(self, pool, begun):
        pool.begin(self)
        begun.set()
        self._over.wait(10)
        pool.end(self)

    def end(self):
        self._over.set()
        self._thread.join()


def test_a_pool_that_nobody_uses_does_not_stay_open_for_the_others():
    busy, free = Bench(), Bench()
    send = Send(busy.pool)
    closing = in_thread(close_together, [busy.pool, free.pool], 3600, busy.clock)
    until(lambda: free.pool.is_closed)
    assert not busy.pool.is_closed
    send.end()
    closing.join()
    assert busy.pool.is_closed


def test_a_pool_is_closed_as_soon_as_its_last_send_has_ended_while_another_pool_is_busy():
    short, long = Bench(), Bench()
    sends = [Send(short.pool), Send(long.pool)]
    closing = in_thread(close_together, [long.pool, short.pool], 3600, long.clock)
    until(lambda: long.pool._closes_at is not None)
    sends[0].end()
    until(lambda: short.pool.is_closed)
    assert not long.pool.is_closed
    sends[1].end()
    closing.join()


def test_code_that_a_send_runs_in_another_thread_does_not_wait_for_the_send():
    """As the receivers of a signal are run in an event loop, with a copy of the context."""
    bench, use = Bench(), Bench()
    bench.pool.begin(use)
    in_thread(contextvars.copy_context().run, bench.pool.close, 3600).join()
    assert bench.pool.is_closed
    bench.pool.end(use)


def test_it_waits_for_sends_whose_context_it_has_not():
    bench = Bench()
    send, use = Send(bench.pool), Bench()
    bench.pool.begin(use)
    assert not bench.pool.close_if_unused()
    send.end()
    assert bench.pool.close_if_unused()
    bench.pool.end(use)


def test_a_context_does_not_keep_the_message_of_a_send():
    bench, use = Bench(), Bench()
    bench.pool.begin(use)
    outlives = contextvars.copy_context()
    assert {type(each) for each in outlives[_inside]} == {int}
    bench.pool.end(use)


def test_a_send_that_begins_at_the_last_moment_is_waited_for(monkeypatch):
    bench = Bench()
    look = bench.pool._others_use_it

    def late():
        assert bench.pool._is_being_judged, "a send that begins after the look sees this, and waits"
        bench.pool._users[weakref.ref(bench)] = Use(thread=0, number=-1)  # it saw an open pool
        return look()

    monkeypatch.setattr(bench.pool, "_others_use_it", late)
    assert not bench.pool.close_if_unused()
    assert not bench.pool.is_closed


def test_what_had_to_wait_for_the_lock_does_not_hold_up_the_message_of_another_thread():
    bench = Bench()
    send = Send(bench.pool)
    with bench.pool._lock:
        bench.pool.close(3600)  # by a signal handler that has interrupted the pool's own code
    bench.pool.tidy()  # another thread that comes by: it would wait for the send
    assert not bench.pool.is_closed
    send.end()
    until(lambda: bench.pool.is_closed)


def test_what_had_to_wait_is_done_at_once_if_nothing_is_under_way():
    bench = Bench()
    with bench.pool._lock:
        bench.pool.close(3600)
        assert not bench.pool.is_closed
    bench.pool.tidy()
    assert bench.pool.is_closed


def test_without_a_thread_it_is_closed_without_waiting(monkeypatch):
    bench = Bench()
    send = Send(bench.pool)

    def no_thread(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        close_soon(lambda: [bench.pool], bench.pool.close, 3600)
    assert bench.pool.is_closed
    send.end()


def test_a_send_that_begins_while_the_pool_is_judged_waits_for_the_decision():
    bench = Bench()
    with bench.pool._lock:
        bench.pool._is_being_judged = True
        beginning = in_thread(bench.pool.begin, bench)
        until(lambda: bench.pool._users)
        assert not beginning.is_done
        bench.pool._state.closed = True
    assert beginning.join() is False
    assert not bench.pool._users


def test_a_pool_that_stays_open_never_looks_closed(monkeypatch):
    bench, seen = Bench(), []
    send, look = Send(bench.pool), bench.pool._others_use_it
    monkeypatch.setattr(bench.pool, "_others_use_it", lambda: seen.append(bench.pool.is_closed) or look())
    assert not bench.pool.close_if_unused()
    assert seen == [False]
    send.end()


def test_a_send_that_could_not_end_is_forgotten_with_its_message():
    """As after an interrupt in the first line of `end`."""
    bench, use = Bench(), Bench()
    bench.pool.begin(use)
    assert bench.pool.is_in_use
    del use
    gc.collect()
    assert not bench.pool.is_in_use


def test_code_that_has_interrupted_one_pool_does_not_wait_for_another_with_its_lock():
    one, other = Bench(), Bench()
    send = Send(other.pool)
    with one.pool._lock:
        close_together([one.pool, other.pool], 3600, one.clock)
        assert not one.pool.is_closed
    one.pool.tidy()
    until(lambda: one.pool.is_closed)
    assert not other.pool.is_closed
    send.end()
    until(lambda: other.pool.is_closed)


def test_what_had_to_wait_leaves_alone_what_is_in_use_by_then():
    bench, asked = Bench(), []
    send = Send(bench.pool)
    close_soon(list, asked.append, 10)
    close_soon(lambda: [bench.pool], asked.append, 10)
    until(lambda: asked == [10])
    assert not bench.pool.is_closed
    send.end()


def test_an_interrupt_anywhere_closes_every_pool_that_was_announced():
    for step in itertools.count():
        benches = [Bench(), Bench()]
        for bench in benches:
            bench.use()
        try:
            Interrupting(step, KeyboardInterrupt()).run(
                close_together, [bench.pool for bench in benches], 5, benches[0].clock
            )
        except KeyboardInterrupt:
            pools = [bench.pool for bench in benches]
            assert [pool for pool in pools if pool._closes_at is not None and not pool.is_closed] == []
            assert not any(pool._is_inside for pool in pools)
        else:
            break
    assert step > 50
