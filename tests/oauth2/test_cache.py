"""The token cache: one call of the generator, however many threads ask, and none where that is in vain."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_smtp_pool.core.delivery.retry import concerns_all, may_pass
from django_smtp_pool.core.errors import Outcome, TokenUnavailable
from django_smtp_pool.core.options.oauth2 import Same
from django_smtp_pool.oauth2.cache import FIRST_PAUSE, LONGEST_PAUSE, MARGIN, RENEWAL_PAUSE, TokenCache
from django_smtp_pool.oauth2.caches import TokenCaches, Tokens
from django_smtp_pool.oauth2.generators import AccessToken
from tests.clocks import ManualClock

LIFETIME = 3600


class Maker:
    """A generator that counts, fails where it is told to, and may be held back."""

    def __init__(self, clock, lifetime=LIFETIME):
        self.clock, self.lifetime = clock, lifetime
        self.calls = []
        self.error = None
        self.gate = threading.Event()
        self.gate.set()
        self.called = threading.Semaphore(0)
        self.meanwhile = lambda: None

    def __call__(self, renew):
        self.calls.append(renew)
        self.called.release()
        self.meanwhile()
        assert self.gate.wait(10)
        if self.error is not None:
            raise self.error
        expires_at = None if self.lifetime is None else self.clock.wall() + self.lifetime
        return AccessToken(f"token-{len(self.calls)}", expires_at)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def make(clock):
    return Maker(clock)


@pytest.fixture
def told():
    return []


@pytest.fixture
def cache(clock, make, told):
    return TokenCache(make, clock=clock, announce=told.append)


def in_threads(count, call):
    """Run something in many threads, and return (results, errors) when all have ended."""
    results, errors = [], []

    def run():
        try:
            results.append(call())
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, results, errors


def test_a_token_is_made_once(cache, make, told):
    assert [cache.current().token for _ in range(3)] == ["token-1"] * 3
    assert make.calls == [False]
    assert [token.token for token in told] == ["token-1"]


def test_a_new_one_before_the_old_one_expires(cache, clock, make):
    cache.current()
    clock.advance(LIFETIME - MARGIN - 1)
    assert cache.current().token == "token-1"
    clock.advance(1)
    assert cache.current().token == "token-2"
    assert make.calls == [False, False]


def test_one_that_tells_no_expiry_is_used_until_it_is_refused(cache, clock, make):
    make.lifetime = None
    cache.current()
    clock.advance(1e9)
    assert cache.current().token == "token-1"
    assert cache.renewed("token-1").token == "token-2"
    assert make.calls == [False, True]


def test_a_machine_that_slept_notices(cache, clock):
    cache.current()
    clock.jump(LIFETIME)
    assert cache.current().token == "token-2"


@given(lifetime=st.floats(-100, 200), steps=st.lists(st.floats(0, 50), max_size=20))
def test_short_lives_do_not_hammer(lifetime, steps):
    clock = ManualClock()
    make = Maker(clock, lifetime)
    cache = TokenCache(make, clock=clock, announce=lambda token: None)
    for step in steps:
        before = len(make.calls)
        cache.current()
        cache.current()
        assert len(make.calls) <= before + 1
        clock.advance(step)
    assert len(make.calls) <= 1 + sum(steps) / max(0.9, min(lifetime / 2, lifetime - MARGIN))


def test_fifty_threads_wait_for_one_call(cache, make):
    make.gate.clear()
    threads, results, errors = in_threads(50, cache.current)
    assert make.called.acquire(timeout=10)
    make.gate.set()
    for thread in threads:
        thread.join(10)
    assert {token.token for token in results} == {"token-1"}
    assert (len(results), errors, len(make.calls)) == (50, [], 1)


def test_no_lock_is_held_while_the_generator_runs(cache, make):
    make.gate.clear()
    threads, *_ = in_threads(1, cache.current)
    assert make.called.acquire(timeout=10)
    assert cache._lock.acquire(timeout=1)
    cache._lock.release()
    make.gate.set()
    threads[0].join(10)


def test_who_waits_waits_until_his_deadline(cache, clock, make):
    make.gate.clear()
    threads, *_ = in_threads(1, cache.current)
    assert make.called.acquire(timeout=10)
    with pytest.raises(TokenUnavailable, match="the generator is still running"):
        cache.current(deadline=clock.monotonic())
    make.gate.set()
    threads[0].join(10)
    assert cache.current(deadline=clock.monotonic()).token == "token-1"


def test_a_generator_that_needs_its_own_token_is_told(cache, make):
    def ask_again():
        with pytest.raises(TokenUnavailable, match="sends mail that needs its own token"):
            cache.current()

    make.meanwhile = ask_again
    assert cache.current().token == "token-1"


# -- failures -------------------------------------------------------------------------------------------------


def test_a_generator_that_fails_is_left_alone_for_longer_and_longer(cache, clock, make, caplog):
    make.error = OSError("no route to the identity provider")
    pause = FIRST_PAUSE
    for number in range(1, 10):
        for _ in range(5):
            with pytest.raises(TokenUnavailable, match="no route to the identity provider") as caught:
                cache.current()
        assert len(make.calls) == number
        assert caught.value.__cause__ is make.error
        assert make.error.__traceback__ is None
        clock.advance(pause)
        pause = min(LONGEST_PAUSE, pause * 2)
    make.error = None
    assert cache.current().token == f"token-{len(make.calls)}"
    assert {record.levelname for record in caplog.records} <= {"INFO", "WARNING"}


def test_everybody_who_waits_hears_of_the_failure(cache, make):
    make.gate.clear()
    make.error = OSError("down")
    threads, results, errors = in_threads(20, cache.current)
    assert make.called.acquire(timeout=10)
    make.gate.set()
    for thread in threads:
        thread.join(10)
    assert (results, len(errors), len(make.calls)) == ([], 20, 1)
    assert {type(error) for error in errors} == {TokenUnavailable}


def test_an_old_token_does_while_no_new_one_can_be_had(cache, clock, make):
    cache.current()
    clock.advance(LIFETIME - 30)
    make.error = OSError("down")
    assert cache.current().token == "token-1"
    assert cache.current().token == "token-1"
    assert len(make.calls) == 2
    clock.advance(30)
    with pytest.raises(TokenUnavailable):
        cache.current()
    assert len(make.calls) == 3


def test_an_interrupt_leaves_nobody_waiting(cache, make):
    def interrupt():
        raise KeyboardInterrupt

    make.meanwhile = interrupt
    with pytest.raises(KeyboardInterrupt):
        cache.current()
    make.meanwhile = lambda: None
    assert cache.current().token == "token-2"


def test_the_error_is_about_us_and_not_about_a_message():
    error = TokenUnavailable("no token")
    assert error.outcome is Outcome.NOT_SENT
    assert concerns_all(error)
    assert not may_pass(error)


# -- renewal --------------------------------------------------------------------------------------------------


def test_only_the_token_that_is_in_use_is_renewed(cache, make):
    cache.current()
    assert cache.renewed("token-1").token == "token-2"
    assert cache.renewed("token-1").token == "token-2"  # somebody else's connection was refused it too
    assert make.calls == [False, True]


def test_a_renewed_token_that_is_refused_is_not_renewed_at_once(cache, clock, make):
    cache.current()
    assert cache.renewed("token-1").token == "token-2"
    assert cache.renewed("token-2") is None
    assert cache.current().token == "token-2"
    clock.advance(RENEWAL_PAUSE)
    assert cache.renewed("token-2").token == "token-3"
    assert make.calls == [False, True, True]


def test_the_same_token_again_is_no_better_one(clock):
    cache = TokenCache(lambda renew: AccessToken("same"), clock=clock, announce=lambda token: None)
    cache.current()
    assert cache.renewed("same") is None


def test_many_refusals_at_once_are_one_renewal(cache, make):
    cache.current()
    make.gate.clear()
    threads, results, errors = in_threads(50, lambda: cache.renewed("token-1"))
    assert make.called.acquire(timeout=10)
    assert make.called.acquire(timeout=10)
    make.gate.set()
    for thread in threads:
        thread.join(10)
    assert {token.token for token in results} == {"token-2"}
    assert (len(results), errors, make.calls) == (50, [], [False, True])


def test_a_renewal_that_failed_is_still_wanted(cache, clock, make):
    cache.current()
    make.error = OSError("down")
    with pytest.raises(TokenUnavailable):
        cache.renewed("token-1")
    make.error = None
    clock.advance(FIRST_PAUSE)
    assert cache.current().token == "token-3"
    assert make.calls == [False, True, True]


def test_a_forked_child_keeps_the_token_and_waits_for_no_lost_thread(cache, make):
    make.gate.clear()
    threads, *_ = in_threads(1, cache.current)
    assert make.called.acquire(timeout=10)
    cache.after_fork()
    make.gate.set()
    threads[0].join(10)
    assert cache.current().token == "token-1"


@pytest.fixture
def caches(clock, told):
    """Return a function that makes the caches of a generator."""

    def make(generate):
        return TokenCaches(Same(generate), clock=clock, announce=lambda token, user: told.append(user))

    return make


def test_whose_token_it_is(caches):
    nobodys = caches(lambda: "t")
    assert Tokens(nobodys, "me").current(None).username == "me"
    with pytest.raises(TokenUnavailable, match="set username, or the user of AccessToken"):
        Tokens(nobodys, None).current(None)
    own = caches(lambda: AccessToken("t", user="its"))
    assert Tokens(own, None).current(None).username == "its"
    assert Tokens(own, "me").current(None).username == "me"


class OfAUser:
    """A generator that is asked for a user's token."""

    def __init__(self):
        self.calls = []

    def __call__(self, *, username, renew=False):
        self.calls.append((username, renew))
        return f"{username}-{len(self.calls)}"


def factory_of(generator):
    return lambda: generator


@pytest.mark.parametrize("is_factory", [False, True])
def test_a_generator_that_takes_usernames_has_a_token_for_each(caches, told, is_factory):
    generator = OfAUser()
    shared = caches(factory_of(generator) if is_factory else generator)
    ann, bob = Tokens(shared, "ann"), Tokens(shared, "bob")
    assert [each.current(None).secret.reveal() for each in (ann, bob, ann, bob)] == ["ann-1", "bob-2", "ann-1", "bob-2"]
    renewed = bob.renewed(bob.current(None), None)
    assert renewed is not None
    assert (renewed.username, renewed.secret.reveal()) == ("bob", "bob-3")
    assert ann.current(None).secret.reveal() == "ann-1"
    assert generator.calls == [("ann", False), ("bob", False), ("bob", True)]
    assert told == ["ann", "bob", "bob"]


@pytest.mark.parametrize("is_factory", [False, True])
def test_one_that_takes_none_has_one_token_for_all(caches, is_factory):
    calls = []

    def generate(*, renew):
        calls.append(renew)
        return f"token-{len(calls)}"

    shared = caches(factory_of(generate) if is_factory else generate)
    tokens = [Tokens(shared, name).current(None) for name in ("ann", "bob", None, "ann") if name]
    assert [(each.username, each.secret.reveal()) for each in tokens] == [
        ("ann", "token-1"),
        ("bob", "token-1"),
        ("ann", "token-1"),
    ]
    assert calls == [False]


def test_any_keyword_means_every_keyword(caches):
    got = []
    Tokens(caches(lambda **asked: got.append(asked) or "t"), "ann").current(None)
    assert got == [{"renew": False, "username": "ann"}]


def test_a_token_that_several_share_is_told_without_a_user(caches, told, clock):
    shared = caches(lambda: AccessToken("t", clock.wall() + LIFETIME))
    Tokens(shared, "ann").current(None)
    clock.advance(LIFETIME)
    Tokens(shared, "bob").current(None)
    assert told == ["ann", None]


def test_tokens_of_those_who_have_left_are_forgotten(caches):
    shared = caches(OfAUser())
    for name in ("ann", "bob"):
        Tokens(shared, name).current(None)
    assert shared.keep({"ann"})
    assert Tokens(shared, "ann").current(None).secret.reveal() == "ann-1"
    assert Tokens(shared, "bob").current(None).secret.reveal() == "bob-3"
    assert not shared.keep(set())


def test_what_may_keep_a_refresh_token_outlives_its_pools(caches, clock):
    class Generator:
        def __call__(self):
            return "t"

    assert caches(Generator).keep(set())
    assert TokenCaches("project.token", clock=clock, announce=print).keep(set())


def test_an_interrupt_before_the_generator_is_called_does_not_stop_the_next_caller(cache, monkeypatch):
    run = TokenCache._run

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(TokenCache, "_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache.current()
    monkeypatch.setattr(TokenCache, "_run", run)
    assert cache.current().token == "token-1"


def test_code_that_has_interrupted_the_cache_does_not_wait_for_itself(cache):
    with cache._lock, pytest.raises(TokenUnavailable, match="this same thread"):
        cache.current()
