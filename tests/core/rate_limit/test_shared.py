"""The limit that processes share: who asks the store, how often, and what happens while it does not answer."""

import pickle
import smtplib
import threading

import pytest

from django_smtp_pool.core.delivery.delivery import Delivery
from django_smtp_pool.core.delivery.retry import concerns_all, judge
from django_smtp_pool.core.errors import Failure, Outcome, RateLimited, RateStorageUnavailable
from django_smtp_pool.core.events.events import Observer, RateStorageBack, RateStorageFailed
from django_smtp_pool.core.options.quotas import Quota
from django_smtp_pool.core.rate_limit.limit import Limiter, RateLimit
from django_smtp_pool.core.rate_limit.shared import SharedRateLimit
from tests.clocks import ManualClock
from tests.core.fakes import FakeWindow, in_thread

PATIENCE = 30  # seconds; only ever reached when a test fails


class Watch(Observer):
    def __init__(self):
        self.events = []

    def notice(self, event):
        self.events.append(event)


class Shared:
    """A shared limit of so many in 60 seconds, and all that it was given."""

    def __init__(self, *, limit=3, closed=False):
        self.window, self.clock, self.watch, self.counted = FakeWindow(), ManualClock(), Watch(), []
        self.limit = SharedRateLimit(
            self.window,
            alone=RateLimit([Quota(limit=limit, seconds=60.0)]),
            clock=self.clock,
            observer=self.watch,
            server="smtp.example.com:587",
            closed=closed,
        )
        self.limiter = Limiter(self.limit, patience=600.0, server="smtp.example.com:587", count=self.counted.append)

    def take(self):
        """Return what the limit says, "refused" where it raises."""
        try:
            return self.limiter.ticket(1).take(self.clock.monotonic())
        except RateStorageUnavailable:
            return "refused"


@pytest.fixture
def shared():
    return Shared()


def test_a_place_in_the_store_is_a_place(shared):
    assert [shared.take() for _ in range(3)] == [0, 0, 0]
    assert shared.window.asked == 3
    assert shared.watch.events == shared.counted == []


def test_who_is_refused_is_told_when_and_others_are_told_the_same_without_asking(shared):
    shared.window.says = [2.5]
    assert shared.take() == 2.5
    shared.clock.advance(1)
    assert shared.take() == 1.5
    assert shared.window.asked == 1
    shared.clock.advance(1.5)
    assert shared.take() == 0
    assert shared.window.asked == 2


def test_what_this_process_has_used_up_itself_is_not_asked_for(shared):
    for _ in range(3):
        assert shared.take() == 0
        shared.clock.advance(1)
    assert shared.take() == 57
    assert shared.window.asked == 3
    shared.clock.advance(57)
    assert shared.take() == 0
    assert shared.window.asked == 4


def test_a_slow_answer_counts_from_when_it_comes(shared):
    shared.window.meanwhile = lambda: shared.clock.advance(10)
    shared.window.says = [0.0, 0.0, 0.0, 5.0]
    assert [shared.take() for _ in range(3)] == [0, 0, 0]  # at 10, 20 and 30
    assert shared.take() == 40
    shared.clock.advance(40)
    assert shared.take() == 5
    assert shared.take() == 5
    assert shared.window.asked == 4


def test_one_asks_at_a_time(shared):
    held, go_on = threading.Event(), threading.Event()

    def stand_still():
        held.set()
        assert go_on.wait(PATIENCE)

    shared.window.meanwhile, shared.window.says = stand_still, [7.0]
    first = in_thread(shared.take)
    assert held.wait(PATIENCE)
    others = [in_thread(shared.take) for _ in range(5)]
    go_on.set()
    assert [each.join(PATIENCE) for each in (first, *others)] == [7] * 6
    assert shared.window.asked == 1


def test_open_goes_on_under_the_limit_of_this_process(shared):
    assert shared.take() == 0
    shared.window.is_down = True
    shared.clock.advance(1)
    assert [shared.take() for _ in range(2)] == [0, 0]
    assert shared.take() == 59, "what the store had given before counts as well"
    (event,) = shared.watch.events
    assert isinstance(event, RateStorageFailed)
    assert (event.server, event.storage, event.nothing_goes) == (
        "smtp.example.com:587",
        "redis://store.example.com",
        False,
    )
    assert str(event.error) == "gone"


def failing_for(shared, seconds):
    """Return after how many seconds each question came."""
    asked = []
    for second in range(seconds):
        before = shared.window.asked
        shared.take()
        asked += [second] * (shared.window.asked - before)
        shared.clock.advance(1)
    return asked


def test_a_store_that_fails_is_asked_now_and_then_and_told_of_once():
    shared = Shared(limit=1000)
    shared.window.is_down = True
    assert failing_for(shared, 100) == [0, 5, 15, 35, 65, 95]
    assert [type(event) for event in shared.watch.events] == [RateStorageFailed]
    assert shared.counted == ["rate_storage_failures"] * 6
    shared.window.is_down = False
    assert failing_for(shared, 30)[0] == 25
    assert shared.watch.events[1:] == [RateStorageBack(server="smtp.example.com:587", storage=shared.window.place)]
    shared.window.is_down = True
    assert failing_for(shared, 20) == [0, 5, 15], "and the pauses begin anew"
    assert [type(event) for event in shared.watch.events[2:]] == [RateStorageFailed]


@pytest.mark.parametrize("closed", [False, True])
def test_while_one_finds_out_whether_it_is_back_nobody_waits(closed):
    shared = Shared(limit=4, closed=closed)
    shared.window.is_down = True
    assert shared.take() == ("refused" if closed else 0)
    shared.clock.advance(5)
    held, go_on = threading.Event(), threading.Event()

    def stand_still():
        held.set()
        assert go_on.wait(PATIENCE)

    shared.window.meanwhile, shared.window.is_down = stand_still, False
    first = in_thread(shared.take)
    assert held.wait(PATIENCE)
    assert shared.take() == ("refused" if closed else 0)
    assert shared.window.asked == 2
    go_on.set()
    assert first.join(PATIENCE) == 0
    assert shared.take() == 0
    assert shared.window.asked == 3


def test_closed_lets_nothing_go():
    shared = Shared(closed=True)
    shared.window.is_down = True
    with pytest.raises(RateStorageUnavailable) as caught:
        shared.limiter.ticket(1).take(1000.0)
    assert shared.take() == "refused"
    assert shared.window.asked == 1
    (event,) = shared.watch.events
    assert event.nothing_goes
    error = caught.value
    assert isinstance(error, smtplib.SMTPException)
    assert str(error) == (
        "the rate limit of smtp.example.com:587 cannot be checked: redis://store.example.com did not answer (gone). "
        "Nothing was sent: repair the storage or correct rate_storage, and send again; with "
        "on_rate_storage_failure='open', each process goes on with the limit for itself"
    )
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.outcome) == (type(error), str(error), Outcome.NOT_SENT)
    shared.window.is_down = False
    shared.clock.advance(5)
    assert shared.take() == 0


def test_closed_is_not_tried_again_and_concerns_all():
    error = RateStorageUnavailable("text")
    for reused in (False, True):
        assert judge(error, Delivery(envelope=None, reused=reused), 5, time_left=60) is None
    assert concerns_all(error)


def test_an_interrupt_leaves_nothing_locked(shared):
    shared.window.says = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        shared.take()
    assert shared.take() == 0


def test_an_observer_is_told_outside_the_lock(shared):
    shared.window.is_down = True
    shared.watch.notice = lambda event: shared.watch.events.append((event, in_thread(shared.take).join(PATIENCE)))
    assert shared.take() == 0
    ((_, in_the_middle),) = shared.watch.events
    assert in_the_middle == 0


def test_closing_waits_for_nobody_and_is_not_the_end(shared):
    assert shared.take() == 0
    shared.limit.close()
    shared.window.meanwhile = shared.limit.close  # while somebody asks
    assert shared.take() == 0
    assert shared.window.closed == 1


def test_a_child_starts_over(shared):
    shared.window.is_down = True
    assert shared.take() == 0
    shared.limit._asking.acquire()  # by a thread that is not there in the child
    shared.limit.after_fork()
    shared.window.is_down = False
    assert [shared.take() for _ in range(3)] == [0, 0, 0]
    assert (shared.window.asked, shared.window.forks) == (4, 1)


def test_those_of_a_process_are_served_in_order():
    shared = Shared(limit=1)
    assert shared.take() == 0
    shared.clock.advance(60)
    shared.limiter.patience, shared.window.says = 3600.0, [70.0]  # others have taken the next place
    waiting = {number: shared.limiter.ticket(1) for number in range(20)}
    due, served = {number: shared.clock.monotonic() for number in waiting}, []
    while waiting:
        number = min(waiting, key=lambda each: (due[each], -each if served else each))  # later, the last asks first
        shared.clock.advance(due[number] - shared.clock.monotonic())
        if pause := waiting[number].take(shared.clock.monotonic()):
            due[number] = shared.clock.monotonic() + pause
        else:
            served.append(number)
            del waiting[number]
    assert served == list(range(20))
    # After half a minute the store is asked again, and has a place.
    assert shared.clock.monotonic() == pytest.approx(1000 + 60 + 30 + 19 * 60, abs=1)


def test_a_place_of_others_that_is_too_far_away_is_told():
    shared = Shared()
    shared.limiter.patience = 30.0
    shared.window.says = [50.0, 0.0]
    with pytest.raises(RateLimited, match=r"\(3/minute\) allows this message only in 50\.0 s") as caught:
        shared.take()
    assert caught.value.retry_after == 50.0
    assert shared.take() == 0, "the store is asked anew"


def test_what_is_left_is_as_the_store_said_while_that_is_young(shared):
    assert shared.take() == 0
    assert shared.limit.left(shared.clock.monotonic()) == {"3/minute": 2}
    shared.window.left = {"3/minute": 1}
    assert shared.limit.left(shared.clock.monotonic()) == {"3/minute": 1}
    shared.clock.advance(60)
    assert shared.limit.left(shared.clock.monotonic()) == {"3/minute": 3}


def test_mail_of_code_that_has_interrupted_a_question_to_the_store_fails_at_once(shared, monkeypatch):
    """It would wait for its own thread for ever."""
    came = []

    def take(recipients):
        try:
            shared.take()
        except Failure as error:
            came.append(error)
        return 0.0

    monkeypatch.setattr(shared.window, "take", take)
    assert shared.take() == 0
    assert [(type(error), error.is_final) for error in came] == [(Failure, True)]
    assert shared.take() == 0


def test_figures_that_interrupt_the_limit_are_the_last_ones():
    limit = RateLimit([Quota(limit=3, seconds=60.0)])
    before = limit.left(0.0)
    assert limit._alone(lambda: (limit.left(0.0), limit.is_idle(0.0))) == (before, False)
