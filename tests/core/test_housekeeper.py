"""The housekeeper: there when needed, gone when not, and it never loses sight of a pool."""

import threading

import pytest

from django_smtp_pool.core.pool.housekeeper import FAREWELL, Housekeeper, see_off
from tests.clocks import LeapingClock, ManualClock
from tests.core.fakes import until


class Pool:
    """Something to look after: answers `tidy` with the instants it is given."""

    def __init__(self, *answers, clock=None):
        self.answers = list(answers)
        self.clock = clock
        self.looked_at = []

    def tidy(self):
        self.looked_at.append(self.clock.monotonic() if self.clock else None)
        answer = self.answers.pop(0) if self.answers else None
        return answer() if callable(answer) else answer


class Gone:
    """A run that has ended."""

    done = True

    def start(self):
        pass

    def raise_interrupt(self):
        pass


class Leaver:
    """A connection on its way out."""

    def __init__(self):
        self.said_quit = self.closed = 0

    def leaving(self, patience):
        assert patience == FAREWELL
        self.said_quit += 1
        return Gone()

    def close(self):
        self.closed += 1


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "django-smtp-pool-housekeeper"]


def ended(keeper):
    until(lambda: keeper._thread is None)
    until(lambda: not [thread for thread in threads() if thread is keeper._thread])


def test_there_is_no_thread_before_there_is_something_to_do():
    before = threads()
    keeper = Housekeeper(ManualClock())
    keeper.watch(Pool(), None)
    assert keeper._thread is None
    assert threads() == before


def test_a_pool_is_looked_after_when_it_is_due_and_then_the_thread_ends():
    clock = ManualClock()
    keeper, pool = Housekeeper(clock), Pool(1020.0, None, clock=clock)
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
    keeper, late, soon = Housekeeper(clock), Pool(clock=clock), Pool(clock=clock)
    keeper.watch(late, 5000.0)
    until(lambda: clock.waits)
    keeper.watch(soon, 1000.0)
    until(lambda: soon.looked_at)
    assert late.looked_at == []
    keeper.pause()


def test_a_connection_given_back_while_its_pool_is_being_tidied_is_not_forgotten():
    clock = ManualClock()
    keeper = Housekeeper(clock)
    pool = Pool(lambda: keeper.watch(pool, 1030.0), clock=clock)
    keeper.watch(pool, 1000.0)
    until(lambda: pool.looked_at)
    clock.advance(30)
    until(lambda: len(pool.looked_at) == 2)
    ended(keeper)


def test_the_thread_starts_again_for_the_next():
    clock = ManualClock()
    keeper = Housekeeper(clock)
    for _ in range(3):
        pool = Pool(clock=clock)
        keeper.watch(pool, 1000.0)
        ended(keeper)
        assert pool.looked_at == [1000.0]


def test_there_is_one_thread_for_all():
    clock = ManualClock()
    keeper = Housekeeper(clock)
    before = len(threads())
    for number in range(10):
        keeper.watch(Pool(clock=clock), 2000.0 + number)
    assert len(threads()) == before + 1
    keeper.pause()


def test_a_leaver_says_quit_once_and_is_closed():
    keeper, leavers = Housekeeper(ManualClock()), [Leaver() for _ in range(5)]
    for leaver in leavers:
        keeper.see_off(leaver)
    ended(keeper)
    assert [(leaver.said_quit, leaver.closed) for leaver in leavers] == [(1, 1)] * 5


def test_paused_it_does_nothing_and_finishes_in_the_calling_thread():
    keeper, leaver = Housekeeper(ManualClock()), Leaver()
    keeper.pause()
    keeper.see_off(leaver)
    assert (leaver.said_quit, keeper._thread) == (0, None)
    keeper.finish()
    assert (leaver.said_quit, leaver.closed) == (1, 1)


def test_a_pause_ends_the_thread_and_waits_for_it():
    clock = ManualClock()
    keeper = Housekeeper(clock)
    keeper.watch(Pool(clock=clock), 2000.0)
    thread = keeper._thread
    keeper.pause()
    assert not thread.is_alive()


def test_after_a_pause_it_starts_with_the_next_thing_to_do():
    clock = ManualClock()
    keeper, before, after = Housekeeper(clock), Pool(clock=clock), Pool(clock=clock)
    keeper.watch(before, 2000.0)
    keeper.pause()
    keeper.resume()
    keeper.watch(after, 3000.0)
    clock.advance(3000)
    ended(keeper)
    assert (len(before.looked_at), len(after.looked_at)) == (1, 1)


def test_in_a_child_it_starts_over_whatever_was_held():
    keeper = Housekeeper(ManualClock())
    keeper._lock.acquire()
    keeper.after_fork()
    keeper.watch(Pool(), 1000.0)
    ended(keeper)


def test_it_is_a_daemon():
    clock = ManualClock()
    keeper = Housekeeper(clock)
    keeper.watch(Pool(clock=clock), 2000.0)
    assert keeper._thread.daemon
    keeper.pause()


def test_a_pool_that_fails_does_not_end_the_care_of_the_others():
    clock = ManualClock()
    keeper, other = Housekeeper(clock), Pool(clock=clock)

    def fail():
        raise OSError("what a pool should not do")

    keeper.watch(Pool(fail, clock=clock), 1000.0)
    keeper.watch(other, 1001.0)
    clock.advance(1)
    until(lambda: other.looked_at)
    ended(keeper)


def test_farewells_are_bounded_even_where_one_fails():
    leavers = [Leaver(), Leaver()]
    see_off(leavers, LeapingClock())
    assert [leaver.closed for leaver in leavers] == [1, 1]


def test_a_farewell_that_fails_is_not_the_last(caplog):
    """Where no descriptor is left there is nothing to wait for an answer with; later there may be."""
    keeper, unlucky, next_one = Housekeeper(ManualClock()), Leaver(), Leaver()
    unlucky.leaving = failing(OSError(24, "Too many open files"))
    keeper.see_off(unlucky)
    ended(keeper)
    assert (unlucky.closed, "Too many open files" in caplog.text) == (1, True)
    keeper.see_off(next_one)
    ended(keeper)
    assert (next_one.said_quit, next_one.closed) == (1, 1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_was_killed_is_followed_by_another():
    keeper, fatal, next_one = Housekeeper(ManualClock()), Leaver(), Leaver()
    fatal.leaving = failing(Killed())
    keeper.see_off(fatal)
    killed = keeper._thread
    until(lambda: not killed.is_alive())
    keeper.see_off(next_one)
    ended(keeper)
    assert (fatal.closed, next_one.closed) == (1, 1)


class Killed(BaseException):
    """What a greenlet is killed by, say."""


def failing(error):
    def leaving(patience):
        raise error

    return leaving
