"""The rate limit: no window, wherever it starts, holds more than it may; and nobody waits without need."""

import threading
from fractions import Fraction

import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given
from hypothesis import strategies as st

from django_smtp_pool import PoolClosed, RateLimited
from django_smtp_pool import backend as backend_module
from django_smtp_pool.core.events.events import Line, Observer
from django_smtp_pool.core.options.quotas import Quota
from django_smtp_pool.core.rate_limit.limit import Limiter, RateLimit
from tests.batches.ledger import QUIET, messages, outcomes, settled, taken
from tests.clocks import ManualClock
from tests.core.fakes import in_thread
from tests.mailing import backend_for, message
from tests.servers import FaultServer

pauses = st.lists(st.fractions(min_value=0, max_value=3, max_denominator=8), max_size=60)


def fullest(instants, window):
    """Return the most instants that a window holds, wherever it starts; its end is outside."""
    instants = sorted(instants)
    return max((sum(start <= each < start + window for each in instants) for start in instants), default=0)


def limiter(*quotas, patience=float("inf")):
    """Return a limiter in this process."""
    return Limiter(RateLimit(quotas), patience=patience, server="smtp.example.com:587", count=lambda _: None)


@given(limit=st.integers(1, 6), window=st.sampled_from([Fraction(1, 3), Fraction(1), Fraction(5, 2)]), pauses=pauses)
def test_no_window_holds_too_many_and_nobody_is_kept_idle(limit, window, pauses):
    rate = limiter(Quota(limit=limit, seconds=window))
    now, went = Fraction(0), []
    for pause in pauses:
        now += pause
        ticket = rate.ticket(1)
        wait = ticket.take(now)
        may_go = fullest([*went, now], window) <= limit
        assert (wait == 0) == may_go
        if wait:  # and it may go exactly then
            assert fullest([*went, now + wait], window) <= limit
            assert fullest([*went, now + wait - Fraction(1, 1000)], window) > limit
            now += wait
            assert ticket.take(now) == 0
        went.append(now)
        assert fullest(went, window) <= limit


@given(limit=st.integers(1, 4), wishes=st.lists(st.floats(0, 0.7), min_size=1, max_size=60))
def test_the_same_with_floating_point_numbers(limit, wishes):
    rate, now, went = limiter(Quota(limit=limit, seconds=1.0)), 12345.678, []
    for wish in wishes:
        now += wish
        ticket = rate.ticket(1)
        while wait := ticket.take(now):
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
        return all_wait and self._server.open_now > 0 and self._server.is_at_rest

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
    backend, clock, watch = limited(batch_connections=width, rate_limit=limit, rate_delta=delta, rate_wait=None)
    batch = messages(3 * limit + 2)
    assert backend.send_messages(iter(batch)) == len(batch)
    assert fullest(watch.instants, delta) == limit
    assert len(watch.instants) == len(batch)
    least = (len(batch) - 1) // limit * delta
    assert least <= clock.monotonic() - 1000 <= 1.05 * least, "and not longer than it must take"
    assert set(taken(server).values()) == {1}


def test_a_message_that_is_slow_to_render_does_not_make_the_wait_of_another_longer(server, limited):
    """The clock of a batch stands still while it renders, but the window of the limit moves on."""
    backend, clock, watch = limited(batch_connections=1, rate_limit=1, rate_delta=20, rate_wait=None)

    def mailing():
        yield message(1)
        yield message(2)
        clock.advance(15)  # meanwhile the second one waits
        yield message(3)

    assert backend.send_messages(mailing()) == 3
    assert [instant - watch.instants[0] for instant in watch.instants] == [0, 20, 40]


def test_a_long_mailing_takes_long_and_does_not_fail(server, limited):
    # Each message could wait for longer than it may take altogether.
    backend, clock, watch = limited(
        rate_limit=2, rate_delta=300.0, delivery_timeout=20, acquire_timeout=5, rate_wait=None
    )
    batch = messages(13)
    assert backend.send_messages(batch) == 13
    assert set(outcomes(batch)) == {"accepted"}
    assert {mail.smtp_pool_status.attempts for mail in batch} == {1}
    assert fullest(watch.instants, 300.0) == 2
    assert clock.monotonic() - 1000 >= 6 * 300


def test_one_by_one_keeps_the_limit_too(server, limited):
    backend, clock, watch = limited(rate_limit=3, rate_delta=200.0, delivery_timeout=20, rate_wait=None)
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


@pytest.mark.parametrize("count", [4, 1])
def test_a_place_that_is_too_far_away_is_told_at_once(server, limited, count):
    backend, clock, watch = limited(rate_limits=["3/hour"], acquire_timeout=20)
    assert backend.send_messages(messages(3)) == 3
    batch = messages(count)
    with pytest.raises(RateLimited) as caught:
        backend.send_messages(batch)
    assert 3590 < caught.value.retry_after <= 3600
    assert outcomes(batch) == ["not_sent", *[None] * (count - 1)]
    assert list(caught.value.failures) == [0]
    assert len(watch.instants) == 3
    assert settled(server, backend.pool) == QUIET
    assert dict(backend.pool.stats().rate_left) == {"3/hour": 0}
    clock.advance(caught.value.retry_after)
    assert backend.send_messages([message()]) == 1
    assert dict(backend.pool.stats().rate_left) == {"3/hour": 2}


def test_a_message_with_too_many_recipients_is_its_own_failure(server, limited):
    backend, _, _ = limited(rate_limits=["5/hour recipients"])
    batch = [message(), message(to=[f"to{number}@example.com" for number in range(6)]), message()]
    with pytest.raises(RateLimited, match="never allows a message with 6 recipients"):
        backend.send_messages(batch)
    assert outcomes(batch) == ["accepted", "not_sent", "accepted"]
    assert dict(backend.pool.stats().rate_left) == {"5/hour recipients": 3}


@pytest.mark.parametrize("width", [1, 3])
def test_a_batch_counts_recipients(server, limited, width):
    rule = {"rate_limits": ["4/10 seconds", "7/minute recipients"], "rate_wait": None}
    backend, clock, watch = limited(batch_connections=width, **rule)
    batch = [message(number, to=[f"to{each}@example.com" for each in range(1 + number % 3)]) for number in range(9)]
    assert backend.send_messages(batch) == 9
    assert fullest(watch.instants, 10.0) <= 4
    recipients = [instant for instant, mail in zip(watch.instants, batch, strict=True) for _ in mail.to]
    assert width > 1 or fullest(recipients, 60.0) <= 7
    assert clock.monotonic() - 1000 == pytest.approx(120, abs=1)


def test_the_limit_is_the_servers_and_outlives_the_pool(server, limited):
    backend, clock, _ = limited(rate_limit=3, rate_delta=60, rate_wait=5)
    assert backend.send_messages(messages(3)) == 3
    first = backend.pool
    backend_module.registry.close_all(timeout=0)
    for options in ({}, {"max_connections": 2}, {"idle_timeout": 7}, {"timeout": 9}, {"rate_wait": 6}):
        rule = {"rate_limit": 3, "rate_delta": 60, "rate_wait": 5, **options}
        again = backend_for(server, debug=True, **{"idle_timeout": 0, "max_lifetime": 0, **rule})
        with pytest.raises(RateLimited):
            again.send_messages([message()])
        assert again.pool is not first
    clock.advance(700)
    assert again.send_messages([message()]) == 1


def test_the_limit_outlives_ten_minutes_of_disuse(server, limited):
    backend, clock, _ = limited(rate_limit=3, rate_delta=3600)
    assert backend.send_messages(messages(3)) == 3
    pool = backend.pool
    backend_module.registry._senders.clear()  # as those are that nobody has used
    clock.advance(1000)
    with pytest.raises(RateLimited):
        backend.send_messages([message()])
    assert backend.pool is not pool
    pool.close(0)


def test_limits_that_nobody_uses_are_forgotten(server, limited):
    _, clock, _ = limited(rate_limit=3, rate_delta=60)
    registry = backend_module.registry
    for number in range(20):
        backend_for(server, rate_limit=3, rate_delta=60 + number).send_messages([message()])
        registry.close_all(timeout=0)
        clock.advance(45)
    assert len(registry._rates) <= 4


@pytest.mark.parametrize("other", [{"username": "u", "password": "p"}, {"rate_limit": 4}])
def test_another_account_and_another_limit_have_windows_of_their_own(mailer, other):
    with FaultServer(users={"u": "p"}) as server:
        rule = {"rate_limit": 3, "rate_delta": 3600}
        backend = mailer(server, **rule)
        assert backend.send_messages(messages(3)) == 3
        assert backend_for(server, **{**rule, **other}).send_messages([message()]) == 1


def test_close_all_tells_those_that_wait_for_the_limit(server, mailer):
    clock = ManualClock()
    backend = mailer(server, clock=clock, rate_limit=1, rate_delta=20)
    assert backend.send_messages([message()]) == 1
    work = in_thread(backend.send_messages, [message()])
    assert server.wait_for(lambda: 20 in clock.waits)
    backend_module.registry.close_all(timeout=0)
    with pytest.raises(PoolClosed, match="closed while this message waited for the rate limit"):
        work.join()


@pytest.mark.parametrize(
    ("option", "value"),
    [("rate_limits", "often"), ("rate_limits", ["30/minute", "x"]), ("rate_wait", 0), ("rate_limit", 0),
     ("rate_limit", -1), ("rate_limit", 1.5), ("rate_delta", 0), ("rate_delta", -1),
     ("rate_delta", "x"), ("batch_connections", 0), ("batch_connections", -2), ("batch_connections", "many")],
)  # fmt: skip
def test_bad_values_are_told_at_once(server, option, value):
    with pytest.raises(ImproperlyConfigured, match=option):
        backend_for(server, **{option: value})
