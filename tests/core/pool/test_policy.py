"""Who gets which connection when: a state machine tries everything in every order."""

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from django_smtp_pool.core.errors import AuthRefused, DataRefused, PoolClosed, Stage, refusal
from django_smtp_pool.core.options.options import PoolOptions
from django_smtp_pool.core.pool import policy, retirement, spares
from django_smtp_pool.core.pool.policy import GRACE
from django_smtp_pool.core.pool.slots import Close, DialSpare, Hurry, Lend, Place, Refuse, Sever, Slot
from django_smtp_pool.core.pool.state import State
from django_smtp_pool.core.replies import Reply


def decided(state, now):
    """Decide, and return what there is to do."""
    policy.decide(state, now)
    return [state.todo.popleft() for _ in range(len(state.todo))]


def one_of(data, choices):
    """Draw by number: what hypothesis has drawn it keeps, and then nobody is ever no more."""
    return choices[data.draw(st.integers(0, len(choices) - 1))]


class Waiter:
    """Somebody in line."""

    blocks = holder = None

    def __init__(self, number, *, fresh=False):
        self.number = number
        self.fresh = fresh
        self.gone = False

    def __repr__(self):
        return f"<{self.number}{' gone' if self.gone else ''}>"


class PoolMachine(RuleBasedStateMachine):
    """The pool's bookkeeping, driven by everything that may happen to it."""

    @initialize(
        ceiling=st.integers(1, 4),
        spares=st.integers(0, 2),
        idle=st.sampled_from([0, 5, 60]),
        messages=st.integers(0, 3),
    )
    def start(self, ceiling, spares, idle, messages):
        options = PoolOptions(
            max_connections=ceiling, min_connections=min(spares, ceiling), idle_timeout=idle, max_messages=messages
        )
        self.state = State(options=options, ceiling=ceiling)
        self.now = 1000.0
        self.ceiling_changed = False
        self.held = {}  # slot: the waiter it was granted to, or the dial of a spare
        self.line = []  # waiters in the order of their turns
        self.connections = set()  # open, as the world sees it
        self.leaving = []  # slots whose connections say QUIT
        self.closed = set()
        self.count = 0

    # What happens

    @rule(first=st.booleans(), fresh=st.booleans())
    def somebody_comes(self, first, fresh):
        waiter = self.new_waiter(fresh)
        self.line.insert(0 if first else len(self.line), waiter)
        policy.queue_up(self.state, waiter, self.now, first=first)
        self.settle()

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def somebody_is_gone_before_he_hears(self, data):
        """He stays in line, as one does who has not got the lock yet."""
        one_of(data, self.line).gone = True

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def somebody_leaves_the_line(self, data):
        waiter = one_of(data, self.line)
        self.line.remove(waiter)
        self.state.waiting.leave(waiter)
        self.settle()

    @precondition(lambda self: self.dialling())
    @rule(data=st.data(), lifetime=st.sampled_from([None, 3.0, 30.0]))
    def a_dial_succeeds(self, data, lifetime):
        slot = one_of(data, self.dialling())
        self.count += 1
        self.connections.add(self.count)
        policy.connected(self.state, slot, self.count, None if lifetime is None else self.now + lifetime)
        if isinstance(self.held[slot], DialSpare):
            self.give_back(slot, 0)
        self.settle()

    @precondition(lambda self: self.dialling())
    @rule(data=st.data())
    def a_dial_fails(self, data):
        slot = one_of(data, self.dialling())
        del self.held[slot]
        policy.dial_failed(self.state, slot, self.now)
        self.settle()

    @precondition(lambda self: self.busy())
    @rule(data=st.data(), more=st.integers(0, 1))
    def one_comes_back(self, data, more):
        slot = one_of(data, self.busy())
        self.give_back(slot, slot.messages + more)

    @precondition(lambda self: self.busy())
    @rule(data=st.data(), more=st.integers(0, 1))
    def one_goes_on(self, data, more):
        """A batch has another message for the same connection."""
        slot = one_of(data, self.busy())
        before = self.picture()
        if policy.lend_again(self.state, slot, slot.messages + more, self.now, "a@example.com"):
            assert not self.line
            assert not self.state.closed
            assert slot.messages < (self.state.options.max_messages or float("inf"))
            assert slot.expires_at is None or self.now < slot.expires_at
            assert self.now >= self.state.lessons.paused_until
        assert self.picture() == before
        self.settle()

    @precondition(lambda self: self.busy())
    @rule(data=st.data(), twice=st.booleans())
    def one_is_given_up(self, data, twice):
        slot = one_of(data, self.busy())
        del self.held[slot]
        policy.give_up(self.state, slot, "broken")
        if twice:
            policy.give_up(self.state, slot, "broken")
            policy.put_back(self.state, slot, 0, self.now)
        self.settle()

    @precondition(lambda self: self.busy())
    @rule(data=st.data())
    def one_was_stale(self, data):
        slot = one_of(data, self.busy())
        del self.held[slot]
        policy.died_idle(self.state, slot, self.now)
        policy.suspect(self.state, slot)
        assert all(other.idle_since > slot.idle_since for other in self.state.idle)
        self.settle()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def somebody_is_no_more(self, data):
        """An interrupt took him, and all he had, before he could give it back."""
        slot = one_of(data, list(self.held))
        del self.held[slot]
        self.settle()
        assert not self.state.is_out(slot)

    @precondition(lambda self: self.leaving)
    @rule(data=st.data())
    def a_server_lets_go(self, data):
        slot = one_of(data, self.leaving)
        self.gone(slot)
        policy.left(self.state, slot, self.now)
        self.settle()

    @precondition(lambda self: self.held)
    @rule(data=st.data(), sender=st.sampled_from(["a@example.com", "b@example.com"]))
    def the_server_wants_a_pause(self, data, sender):
        slot = one_of(data, list(self.held))
        error = refusal(DataRefused, Reply(code=454, lines=(b"4.7.0 later",)), stage=Stage.CONTENT)
        policy.learn(self.state, slot, error, self.now, sender)
        assert self.state.lessons.paused_until - self.now <= self.state.options.acquire_timeout / 2
        self.settle()

    @precondition(lambda self: self.dialling())
    @rule(data=st.data())
    def a_login_is_refused(self, data):
        slot = one_of(data, self.dialling())
        del self.held[slot]
        error = refusal(AuthRefused, Reply(code=535, lines=(b"5.7.8 no",)), stage=Stage.AUTH)
        policy.learn(self.state, slot, error, self.now)
        policy.dial_failed(self.state, slot, self.now)
        self.settle()

    @precondition(lambda self: self.dialling())
    @rule(data=st.data())
    def one_more_is_too_many(self, data):
        slot = one_of(data, self.dialling())
        del self.held[slot]
        error = refusal(DataRefused, Reply(code=421, lines=(b"4.7.0 too many",)), stage=Stage.GREETING)
        policy.learn(self.state, slot, error, self.now)
        policy.dial_failed(self.state, slot, self.now)
        self.settle()

    @rule(number=st.integers(0, 3))
    def the_pool_before_this_one_has_connections(self, number):
        self.state.others_can_hurry = True
        self.state.others = min(number, max(0, self.state.ceiling - self.state.occupied + self.state.others))
        self.settle()

    @rule(seconds=st.sampled_from([0.0, 0.9, 1.0, 4.9, 5.0, 31.0, 61.0, 700.0]))
    def time_passes(self, seconds):
        due = policy.next_look(self.state, self.now)
        if due is None or due > self.now + seconds:
            before = self.picture()
            self.now += seconds
            assert decided(self.state, self.now) == [], "nobody would have looked in time"
            assert self.picture() == before
        else:
            self.now += seconds
        self.settle()

    @rule()
    def somebody_looks_when_told_to(self):
        due = policy.next_look(self.state, self.now)
        if due is not None:
            self.now = due
            self.settle()

    def picture(self):
        return list(self.state.idle), self.state.out, list(self.state.leaving), list(self.state.waiting)

    @rule(jump=st.sampled_from([0.0, 5.0, -5.0, 11.0, -11.0]))
    def the_clocks_are_compared(self, jump):
        known = self.state.clock_offset
        policy.look_at_clocks(self.state, self.now, self.now + (known or 0.0) + jump)
        assert known is None or abs(jump) < 10 or not self.state.idle
        self.settle()

    @rule(ceiling=st.integers(1, 5))
    def the_ceiling_changes(self, ceiling):
        self.state.ceiling = ceiling
        self.ceiling_changed = True
        self.settle()

    @precondition(lambda self: not self.state.closed)
    @rule()
    def the_pool_is_closed(self):
        self.state.closed = True
        self.settle()

    # Doing what was decided

    def settle(self):
        while actions := decided(self.state, self.now):
            refused = [self.do(action) for action in actions]
            if not any(refused):
                break
        assert decided(self.state, self.now) == [], "it is not settled"

    def do(self, action):
        if isinstance(action, Lend):
            return self.grant(action.waiter, action.slot)
        if isinstance(action, Refuse):
            if self.state.closed:
                assert isinstance(action.error, PoolClosed)
            else:
                assert isinstance(action.error, AuthRefused)
                assert action.waiter.fresh or not self.state.alive, "one that works may come back"
            assert self.line.pop(0) is action.waiter
        elif isinstance(action, Close):
            assert action.slot.connection in self.connections, "closed twice, or never open"
            assert action.slot in self.state.leaving
            self.leaving.append(action.slot)
        elif isinstance(action, Sever):
            assert action.slot not in self.state.leaving
            self.gone(action.slot)
        elif not isinstance(action, Hurry):
            assert isinstance(action, DialSpare)
            assert action.slot not in self.held
            self.held[action.slot] = action
        return False

    def gone(self, slot):
        self.leaving.remove(slot)
        self.connections.remove(slot.connection)
        self.closed.add(slot.connection)

    def grant(self, waiter, slot):
        assert self.line.pop(0) is waiter, "somebody jumped the line"
        assert slot not in self.held, "two own one slot"
        assert not (waiter.fresh and slot.connection), "this one has carried messages"
        if not waiter.gone:
            self.held[slot] = waiter
            return False
        if slot.connection is None:
            policy.give_up(self.state, slot, "not needed")
        else:
            policy.put_back(self.state, slot, slot.messages, slot.idle_since)
        return True

    def give_back(self, slot, messages):
        del self.held[slot]
        policy.put_back(self.state, slot, messages, self.now)
        self.settle()

    def new_waiter(self, fresh):
        self.count += 1
        return Waiter(self.count, fresh=fresh)

    def dialling(self):
        return [slot for slot in self.held if slot.connection is None]

    def busy(self):
        return [slot for slot in self.held if slot.connection is not None]

    def is_worn(self, slot):
        options = self.state.options
        too_old = slot.expires_at is not None and self.now >= slot.expires_at
        kept = self.state.occupied <= options.min_connections and self.now - self.state.used_at < retirement.IN_USE
        unused = options.idle_timeout and self.now >= slot.idle_since + options.idle_timeout
        return too_old or (unused and not kept)

    # What always holds

    @invariant()
    def the_ceiling_is_a_ceiling(self):
        """Also as the server counts it: with those that say QUIT, and those of the pool before."""
        if not self.ceiling_changed:
            assert self.state.occupied <= self.state.ceiling
            assert len(self.connections) + len(self.state.dialling) + self.state.others <= self.state.ceiling

    @invariant()
    def every_slot_has_one_owner(self):
        assert set(self.state.everything_out()) == set(self.held)
        assert not set(self.held) & set(self.state.idle)
        assert list(self.state.leaving) == [slot for slot in self.leaving if slot in self.state.leaving]

    @invariant()
    def every_connection_is_somewhere(self):
        slots = [*self.state.idle, *self.state.busy, *self.state.leaving]
        assert sorted(slot.connection for slot in slots) == sorted(self.connections)
        assert not self.closed & self.connections

    @invariant()
    def the_line_is_the_line(self):
        assert list(self.state.waiting) == self.line

    @invariant()
    def a_waiter_has_a_next_event_or_a_next_look(self):
        """A pause, a goodbye that is not answered, a probe: each ends by itself, and somebody looks at that moment."""
        if not self.line:
            return
        assert not self.state.closed
        lessons, due = self.state.lessons, policy.next_look(self.state, self.now)
        if self.now < lessons.paused_until:
            assert due <= lessons.paused_until
            return
        assert not self.state.idle or self.line[0].fresh
        if self.state.occupied < self.state.ceiling_in_force:
            assert not lessons.may_log_in(self.now)
            assert self.state.busy
            assert due <= lessons.probe_at
        elif self.state.leaving:
            assert due <= self.now + GRACE
        elif self.state.ceiling_in_force < self.state.ceiling:
            assert due <= lessons.raise_at
        else:
            assert self.state.out or self.state.others

    @invariant()
    def a_closed_pool_keeps_nothing(self):
        if self.state.closed:
            assert not self.state.idle

    @invariant()
    def places_are_what_they_are(self):
        assert all(slot.place is Place.IDLE for slot in self.state.idle)
        assert all((slot.place is Place.DIALLING) == (slot.connection is None) for slot in self.held)

    @invariant()
    def nothing_idle_is_worn_out(self):
        assert not [slot for slot in self.state.idle if self.is_worn(slot)]
        # Dials under way beyond a lowered ceiling close nothing: they may fail.
        assert not self.state.idle or self.state.alive <= self.state.ceiling_in_force

    @invariant()
    def somebody_looks_again_in_time(self):
        due = policy.next_look(self.state, self.now)
        expiries = [slot.expires_at or math.inf for slot in self.state.idle]
        assert due is None or due > self.now
        assert min(expiries, default=math.inf) == math.inf or due <= min(expiries)


PoolMachine.TestCase.settings = settings(max_examples=300, stateful_step_count=40)


class TestPolicy(PoolMachine.TestCase):
    """Run the machine."""


# In particular


def settled(state, now=1000.0):
    return decided(state, now)


def idle_slot(state, *, since, number):
    slot = Slot()
    state.dialling.add(slot)
    policy.connected(state, slot, number, None)
    policy.put_back(state, slot, 1, since)
    return slot


def state_with(*idle_since, **options):
    kept = PoolOptions(**{"max_connections": 5, "idle_timeout": 0, **options})
    state = State(options=kept, ceiling=kept.max_connections)
    for number, since in enumerate(idle_since):
        idle_slot(state, since=since, number=number)
    return state


def test_the_connection_used_last_is_used_next():
    state = state_with(990.0, 995.0, 999.0)
    policy.queue_up(state, Waiter(1), 1000.0)
    (grant,) = settled(state)
    assert grant.slot.idle_since == 999.0


def test_an_idle_connection_is_preferred_to_a_new_one():
    state = state_with(999.0)
    policy.queue_up(state, Waiter(1), 1000.0)
    policy.queue_up(state, Waiter(2), 1000.0)
    assert [action.slot.connection for action in settled(state)] == [0, None]


def test_a_lowered_ceiling_closes_the_connections_unused_for_longest():
    state = state_with(990.0, 995.0, 999.0)
    state.lessons.ceiling = 1
    assert [(action.slot.idle_since, action.reason) for action in settled(state)] == [
        (990.0, "ceiling lowered"),
        (995.0, "ceiling lowered"),
    ]


def test_spares_are_dialled_one_at_a_time_while_the_pool_is_in_use():
    state = state_with(min_connections=3)
    state.used_at = 1000.0
    (dial,) = settled(state)
    assert isinstance(dial, DialSpare)
    assert settled(state) == []
    policy.connected(state, dial.slot, 1, None)
    assert [type(action) for action in settled(state)] == [DialSpare]


def test_no_spare_is_dialled_for_a_pool_out_of_use():
    state = state_with(min_connections=3)
    state.used_at = 1000.0 - retirement.IN_USE
    assert settled(state) == []


def test_a_spare_that_failed_is_not_dialled_again_at_once():
    """A server that is down would be dialled as fast as it refuses."""
    state = state_with(min_connections=1)
    state.used_at = 1000.0
    (dial,) = settled(state)
    policy.dial_failed(state, dial.slot, 1000.0)
    assert settled(state, 1001.0) == []
    assert [type(action) for action in settled(state, 1000.0 + spares.SPARE_PAUSE)] == [DialSpare]


def test_goodbyes_that_have_had_their_time_make_room_together():
    """A ceiling that has become lower needs more than one of their places."""
    state = state_with(998.0, 999.0, max_connections=2)
    retirement.retire_idle(state, "stale")
    settled(state)
    state.ceiling = 1
    policy.queue_up(state, Waiter(1), 1000.0 + GRACE)
    assert [type(action) for action in settled(state, 1000.0 + GRACE)] == [Sever, Sever, Lend]


def test_somebody_looks_when_a_raised_ceiling_has_room_for_a_spare():
    state = state_with(999.0, min_connections=2, max_connections=2)
    state.used_at = 1000.0
    (dial,) = settled(state)
    too_many = refusal(DataRefused, Reply(code=421, lines=(b"4.7.0 too many",)), stage=Stage.GREETING)
    policy.learn(state, dial.slot, too_many, 1000.0)
    policy.dial_failed(state, dial.slot, 1000.0)
    assert settled(state) == []
    due = policy.next_look(state, 1000.0)
    assert due == state.lessons.raise_at
    assert [type(action) for action in settled(state, due)] == [DialSpare]
