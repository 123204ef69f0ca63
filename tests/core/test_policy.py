"""Who gets which connection when: a state machine tries everything in every order."""

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from django_smtp_pool.core.errors import PoolClosed
from django_smtp_pool.core.options.options import PoolOptions
from django_smtp_pool.core.pool import policy
from django_smtp_pool.core.pool.policy import Close, Dial, Grant, Place, Refuse, State


class Waiter:
    """Somebody in line."""

    blocks = holder = None
    fresh = False

    def __init__(self, number):
        self.number = number
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
        self.closed = set()
        self.count = 0

    # What happens

    @rule(first=st.booleans())
    def somebody_comes(self, first):
        waiter = self.new_waiter()
        self.line.insert(0 if first else len(self.line), waiter)
        policy.queue_up(self.state, waiter, self.now, first=first)
        self.settle()

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def somebody_is_gone_before_he_hears(self, data):
        """He stays in line, as one does who has not got the lock yet."""
        data.draw(st.sampled_from(self.line)).gone = True

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def somebody_leaves_the_line(self, data):
        waiter = data.draw(st.sampled_from(self.line))
        self.line.remove(waiter)
        self.state.waiting.remove(waiter)

    @precondition(lambda self: self.dialling())
    @rule(data=st.data(), lifetime=st.sampled_from([None, 3.0, 30.0]))
    def a_dial_succeeds(self, data, lifetime):
        slot = data.draw(st.sampled_from(self.dialling()))
        self.count += 1
        self.connections.add(self.count)
        policy.connected(self.state, slot, self.count, None if lifetime is None else self.now + lifetime)
        if isinstance(self.held[slot], Dial):
            self.give_back(slot, 0)

    @precondition(lambda self: self.dialling())
    @rule(data=st.data())
    def a_dial_fails(self, data):
        slot = data.draw(st.sampled_from(self.dialling()))
        del self.held[slot]
        policy.dial_failed(self.state, slot, self.now)
        self.settle()

    @precondition(lambda self: self.busy())
    @rule(data=st.data(), more=st.integers(0, 1))
    def one_comes_back(self, data, more):
        slot = data.draw(st.sampled_from(self.busy()))
        self.give_back(slot, slot.messages + more)

    @precondition(lambda self: self.busy())
    @rule(data=st.data(), twice=st.booleans())
    def one_is_given_up(self, data, twice):
        slot = data.draw(st.sampled_from(self.busy()))
        del self.held[slot]
        policy.give_up(self.state, slot, "broken")
        if twice:
            policy.give_up(self.state, slot, "broken")
            policy.put_back(self.state, slot, 0, self.now)
        self.settle()

    @precondition(lambda self: self.busy())
    @rule(data=st.data())
    def one_was_stale(self, data):
        slot = data.draw(st.sampled_from(self.busy()))
        del self.held[slot]
        policy.give_up(self.state, slot, "stale")
        policy.suspect(self.state, slot)
        assert all(other.idle_since > slot.idle_since for other in self.state.idle)
        self.settle()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def somebody_is_no_more(self, data):
        """An interrupt took him, and all he had, before he could give it back."""
        slot = data.draw(st.sampled_from(list(self.held)))
        del self.held[slot]
        self.settle()
        assert slot not in self.state.out

    @rule(seconds=st.sampled_from([0.0, 1.0, 4.9, 5.0, 61.0, 700.0]))
    def time_passes(self, seconds):
        due = policy.next_look(self.state, self.now)
        self.now += seconds
        worn = [slot for slot in self.state.idle if self.is_worn(slot)]
        assert not worn or (due is not None and due <= self.now), "nobody would have looked in time"
        self.settle()

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
        while actions := policy.decide(self.state, self.now):
            refused = [self.do(action) for action in actions]
            if not any(refused):
                break
        assert policy.decide(self.state, self.now) == [], "it is not settled"

    def do(self, action):
        if isinstance(action, Grant):
            return self.grant(action.waiter, action.slot)
        if isinstance(action, Refuse):
            assert self.state.closed
            assert isinstance(action.error, PoolClosed)
            assert self.line.pop(0) is action.waiter
        elif isinstance(action, Close):
            assert action.slot.connection in self.connections, "closed twice, or never open"
            self.connections.remove(action.slot.connection)
            self.closed.add(action.slot.connection)
        else:
            assert isinstance(action, Dial)
            assert action.slot not in self.held
            self.held[action.slot] = action
        return False

    def grant(self, waiter, slot):
        assert self.line.pop(0) is waiter, "somebody jumped the line"
        assert slot not in self.held, "two own one slot"
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

    def new_waiter(self):
        self.count += 1
        return Waiter(self.count)

    def dialling(self):
        return [slot for slot in self.held if slot.connection is None]

    def busy(self):
        return [slot for slot in self.held if slot.connection is not None]

    def is_worn(self, slot):
        options = self.state.options
        too_old = slot.expires_at is not None and self.now >= slot.expires_at
        kept = self.state.occupied <= options.min_connections and self.now - self.state.used_at < policy.IN_USE
        unused = options.idle_timeout and self.now >= slot.idle_since + options.idle_timeout
        return too_old or (unused and not kept)

    # What always holds

    @invariant()
    def the_ceiling_is_a_ceiling(self):
        if not self.ceiling_changed:
            assert self.state.occupied <= self.state.ceiling

    @invariant()
    def every_slot_has_one_owner(self):
        assert self.state.out == set(self.held)
        assert not self.state.out & set(self.state.idle)
        assert len(set(self.state.idle)) == len(self.state.idle)

    @invariant()
    def every_connection_is_somewhere(self):
        inside = [slot.connection for slot in [*self.state.idle, *self.state.out] if slot.connection is not None]
        assert sorted(inside) == sorted(self.connections)
        assert not self.closed & self.connections

    @invariant()
    def the_line_is_the_line(self):
        assert list(self.state.waiting) == self.line

    @invariant()
    def nobody_waits_for_nothing(self):
        if self.line:
            assert not self.state.idle
            assert self.state.occupied >= self.state.ceiling
            assert not self.state.closed

    @invariant()
    def a_closed_pool_keeps_nothing(self):
        if self.state.closed:
            assert not self.state.idle

    @invariant()
    def places_are_what_they_are(self):
        assert all(slot.place is Place.IDLE for slot in self.state.idle)
        assert all((slot.place is Place.DIALLING) == (slot.connection is None) for slot in self.state.out)

    @invariant()
    def nothing_idle_is_worn_out(self):
        assert not [slot for slot in self.state.idle if self.is_worn(slot)]
        # Dials under way beyond a lowered ceiling close nothing: they may fail.
        assert not self.state.idle or self.state.alive <= self.state.ceiling

    @invariant()
    def somebody_looks_again_in_time(self):
        due = policy.next_look(self.state, self.now)
        expiries = [slot.expires_at or math.inf for slot in self.state.idle]
        assert due is None or due > self.now
        assert min(expiries, default=math.inf) == math.inf or due <= min(expiries)


PoolMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=30)


class TestPolicy(PoolMachine.TestCase):
    """Run the machine."""


# In particular


def settled(state, now=1000.0):
    return policy.decide(state, now)


def idle_slot(state, *, since, number):
    slot = policy.Slot()
    state.out.add(slot)
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
    state.ceiling = 1
    assert [(action.slot.idle_since, action.reason) for action in settled(state)] == [
        (990.0, "ceiling lowered"),
        (995.0, "ceiling lowered"),
    ]


def test_spares_are_dialled_one_at_a_time_while_the_pool_is_in_use():
    state = state_with(min_connections=3)
    state.used_at = 1000.0
    (dial,) = settled(state)
    assert isinstance(dial, Dial)
    assert settled(state) == []
    policy.connected(state, dial.slot, 1, None)
    assert [type(action) for action in settled(state)] == [Dial]


def test_no_spare_is_dialled_for_a_pool_out_of_use():
    state = state_with(min_connections=3)
    state.used_at = 1000.0 - policy.IN_USE
    assert settled(state) == []


def test_a_spare_that_failed_is_not_dialled_again_at_once():
    """A server that is down would be dialled as fast as it refuses."""
    state = state_with(min_connections=1)
    state.used_at = 1000.0
    (dial,) = settled(state)
    policy.dial_failed(state, dial.slot, 1000.0)
    assert settled(state, 1001.0) == []
    assert [type(action) for action in settled(state, 1000.0 + policy.SPARE_PAUSE)] == [Dial]
