"""The rate limit of several processes, in a store that says what a test wants; a real one is in realservers."""

import pytest

from django_smtp_pool.core.errors import RateStorageUnavailable
from django_smtp_pool.core.options.quotas import Quota
from django_smtp_pool.core.rate_limit.redis import StorageFailed
from tests.batches.ledger import QUIET, messages, misreported, outcomes, settled, taken
from tests.batches.test_rate_limit import MailWatch, TogetherClock, fullest, limiter
from tests.clocks import ManualClock
from tests.core.fakes import FakeWindow, in_thread
from tests.mailing import backend_for, message

RULE = {"rate_limit": 100, "rate_delta": 60, "rate_storage": "redis://store.example.com"}


@pytest.fixture
def window(monkeypatch):
    """The store of every limit of the test."""
    window = FakeWindow()
    monkeypatch.setattr("django_smtp_pool.registry.RedisWindow", lambda *_, **__: window)
    return window


@pytest.fixture
def clock():
    return ManualClock()


@pytest.mark.parametrize("width", [1, 3, 5])
def test_closed_stops_a_batch_and_what_is_under_way_arrives(server, mailer, window, clock, width):
    backend = mailer(server, clock=clock, batch_connections=width, on_rate_storage_failure="closed", **RULE)
    batch = messages(9)
    window.says = [0.0, 0.0, 0.0, 0.0, StorageFailed("gone")]
    with pytest.raises(RateStorageUnavailable, match="gone") as caught:
        backend.send_messages(batch)
    assert outcomes(batch) == ["accepted"] * 4 + ["not_sent"] + [None] * 4
    assert list(caught.value.failures) == [4]
    assert batch[4].smtp_pool_status.attempts == 1
    assert misreported(server, batch) == []
    assert settled(server, backend.pool) == QUIET
    with pytest.raises(RateStorageUnavailable):
        backend.send_messages(batch[4:])
    assert window.asked == 5
    clock.advance(5)
    assert backend.send_messages(batch[4:]) == 5
    assert set(taken(server).values()) == {1}
    assert backend.pool.stats().rate_storage_failures == 1


def test_closed_one_by_one(server, mailer, window, clock):
    backend = mailer(server, clock=clock, on_rate_storage_failure="closed", **RULE)
    window.is_down = True
    mail = message()
    with pytest.raises(RateStorageUnavailable):
        backend.send_messages([mail])
    assert outcomes([mail]) == ["not_sent"]
    assert not server.commands("MAIL")
    assert settled(server, backend.pool) == QUIET
    assert backend.pool.stats().idle == 1


def test_closed_and_silent(server, mailer, window, clock):
    backend = mailer(server, clock=clock, on_rate_storage_failure="closed", fail_silently=True, **RULE)
    window.is_down = True
    assert backend.send_messages(messages(3)) == 0


@pytest.mark.parametrize("width", [1, 3])
def test_open_goes_on(server, mailer, window, clock, width):
    backend = mailer(server, clock=clock, batch_connections=width, **RULE)
    window.says = [0.0, 0.0, StorageFailed("gone")]
    batch = messages(9)
    assert backend.send_messages(batch) == 9
    assert backend.send_messages([message()]) == 1
    assert window.asked == 3
    assert set(outcomes(batch)) == {"accepted"}


def test_the_time_that_the_store_takes_is_held_against_no_message(server, mailer, window, clock):
    backend = mailer(server, clock=clock, batch_connections=3, delivery_timeout=20, timeout=100_000, **RULE)
    for lease in [backend.pool.acquire() for _ in range(3)]:
        lease.give_back()  # all have their connection: three messages are under way at once
    server.hold("rcpt")

    def take_long():
        clock.advance(1000)
        if window.asked == 3:  # the first two are under way, and stand still
            server.release()

    window.meanwhile = take_long
    batch = messages(7)
    assert backend.send_messages(batch) == 7
    assert backend.send_messages([message()]) == 1
    assert {mail.smtp_pool_status.attempts for mail in batch} == {1}
    assert server.connections == 3


class CommonWindow(FakeWindow):
    """One of several pools' ways to the same window."""

    def __init__(self, rate, clock):
        super().__init__()
        self._rate, self._clock = rate, clock

    def take(self, recipients):
        """Take a place by the test's own clock."""
        return self._rate.ticket(recipients).take(self._clock.monotonic())


def test_two_pools_of_an_account_keep_one_limit(server, mailer, monkeypatch):
    clock = TogetherClock(server, parties=2)
    watch, rate = MailWatch(clock), limiter(Quota(limit=4, seconds=10.0))
    monkeypatch.setattr("django_smtp_pool.registry.RedisWindow", lambda *_, **__: CommonWindow(rate, clock))
    rule = {**RULE, "rate_limit": 4, "rate_delta": 10.0, "debug": True, "idle_timeout": 0, "max_lifetime": 0}
    first = mailer(server, clock=clock, observer=watch, max_connections=3, **rule)
    second = backend_for(server, max_connections=2, **rule)

    def send(backend):
        try:
            return backend.send_messages(messages(10))
        finally:
            clock.leave()

    work = [in_thread(send, first), in_thread(send, second)]
    assert [each.join(60) for each in work] == [10, 10]
    assert first.pool is not second.pool
    assert len(watch.instants) == 20
    assert fullest(watch.instants, 10.0) == 4


@pytest.mark.parametrize("width", [1, 3])
def test_an_interrupt_while_the_store_is_asked(server, mailer, window, clock, width):
    backend = mailer(server, clock=clock, batch_connections=width, **RULE)
    window.says = [0.0, 0.0, 0.0, KeyboardInterrupt()]
    batch = messages(8)
    with pytest.raises(KeyboardInterrupt):
        backend.send_messages(batch)
    assert misreported(server, batch) == []
    assert settled(server, backend.pool) == QUIET
    assert backend.send_messages([message()]) == 1
