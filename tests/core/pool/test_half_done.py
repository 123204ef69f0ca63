"""An interrupt between any two lines of a decision: the next thread completes it, and no slot has two borrowers."""

import itertools

import pytest

from django_smtp_pool.core.options.options import PoolOptions
from django_smtp_pool.core.pool import policy, retirement
from django_smtp_pool.core.pool.slots import Close, Lend, Place, Slot
from django_smtp_pool.core.pool.state import State
from django_smtp_pool.core.pool.waiters import Waiter
from tests.core.fakes import FakeConnection
from tests.interrupts import Interrupting

NOW = 1000.0


def state_with(*, idle):
    state = State(options=PoolOptions(max_connections=1), ceiling=1)
    if idle:
        slot = Slot(since=NOW, place=Place.IDLE, connection=FakeConnection(), idle_since=NOW)
        state.idle[slot] = None
    return state


def interrupted_at(step, function, *arguments):
    """Return whether an interrupt came at this step of a call; if not, the call has fewer steps."""
    try:
        Interrupting(step, KeyboardInterrupt()).run(function, *arguments)
    except KeyboardInterrupt:
        return True
    return False


def containers(state, slot):
    return [slot in each for each in (state.idle, state.busy, state.dialling, state.leaving)].count(True)


@pytest.mark.parametrize("is_used_meanwhile", [False, True])
@pytest.mark.parametrize("idle", [True, False])
def test_a_slot_that_is_being_granted_has_one_borrower(idle, is_used_meanwhile):
    for step in itertools.count():
        state, waiters = state_with(idle=idle), [Waiter(), Waiter()]
        for waiter in waiters:
            policy.queue_up(state, waiter, NOW)
        if not interrupted_at(step, policy.decide, state, NOW):
            break
        lends = list(state.todo)
        if is_used_meanwhile:  # another thread carries out what was decided, before anybody takes the lock again
            state.todo.clear()
        state.complete()
        policy.decide(state, NOW)
        lends += [action for action in state.todo if action not in lends]
        slot = lends[0].slot
        assert {type(action) for action in lends} == {Lend}
        assert {action.waiter for action in lends} == {waiters[0]}
        assert {action.slot for action in lends} == {slot}
        assert (list(state.waiting), state.own, containers(state, slot)) == ([waiters[1]], 1, 1)
        assert slot.is_lent_to(waiters[0])
        assert state.half_done is None
    assert step > 15


def test_a_slot_that_is_lent_at_once_has_one_borrower_who_can_give_it_up():
    for step in itertools.count():
        state, waiter = state_with(idle=True), Waiter()
        (slot,) = state.idle
        if not interrupted_at(step, policy.lend_at_once, state, waiter, NOW):
            break
        state.complete()
        is_lent = slot.is_lent_to(waiter)
        assert (containers(state, slot), slot in state.busy, state.half_done) == (1, is_lent, None)
        policy.drop(state, waiter)
        assert (containers(state, slot), slot in state.leaving) == (1, is_lent)
    assert step > 10


def test_a_slot_that_is_being_closed_is_closed():
    for step in itertools.count():
        state = state_with(idle=True)
        (slot,) = state.idle
        if not interrupted_at(step, retirement.close, state, slot, "drained"):
            break
        waiter = Waiter()
        policy.queue_up(state, waiter, NOW)
        state.complete()
        policy.decide(state, NOW)
        is_closed = slot in state.leaving
        assert (state.own, containers(state, slot), is_closed) == (1, 1, step > 1)
        assert {type(action) for action in state.todo} == {Close if is_closed else Lend}
    assert step > 8
