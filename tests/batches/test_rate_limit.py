"""The rate limit: no window, wherever it starts, holds more than it may; and nobody waits without need."""

import threading
from fractions import Fraction

import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given
from hypothesis import strategies as st

from django_smtp_pool.core.events.events import Line, Observer
from django_smtp_pool.core.rate_limit.window import RateLimit
from tests.batches.ledger import messages, outcomes, taken
from tests.clocks import ManualClock
from tests.core.fakes import in_thread
from tests.mailing import backend_for, message

pauses = st.lists(st.fractions(min_value=0, max_value=3, max_denominator=8), max_size=60)


def fullest(instants, window):
    """Return the most instants that a window holds, wherever it starts; its end is outside."""
    instants = sorted(instants)
    return max((sum(start <= each < start + window for each in instants) for start in instants), default=0)


@given(limit=st.integers(1, 6), window=st.sampled_from([Fraction(1, 3), Fraction(1), Fraction(5, 2)]), pauses=pauses)
def test_no_window_holds_too_many_and_nobody_is_kept_idle(limit, window, pauses):
    rate = RateLimit(limit, window)
    now, went = Fraction(0), []
    for pause in pauses:
        now += pause
        wait = rate.take(now)
        may_go = fullest([*went, now], window) <= limit
        assert (wait == 0) == may_go
        if wait:  # and it may go exactly then
            assert fullest([*went, now + wait], window) <= limit
            assert fullest([*went, now + wait - Fraction(1, 1000)], window) > limit
            now += wait
            assert rate.take(now) == 0
        went.append(now)
        assert fullest(went, window) <= limit


@given(limit=st.integers(1, 4), wishes=st.lists(st.floats(0, 0.7), min_size=1, max_size=60))
def test_the_same_with_floating_point_numbers(limit, wishes):
    rate, now, went = RateLimit(limit, 1.0), 12345.678, []
    for wish in wishes:
        now += wish
        while wait := rate.take(now):
            now += wait
        went.append(now)
    assert all(later - earlier >= 1.0 - 1e-9 for earlier, later in zip(went, went[limit:], strict=False))


class TogetherClock(ManualClock):
    """Time leaps when all who take part wait, nothing comes of it, and the server is at rest: to the next instant."""

    QUIET = 12  # looks at the server in a row

    def __init__(self, server, parties=1):
        super().__init__()
        self._server, self._parties = server, parties
        self._waiting = {}  # guarded by: _lock

    def wait(self, block, timeout):
        me = threading.get_ident()
        until = self.monotonic() + max(timeout, 1e-6)  # less would be lost in rounding
        with self._lock:
            self._waiting[me] = until
        try:
            quiet = 0
            while not (answer := block(self.SLICE)):
                if self.monotonic() >= until:
                    return block(0)
                quiet = quiet + 1 if self._is_quiet() else 0
                if quiet >= self.QUIET:
                    self._leap()
                    quiet = 0
            return answer
        finally:
            with self._lock:
                del self._waiting[me]

    def _is_quiet(self):
        with self._lock:
            all_wait = len(self._waiting) >= self._parties
        return all_wait and self._server.idle_now == self._server.open_now > 0

    def _leap(self):
        with self._lock:
            if len(self._waiting) >= self._parties:
                self._monotonic = max(self._monotonic, min(self._waiting.values()))

    def leave(self):
        """One who took part has done his work."""
        with self._lock:
            self._parties -= 1


class MailWatch(Observer):
    """Writes down when MAIL was said."""

    def __init__(self, clock):
        self._clock = clock
        self.instants = []

    def notice(self, event):
        if isinstance(event, Line) and event.said and event.text.startswith("MAIL"):
            self.instants.append(self._clock.monotonic())


@pytest.fixture
def limited(server, mailer):
    """Return a function that makes a limited backend, its clock, and who watches it."""

    def make(parties=1, **options):
        clock = TogetherClock(server, parties)
        watch = MailWatch(clock)
        return mailer(server, clock=clock, observer=watch, debug=True, **options), clock, watch

    return make


@pytest.mark.parametrize("width", [1, 3, 5])
@pytest.mark.parametrize(("limit", "delta"), [(1, 0.25), (4, 1.0), (7, 60.0)])
def test_a_batch_keeps_the_limit(server, limited, width, limit, delta):
    backend, clock, watch = limited(batch_connections=width, rate_limit=limit, rate_delta=delta)
    batch = messages(3 * limit + 2)
    assert backend.send_messages(iter(batch)) == len(batch)
    assert fullest(watch.instants, delta) == limit
    assert len(watch.instants) == len(batch)
    least = (len(batch) - 1) // limit * delta
    assert least <= clock.monotonic() - 1000 <= 1.05 * least, "and not longer than it must take"
    assert set(taken(server).values()) == {1}


def test_a_long_mailing_takes_long_and_does_not_fail(server, limited):
    # Each message could wait for longer than it may take altogether.
    backend, clock, watch = limited(rate_limit=2, rate_delta=300.0, delivery_timeout=20, acquire_timeout=5)
    batch = messages(13)
    assert backend.send_messages(batch) == 13
    assert set(outcomes(batch)) == {"accepted"}
    assert {mail.smtp_pool_status.attempts for mail in batch} == {1}
    assert fullest(watch.instants, 300.0) == 2
    assert clock.monotonic() - 1000 >= 6 * 300


def test_one_by_one_keeps_the_limit_too(server, limited):
    backend, clock, watch = limited(rate_limit=3, rate_delta=200.0, delivery_timeout=20)
    for mail in messages(8):
        assert backend.send_messages([mail]) == 1
    assert fullest(watch.instants, 200.0) == 3
    assert 400 <= clock.monotonic() - 1000 <= 401


@pytest.mark.parametrize("width", [1, 3, 5])
def test_threads_and_batches_share_the_limit(server, limited, width):
    parties = 4
    backend, clock, watch = limited(parties, max_connections=width, rate_limit=4, rate_delta=10.0, acquire_timeout=3600)

    def singles():
        try:
            return sum(backend.send_messages([message()]) for _ in range(5))
        finally:
            clock.leave()

    def batch():
        try:
            return backend.send_messages(messages(7))
        finally:
            clock.leave()

    work = [in_thread(singles), in_thread(singles), in_thread(batch), in_thread(batch)]
    assert [each.join(60) for each in work] == [5, 5, 7, 7]
    assert len(watch.instants) == 24
    assert fullest(watch.instants, 10.0) <= 4


@pytest.mark.parametrize(
    ("option", "value"),
    [("rate_limit", 0), ("rate_limit", -1), ("rate_limit", 1.5), ("rate_delta", 0), ("rate_delta", -1),
     ("rate_delta", "x"), ("batch_connections", 0), ("batch_connections", -2), ("batch_connections", "many")],
)  # fmt: skip
def test_bad_values_are_told_at_once(server, option, value):
    with pytest.raises(ImproperlyConfigured, match=option):
        backend_for(server, **{option: value})
