"""The rate limit of one process: every quota kept, first come first served, and nobody in the way who has gone."""

import gc
import math
import threading
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_smtp_pool.core.errors import Failure, Outcome, RateLimited
from django_smtp_pool.core.options.options import PoolOptions
from django_smtp_pool.core.options.quotas import Quota, quotas
from django_smtp_pool.core.rate_limit.limit import LOOK_AGAIN, Limiter, RateLimit
from django_smtp_pool.core.rate_limit.line import GRACE
from django_smtp_pool.core.rate_limit.window import GRAIN, Window


def limiter(*texts, patience=math.inf):
    """Return a limiter of these quotas."""
    rate = RateLimit(quotas(texts))
    return Limiter(rate, patience=patience, server="smtp.example.com:587", count=lambda _: None)


# -- quotas as an option -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "limit", "seconds", "of_recipients", "shown"),
    [
        ("30/minute", 30, 60, False, "30/minute"),
        ("10000/day recipients", 10000, 86400, True, "10000/day recipients"),
        ("10 per 2 hours", 10, 7200, False, "10/2 hours"),
        ("10 PER 2 Hour Messages", 10, 7200, False, "10/2 hours"),
        ("1/1second message", 1, 1, False, "1/second"),
        ("7 / 90 minutes recipient", 7, 5400, True, "7/90 minutes recipients"),
        ("5/month", 5, 2592000, False, "5/month"),
    ],
)
def test_a_quota_as_it_is_written(text, limit, seconds, of_recipients, shown):
    (quota,) = quotas([text])
    assert quota == Quota(limit=limit, seconds=seconds, of_recipients=of_recipients)
    assert str(quota) == shown
    assert quotas([shown]) == (quota,)


def test_the_short_form_is_one_of_them():
    assert PoolOptions().quotas == ()
    assert list(map(str, PoolOptions(rate_limit=5).quotas)) == ["5/second"]
    options = PoolOptions(rate_limit=5, rate_delta=2.5, rate_limits="30/minute; 10000/day recipients, 30/minute")
    assert list(map(str, options.quotas)) == ["5/2.5 seconds", "30/minute", "10000/day recipients"]


@pytest.mark.parametrize(
    ("given", "patience"),
    [({}, 30), ({"acquire_timeout": 7}, 7), ({"rate_wait": 90}, 90), ({"rate_wait": None}, math.inf)],
)
def test_how_long_a_message_waits_for_its_place(given, patience):
    assert PoolOptions(**given).rate_patience == patience


# -- exact -------------------------------------------------------------------------------------------------------

several = st.lists(
    st.builds(
        Quota,
        limit=st.integers(5, 12),
        seconds=st.sampled_from([Fraction(1, 3), Fraction(1), Fraction(5, 2), Fraction(20)]),
        of_recipients=st.booleans(),
    ),
    min_size=1,
    max_size=3,
)


def most(went, quota):
    """Return the most that a window of a quota holds, wherever it starts."""
    taken = [(instant, quota.units(size)) for instant, size in went]
    return max(sum(units for each, units in taken if start <= each < start + quota.seconds) for start, _ in taken)


@given(
    several=several,
    wishes=st.lists(
        st.tuples(st.fractions(min_value=0, max_value=3, max_denominator=8), st.integers(1, 5)), min_size=1, max_size=40
    ),
)
def test_no_window_of_any_quota_holds_too_many_and_nobody_is_kept_idle(several, wishes):
    limit, now, went = limiter(*several), Fraction(0), []
    for pause, size in wishes:
        now += pause
        ticket = limit.ticket(size)
        wait = ticket.take(now)
        may_go = all(most([*went, (now, size)], quota) <= quota.limit for quota in several)
        assert (wait == 0) == may_go
        if wait:  # and it may go exactly then
            just_before = (now + wait - Fraction(1, 1000), size)
            assert any(most([*went, just_before], quota) > quota.limit for quota in several)
            now += wait
            assert ticket.take(now) == 0
        went.append((now, size))
        assert all(most(went, quota) <= quota.limit for quota in several)


@given(sizes=st.lists(st.integers(1, 3), max_size=12))
def test_what_is_left_of_each_quota(sizes):
    limit, went = limiter("20/minute", "40/hour recipients"), []
    for second, size in enumerate(sizes):
        assert limit.ticket(size).take(float(10 * second)) == 0
        went.append((10 * second, size))
        lately = [instant for instant, _ in went if instant > 10 * second - 60]
        left = {"20/minute": 20 - len(lately), "40/hour recipients": 40 - sum(size for _, size in went)}
        assert limit.rate.left(float(10 * second)) == left


def test_a_large_quota_keeps_no_more_than_it_must():
    window = Window(Quota(limit=10**6, seconds=100.0))
    for number in range(50_000):
        window.add(number / 100, 1)  # a fifth of them is within the window
    assert window.free(500.0) in range(10**6 - 10_002, 10**6 - 9_998)
    assert len(window._instants) <= 2 * GRAIN + 2


# -- in order ----------------------------------------------------------------------------------------------------


def waits(tickets, now):
    """Return what each is told."""
    return [ticket.take(now) for ticket in tickets]


def test_a_hundred_that_wait_are_served_in_order():
    limit = limiter("1/second")
    assert limit.ticket(1).take(0.0) == 0
    waiting = {number: limit.ticket(1) for number in range(100)}
    due = {number: ticket.take(number / 1000) + number / 1000 for number, ticket in waiting.items()}
    served, questions = [], 0
    while waiting:
        number = min(reversed(list(waiting)), key=due.get)  # of those that are due together, the last asks first
        now, questions = due[number], questions + 1
        if pause := waiting[number].take(now):
            due[number] = now + pause
        else:
            served.append((number, now))
            del waiting[number]
    assert [number for number, _ in served] == list(range(100))
    assert [now for _, now in served] == pytest.approx([float(each) for each in range(1, 101)], abs=0.2)
    assert questions < 100 * (3 + 100 / LOOK_AGAIN)


def test_nobody_overtakes_and_all_go_where_there_is_room_for_all():
    limit = limiter("3/minute")
    assert waits([limit.ticket(1) for _ in range(3)], 0.0) == [0, 0, 0]
    waiting = [limit.ticket(1) for _ in range(4)]
    assert waits(waiting, 1.0) == [59.0, 5.0, 5.0, 5.0]
    assert limit.ticket(1).take(60.0 - 1e-6) > 0, "the last to come does not go first"
    assert waits([waiting[2], waiting[0], waiting[1]], 60.0) == [0, 0, 0]
    assert waiting[3].take(60.0) == 60.0


@pytest.mark.parametrize("end", ["leave", "garbage"])
@pytest.mark.parametrize("who", [0, 1])
def test_a_ticket_that_gives_up_is_in_nobodys_way(end, who):
    limit = limiter("1/minute")
    assert limit.ticket(1).take(0.0) == 0
    waiting = [limit.ticket(1) for _ in range(3)]
    assert waits(waiting, 0.0) == [60.0, 5.0, 5.0]
    if end == "leave":
        waiting[who].leave()
        waiting[who].leave()
    del waiting[who]
    gc.collect()
    assert waiting[0].take(60.0) == 0
    assert waiting[1].take(60.0) == 60.0


def test_a_ticket_that_does_not_come_back_keeps_the_others_for_a_moment():
    limit = limiter("1/minute")
    assert limit.ticket(1).take(0.0) == 0
    late, other = limit.ticket(1), limit.ticket(1)
    assert waits([late, other], 0.0) == [60.0, 5.0]
    assert other.take(60.0) > 0
    assert other.take(60.0 + GRACE + 0.001) == 0
    assert late.take(63.0) == pytest.approx(59.0, abs=0.01), "and has lost its place in line, not its wish"
    assert late.take(123.0) == 0


def test_a_ticket_that_comes_late_goes_if_nobody_else_came():
    limit = limiter("1/minute")
    assert limit.ticket(1).take(0.0) == 0
    late, last = limit.ticket(1), limit.ticket(1)
    assert waits([late, last], 0.0) == [60.0, 5.0]
    assert late.take(75.0) == 0


def test_a_child_starts_over():
    limit = limiter("1/minute")
    assert limit.ticket(1).take(0.0) == 0
    waiting = limit.ticket(1)
    assert waiting.take(0.0) == 60.0
    limit.rate.after_fork()
    assert waiting.take(1.0) == 0


# -- no place within the patience --------------------------------------------------------------------------------


def test_a_place_that_is_too_far_away_is_told_at_once():
    limit = limiter("2/minute", patience=30)
    assert waits([limit.ticket(1), limit.ticket(1)], 0.0) == [0, 0]
    with pytest.raises(RateLimited) as caught:
        limit.ticket(1).take(10.0)
    assert caught.value.retry_after == 50.0
    assert caught.value.outcome is Outcome.NOT_SENT
    assert str(caught.value) == (
        "the rate limit of smtp.example.com:587 (2/minute) allows this message only in 50.0 s, and rate_wait is 30: "
        "send it again then, or raise rate_wait (None: wait for as long as it takes)"
    )
    assert limit.ticket(1).take(30.0) == 30.0
    assert limit.ticket(1).take(60.0) == 0


def test_a_ticket_that_waits_in_vain_is_told_too():
    """Others take the places that it was told of: in Redis they may."""
    limit = limiter("1/minute", patience=30)
    ticket, now = limit.ticket(1), 0.0
    assert limit.rate.look(ticket, now, held=20.0) == 20.0
    assert limit.rate.look(ticket, 20.0, held=12.0) == 12.0
    with pytest.raises(RateLimited):
        limit.rate.look(ticket, 32.5, held=1.0)


def test_more_recipients_than_ever_go_are_told_at_once():
    limit = limiter("100/day", "10/day recipients")
    with pytest.raises(RateLimited, match=r"\(10/day recipients\) never allows a message with 11 recipients") as caught:
        limit.ticket(11).take(0.0)
    assert caught.value.retry_after == math.inf
    assert limit.ticket(10).take(0.0) == 0


# -- while it is in use ------------------------------------------------------------------------------------------


def test_a_signal_handler_that_sends_does_not_wait_for_itself():
    limit, told = limiter("5/second"), []

    class Interrupting(float):
        """An instant at whose comparison a signal handler runs, under the lock."""

        def __add__(self, other):
            with pytest.raises(Failure, match="in use by this same thread"):
                limit.ticket(1).take(0.0)
            told.append(threading.get_ident())
            return float(self) + other

    assert limit.ticket(1).take(Interrupting(0.0)) == 0
    assert limit.ticket(1).take(0.5) == 0
    assert set(told) == {threading.get_ident()}
    assert limit.rate.left(0.5) == {"5/second": 3}
