"""The housekeeper: there when needed, gone when not, and it never loses sight of a pool."""

import selectors
import socket
import threading

import pytest

from django_smtp_pool.core.drivers.farewells import FAREWELL, Farewells
from django_smtp_pool.core.needs import Wait
from django_smtp_pool.core.pool.housekeeper import Housekeeper
from tests.clocks import LeapingClock, ManualClock
from tests.core.fakes import until


class Pool:
    """Something to look after: answers `tidy` with the instants it is given."""

    def __init__(self, *answers, clock=None):
        self.answers = list(answers)
        self.clock = clock
        self.looked_at = []
        self.has_news = False
        self.told = threading.Event()

    def tell(self):
        self.told.set()

    def tidy(self):
        self.looked_at.append(self.clock.monotonic() if self.clock else None)
        answer = self.answers.pop(0) if self.answers else None
        return answer() if callable(answer) else answer


class Leaver:
    """A connection on its way out."""

    def __init__(self):
        self.said_quit = self.closed = 0
        self.has_left = False

    def leave(self, clock, deadline):
        assert deadline == clock.monotonic() + FAREWELL
        self.said_quit += 1
        yield from self.answer(deadline)

    def answer(self, deadline):
        """Wait for the answer to QUIT, which is there at once."""
        return ()

    def close(self):
        self.closed += 1

    def left(self):
        assert self.closed
        self.has_left = True


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "django-smtp-pool-housekeeper"]


def keeper_with(clock):
    return Housekeeper(clock, Farewells(clock))


def ended(keeper):
    until(lambda: not keeper.has_work)
    until(lambda: not any(thread.is_alive() for thread in keeper._threads))


def see_off(keeper, leaver):
    keeper.see_off(leaver, leaver.left)


def test_there_is_no_thread_before_there_is_something_to_do():
    before = threads()
    keeper = keeper_with(ManualClock())
    keeper.watch(Pool(), None)
    assert keeper._threads == []
    assert threads() == before


def test_a_pool_is_looked_after_when_it_is_due_and_then_the_thread_ends():
    clock = ManualClock()
    keeper, pool = keeper_with(clock), Pool(1020.0, None, clock=clock)
    keeper.watch(pool, 1010.0)
    until(lambda: clock.waits)
    assert pool.looked_at == []
    clock.advance(10)
    until(lambda: len(pool.looked_at) == 1)
    clock.advance(10)
    ended(keeper)
    assert pool.looked_at == [1010.0, 1020.0]


def test_a_sooner_instant_wakes_the_thread():
    clock = ManualClock()
    keeper, late, soon = keeper_with(clock), Pool(clock=clock), Pool(clock=clock)
    keeper.watch(late, 5000.0)
    until(lambda: clock.waits)
    keeper.watch(soon, 1000.0)
    until(lambda: soon.looked_at)
    assert late.looked_at == []
    keeper.pause()


def test_a_connection_given_back_while_its_pool_is_being_tidied_is_not_forgotten():
    clock = ManualClock()
    keeper = keeper_with(clock)
    pool = Pool(lambda: keeper.watch(pool, 1030.0), clock=clock)
    keeper.watch(pool, 1000.0)
    until(lambda: pool.looked_at)
    clock.advance(30)
    until(lambda: len(pool.looked_at) == 2)
    ended(keeper)


def test_the_thread_starts_again_for_the_next():
    clock = ManualClock()
    keeper = keeper_with(clock)
    for _ in range(3):
        pool = Pool(clock=clock)
        keeper.watch(pool, 1000.0)
        ended(keeper)
        assert pool.looked_at == [1000.0]


def test_there_is_one_thread_for_all():
    clock = ManualClock()
    keeper = keeper_with(clock)
    before = len(threads())
    for number in range(10):
        keeper.watch(Pool(clock=clock), 2000.0 + number)
    assert len(threads()) == before + 1
    keeper.pause()


def test_a_leaver_says_quit_once_and_is_closed():
    keeper, leavers = keeper_with(ManualClock()), [Leaver() for _ in range(5)]
    for leaver in leavers:
        see_off(keeper, leaver)
    ended(keeper)
    assert [(leaver.said_quit, leaver.closed) for leaver in leavers] == [(1, 1)] * 5


def test_paused_it_does_nothing_and_finishes_in_the_calling_thread():
    keeper, leaver = keeper_with(ManualClock()), Leaver()
    keeper.pause()
    see_off(keeper, leaver)
    assert (leaver.said_quit, keeper._threads) == (0, [])
    keeper.finish(1)
    assert (leaver.said_quit, leaver.closed) == (1, 1)


def test_a_pause_ends_the_thread_and_waits_for_it():
    clock = ManualClock()
    keeper = keeper_with(clock)
    keeper.watch(Pool(clock=clock), 2000.0)
    thread = keeper._threads[-1]
    keeper.pause()
    assert not thread.is_alive()


def test_after_a_pause_it_goes_on_by_itself():
    clock = ManualClock()
    keeper, before, meanwhile = keeper_with(clock), Pool(clock=clock), Pool(clock=clock)
    keeper.watch(before, 2000.0)
    keeper.pause()
    keeper.watch(meanwhile, 3000.0)
    assert not keeper._threads[-1].is_alive()
    keeper.resume()
    clock.advance(3000)
    ended(keeper)
    assert (len(before.looked_at), len(meanwhile.looked_at)) == (1, 1)


def test_in_a_child_it_starts_over_whatever_was_held():
    clock = ManualClock()
    keeper, pool = keeper_with(clock), Pool(clock=clock)
    keeper._baton.acquire()
    keeper.after_fork()
    keeper.watch(pool, 1000.0)
    assert keeper._threads == []
    keeper.resume()
    until(lambda: pool.looked_at)
    ended(keeper)


def test_it_is_a_daemon():
    clock = ManualClock()
    keeper = keeper_with(clock)
    keeper.watch(Pool(clock=clock), 2000.0)
    assert keeper._threads[-1].daemon
    keeper.pause()


def test_a_pool_that_fails_does_not_end_the_care_of_the_others():
    clock = ManualClock()
    keeper, other = keeper_with(clock), Pool(clock=clock)

    def fail():
        raise OSError("what a pool should not do")

    keeper.watch(Pool(fail, clock=clock), 1000.0)
    keeper.watch(other, 1001.0)
    clock.advance(1)
    until(lambda: other.looked_at)
    ended(keeper)


def test_receivers_are_told_by_a_thread_that_keeps_nobody_waiting():
    clock = ManualClock()
    keeper, talkative, other = keeper_with(clock), Pool(clock=clock), Pool(clock=clock)
    talkative.has_news, told = True, threading.Event()
    talkative.tell = lambda: told.wait(20)
    keeper.watch(talkative, 1000.0)
    until(lambda: talkative.looked_at)
    keeper.watch(other, 1000.0)
    until(lambda: other.looked_at)
    told.set()
    ended(keeper)


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError(), BlockingIOError()])
def test_a_thread_that_cannot_be_started_is_nobodys_failure(error, monkeypatch):
    clock = ManualClock()
    keeper, pool, leaver = keeper_with(clock), Pool(clock=clock), Leaver()

    def fail(self):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        keeper.watch(pool, 1000.0)
        see_off(keeper, leaver)
    keeper.watch(Pool(clock=clock), 1000.0)
    ended(keeper)
    assert (len(pool.looked_at), leaver.has_left) == (1, True)


@pytest.mark.parametrize("error", [TimeoutError("mine"), Exception("mine")])
def test_an_interrupt_while_a_thread_starts_reaches_whoever_asked(error, monkeypatch):
    clock = ManualClock()
    keeper, pool = keeper_with(clock), Pool(clock=clock)
    start = threading.Thread.start

    def starts(self):
        start(self)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", starts)
        with pytest.raises(type(error), match="mine"):
            keeper.watch(pool, 1000.0)
    keeper.watch(Pool(clock=clock), 1000.0)
    ended(keeper)
    assert len(pool.looked_at) == 1


def test_a_farewell_that_fails_is_not_the_last():
    keeper, unlucky, next_one = keeper_with(ManualClock()), Leaver(), Leaver()
    unlucky.answer = failing(OSError(24, "Too many open files"))
    see_off(keeper, unlucky)
    ended(keeper)
    assert (unlucky.closed, unlucky.has_left) == (1, True)
    see_off(keeper, next_one)
    ended(keeper)
    assert (next_one.said_quit, next_one.closed) == (1, 1)


def test_where_no_descriptor_is_left_to_wait_with_they_are_closed_all_the_same(caplog, monkeypatch):
    def fail():
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("django_smtp_pool.core.drivers.farewells.Wakeup", fail)
    keeper, leaver = keeper_with(ManualClock()), Slow()
    see_off(keeper, leaver)
    ended(keeper)
    assert (leaver.closed, leaver.has_left, "Too many open files" in caplog.text) == (1, True, True)


class Slow(Leaver):
    """A connection whose server does not answer."""

    def __init__(self):
        super().__init__()
        self.ours, self.theirs = socket.socketpair()

    def answer(self, deadline):
        yield Wait(((self.ours, selectors.EVENT_READ),), deadline)

    def close(self):
        super().close()
        self.ours.close()
        self.theirs.close()


def test_one_whose_place_is_needed_is_closed_before_its_server_answers():
    keeper, slow, other = keeper_with(ManualClock()), Slow(), Slow()
    see_off(keeper, slow)
    see_off(keeper, other)
    keeper.sever(slow)
    until(lambda: slow.has_left)
    assert not other.closed
    keeper.finish(0)
    assert other.closed


def test_a_connection_that_is_closed_meanwhile_does_not_end_the_other_farewells():
    keeper, twice, other = keeper_with(ManualClock()), Slow(), Slow()
    see_off(keeper, other)
    see_off(keeper, twice)
    until(lambda: keeper._farewells._wakeup)
    twice.close()
    keeper._farewells.wake()
    until(lambda: twice.has_left)
    assert (other.closed, other.has_left) == (0, False)
    keeper.finish(0)


def test_a_fork_does_not_wait_for_a_farewell_and_it_goes_on_afterwards():
    keeper, slow = keeper_with(ManualClock()), Slow()
    see_off(keeper, slow)
    until(lambda: keeper._farewells._wakeup)
    keeper.pause()
    assert (keeper._threads[-1].is_alive(), slow.closed) == (False, 0)
    keeper.resume()
    keeper.sever(slow)
    ended(keeper)
    assert slow.has_left


def test_the_end_is_bounded_even_where_nobody_answers():
    clock = LeapingClock()
    keeper, slow = keeper_with(clock), Slow()
    keeper.pause()
    see_off(keeper, slow)
    before = clock.monotonic()
    keeper.finish(1.5)
    assert (slow.has_left, clock.monotonic() - before) == (True, 1.5)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_was_killed_is_followed_by_another():
    keeper, fatal, next_one = keeper_with(ManualClock()), Leaver(), Leaver()
    fatal.answer = failing(Killed())
    see_off(keeper, fatal)
    killed = keeper._threads[-1]
    until(lambda: not killed.is_alive())
    see_off(keeper, next_one)
    ended(keeper)
    assert (fatal.closed, next_one.closed) == (1, 1)


class Killed(BaseException):
    """What a greenlet is killed by, say."""


def failing(error):
    def answer(deadline):
        raise error

    return answer
