"""The window in Redis, by a clock of the test's own: the script is the real one but for where it reads the time."""

import itertools
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_smtp_pool.core.options.quotas import Quota
from django_smtp_pool.core.options.storage_uri import storage_uri
from django_smtp_pool.core.rate_limit import redis as rate_storage
from django_smtp_pool.core.rate_limit.redis import GRACE, PATIENCE, ROUNDING, RedisWindow
from tests.batches.test_rate_limit import fullest

SECOND = 1_000_000
SLACK = round(ROUNDING * SECOND)
_keys = itertools.count()


class World:
    """Processes that send as one account, and their time, in microseconds."""

    def __init__(self, store, *, limit=3, window=60.0):
        self.now = 1_700_000_000 * SECOND
        self.limit, self.window = limit, window
        self.key = f"test:{next(_keys)}"
        self._store = store
        self._client = store.client

    def process(self, *quotas, limit=None):
        """Return one process' way to the window."""
        quotas = quotas or [Quota(limit=limit or self.limit, seconds=self.window)]
        return RedisWindow(storage_uri(self._store.patient_uri), self.key, quotas)

    def take(self, process, recipients=1):
        """Ask for a process, and return after how long it is to ask again, in microseconds."""
        self._client.mset(dict(zip(("seconds", "microseconds"), divmod(self.now, SECOND), strict=True)))
        return round(min(process.take(recipients), PATIENCE + ROUNDING) * SECOND)

    def entries(self):
        """Return the instants of what was taken and is kept."""
        return [int(score) for score in self._store.ask("ZRANGE", f"{self.key}:taken", 0, -1, "WITHSCORES")[1::2]]

    def line(self):
        """Return how many stand in line."""
        return self._store.ask("ZCARD", f"{self.key}:line")


@pytest.fixture
def world(store, monkeypatch):
    """Return a function that makes a world."""
    script = rate_storage.SCRIPT.replace("redis.call('TIME')", "redis.call('MGET', 'seconds', 'microseconds')")
    assert script != rate_storage.SCRIPT
    monkeypatch.setattr(rate_storage, "SCRIPT", script)
    return lambda **rule: World(store, **rule)


class Walk:
    """A run of a world: each process asks again when it was told to, or a little later."""

    def __init__(self, world, wishes, lateness):
        self.world = world
        self.wishes = dict(wishes)  # process -> messages that it still has
        self._due = dict.fromkeys(self.wishes, world.now)
        self._numbers = itertools.count()
        self._since = {}  # process -> its number among all that were refused
        self._lateness = itertools.cycle(lateness)
        self.went = []
        self.questions = 0

    def run(self):
        while self.wishes:
            process = min(self.wishes, key=lambda each: self._due[each])
            self.world.now = max(self.world.now, self._due[process])
            self._ask(process)

    def _ask(self, process):
        self.questions += 1
        assert self.questions < 2000, "it goes round in circles"
        wait = self.world.take(process)
        if wait:
            if process not in self._since:
                self._since[process] = next(self._numbers)
            self._due[process] = self.world.now + wait + next(self._lateness)
            return
        self.went.append(self.world.now)
        self._check(self._since.pop(process, math.inf))
        self.wishes[process] -= 1
        if not self.wishes[process]:
            del self.wishes[process]

    def _check(self, since):
        window, limit = round(self.world.window * SECOND), self.world.limit
        taken = sum(instant > self.world.now - window for instant in self.went)
        before = sum(other < since for other in self._since.values())
        assert taken + before <= limit, "whoever waits for longer has his place"


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limit=st.integers(1, 6),
    window=st.sampled_from([20.0, 70.5]),
    wishes=st.lists(st.integers(1, 5), min_size=1, max_size=5),
    lateness=st.lists(st.integers(0, round(GRACE * SECOND) - 2 * SLACK), min_size=1, max_size=5),
)
def test_no_window_holds_too_many_and_nobody_overtakes(world, limit, window, wishes, lateness):
    here = world(limit=limit, window=window)
    walk = Walk(here, [(here.process(), count) for count in wishes], lateness)
    began_at = here.now
    walk.run()
    length = round(window * SECOND)
    assert fullest(walk.went, length) <= limit
    assert len(walk.went) == sum(wishes)
    rounds = (sum(wishes) - 1) // limit
    # Nobody waits without need: each round may begin as much later as its last process came late.
    assert here.now - began_at <= rounds * length + sum(wishes) * (max(lateness) + SLACK)
    # Each asks once before his turn, at his turn, and every half minute in between.
    most = len(wishes) // limit + 1
    assert walk.questions <= sum(wishes) * (2 + most * (window // PATIENCE + 1))


def heaviest(went, seconds):
    """Return the most units that a window holds, wherever it starts; `went` has (instant, units)."""
    return max(sum(units for each, units in went if start <= each < start + seconds) for start, _ in went)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=25),
    pauses=st.lists(st.integers(0, 15 * SECOND), min_size=1, max_size=5),
    quotas=st.lists(
        st.builds(
            Quota, limit=st.integers(5, 12), seconds=st.sampled_from([7.0, 20.0, 70.5]), of_recipients=st.booleans()
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_no_window_of_any_quota_holds_too_many(world, sizes, pauses, quotas):
    here = world()
    processes, pauses, went = itertools.cycle([here.process(*quotas) for _ in range(2)]), itertools.cycle(pauses), []
    for size in sizes:
        here.now += next(pauses)
        process = next(processes)
        while wait := here.take(process, size):
            here.now += wait
        went.append((here.now, size))
    for quota in quotas:
        taken = [(instant, quota.units(size)) for instant, size in went]
        length = round(quota.seconds * SECOND)
        assert heaviest(taken, length) <= quota.limit
        used = sum(units for instant, units in taken if instant > here.now - length)
        assert min(process.left[str(quota)] for quota in quotas) >= 0
        assert process.left[str(quota)] == quota.limit - used or len({str(each) for each in quotas}) < len(quotas)


def test_a_quota_of_recipients_beside_one_of_messages(world):
    here = world()
    process = here.process(Quota(limit=3, seconds=10.0), Quota(limit=10, seconds=60.0, of_recipients=True))
    assert here.take(process, 6) == 0
    assert process.left == {"3/10 seconds": 2, "10/minute recipients": 4}
    here.now += SECOND
    assert here.take(process, 5) == PATIENCE * SECOND + SLACK
    here.now += 59 * SECOND - 1
    assert here.take(process, 5) == 1 + SLACK
    here.now += 1
    assert here.take(process, 5) == 0
    assert [here.take(process, 1), here.take(process, 1)] == [0, 0]
    assert here.take(process, 1) == 10 * SECOND + SLACK


def test_a_place_is_free_exactly_when_the_window_ends(world):
    here = world(limit=2, window=20.0)
    process = here.process()
    assert [here.take(process), here.take(process)] == [0, 0]
    here.now += 5 * SECOND
    assert here.take(process) == 15 * SECOND + SLACK
    here.now += 15 * SECOND - 1
    assert here.take(process) == 1 + SLACK
    here.now += 1
    assert [here.take(process), here.take(process)] == [0, 0]


def test_each_is_told_his_turn(world):
    here = world(limit=1, window=8.0)
    first, *others = [here.process() for _ in range(4)]
    assert here.take(first) == 0
    waits = [here.take(each) for each in others]
    assert waits == [8 * SECOND + SLACK, 16 * SECOND + SLACK, 24 * SECOND + SLACK]
    assert here.take(first) == PATIENCE * SECOND + SLACK, "and looks again in between"
    assert here.line() == 4


def test_who_does_not_come_back_keeps_nobody_waiting(world):
    here = world(limit=1, window=8.0)
    gone, first, second = here.process(), here.process(), here.process()
    assert here.take(second) == 0
    assert here.take(gone) == 8 * SECOND + SLACK
    assert here.take(first) == 16 * SECOND + SLACK
    here.now += round((8 + GRACE) * SECOND)
    assert here.take(second) > 0, "his place is kept for a moment"
    here.now += 1
    assert here.line() == 3
    assert here.take(first) == 0
    assert here.line() == 1


def test_mailers_of_one_account_count_each_others_mail(world):
    here = world(limit=5, window=60.0)
    many, few = here.process(), here.process(limit=2)
    assert [here.take(many) for _ in range(2)] == [0, 0]
    assert here.take(few) == PATIENCE * SECOND + SLACK
    here.now += 61 * SECOND
    assert [here.take(few) for _ in range(2)] == [0, 0]
    assert [here.take(many) for _ in range(3)] == [0, 0, 0]
    assert here.take(many) > 0


def test_a_longer_window_of_another_mailer_is_not_cut_short(world):
    here = world(limit=3, window=10.0)
    brief, long = here.process(), here.process(Quota(limit=5, seconds=1000.0))
    assert here.take(long) == 0
    for _ in range(4):
        assert here.take(brief) == 0
        here.now += 10 * SECOND
    assert here.take(long) > 0
    assert len(here.entries()) == 5
    here.now += 960 * SECOND
    assert here.take(long) == 0
    assert len(here.entries()) == 4, "the first two have gone: what is older than any window is not kept"


def test_a_clock_that_was_set_back_blocks_nobody_for_long(world):
    here = world(limit=2, window=10.0)
    one, other = here.process(), here.process()
    assert [here.take(one), here.take(one)] == [0, 0]
    assert here.take(other) > 0
    here.now -= 3600 * SECOND
    assert [here.take(one), here.take(one)] == [0, 0]
    assert 0 < here.take(one) <= 10 * SECOND + SLACK
    here.now -= 5 * SECOND
    assert 0 < here.take(one) <= 20 * SECOND + SLACK


def test_what_is_kept_does_not_stay_for_ever(world, store):
    here = world(limit=1, window=60.0)
    assert here.take(here.process()) == 0
    assert here.take(here.process()) > 0
    lasting = {
        name: store.ask("PTTL", f"{here.key}:{name}") for name in ("taken", "longest", "line", "promises", "sizes")
    }
    assert all(0 < left <= 60_000 for left in lasting.values()), lasting
    assert sorted(store.ask("KEYS", f"{here.key}:*")) == sorted(f"{here.key}:{name}" for name in lasting)
