"""Close pools: messages under way may finish, waiters get an error, and no thread waits for itself."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from functools import partial
from typing import NamedTuple

from ..clock import Alarm, Clock
from ..errors import PoolClosed
from ..interrupts import is_defect
from .shared_state import SharedState
from .waiters import Waiter

_numbers = itertools.count()
# The sends and batches that the running code is part of, as numbers: a receiver may run in another thread. A context
# may live for longer than the send, so it must not hold a reference to the message.
_inside: ContextVar[tuple[int, ...]] = ContextVar("django_smtp_pool_uses", default=())


class Use(NamedTuple):
    """A send or a batch under way, which began in a thread."""

    thread: int
    number: int

    @property
    def is_own(self) -> bool:
        """Whether the running code is part of it, or runs in the same thread."""
        return self.thread == threading.get_ident() or self.number in _inside.get()


def closed() -> PoolClosed:
    """Return the error for what a closed pool no longer does."""
    return PoolClosed("the pool was closed")


class Closing(SharedState):
    """The part of a pool that knows its users, and closes it."""

    def _start_over(self) -> None:
        super()._start_over()
        # Sends and batches under way; weak, since an interrupt may keep one from ending as it should.
        self._users: dict[weakref.ref[object], Use] = {}
        self._is_being_judged = False  # whether `close_if_unused` looks for users at the moment
        self._naps: set[Waiter] = set()  # the waiters of lives that wait for time to pass
        self._closes_at: float | None = None  # instant (monotonic) until which the users may go on

    def begin(self, use: object) -> bool:
        """Record that a send or a batch begins in this thread; `close` lets it finish.

        Return False if the pool is closed already; then the caller needs another pool.
        """
        number = next(_numbers)
        self._users[weakref.ref(use, self._forget)] = Use(threading.get_ident(), number)
        # In this order: `close_if_unused` says first that it will look, and then looks.
        if self._is_being_judged and not self._is_inside:
            with self._lock:  # until it has decided
                pass
        if self._state.closed:
            self.end(use)
            return False
        _inside.set((*_inside.get(), number))
        return True

    def end(self, use: object) -> None:
        """Record that a send or a batch has ended."""
        self._forget(weakref.ref(use))

    def _forget(self, use: weakref.ref[object]) -> None:
        ended = self._users.pop(use, None)
        if ended is not None:
            _inside.set(tuple([each for each in _inside.get() if each != ended.number]))
            if self._state.spared and ended.thread not in {each.thread for each in self._uses}:
                self._state.spared.discard(ended.thread)
        if self._closes_at is not None:
            self._wake_all()

    @property
    def _uses(self) -> tuple[Use, ...]:
        return tuple(self._users.copy().values())  # a use may be forgotten at any moment

    @property
    def is_in_use(self) -> bool:
        """Whether the pool has a connection, a waiter or a user."""
        return bool(self._state.own or self._state.waiting or self._users)

    def announce_close(self, timeout: float) -> None:
        """Announce that the pool will be closed; sends and batches under way may continue for so many seconds."""
        self._closes_at = self._clock.monotonic() + timeout

    def close(self, timeout: float = 10.0) -> None:
        """Close the pool: let messages and batches finish, also those that wait for a connection; send QUIT.

        Arguments:
            timeout: seconds to wait for them. After that, waiting messages are refused, and deliveries under way may
                still finish. The message or batch that the calling code is part of is not waited for.
        """
        close_together([self], timeout, self._clock)

    def close_if_unused(self) -> bool:
        """Close the pool unless other sends and batches are under way; return whether it is closed."""
        with self._lock:
            self._is_being_judged = True
            is_closed = self._state.closed = self._state.closed or not self._others_use_it()
            self._is_being_judged = False
        if is_closed:
            self.shut()
        else:
            self._carry_out_late()
        return is_closed

    def shut(self) -> None:
        """Close the pool at once, without notifying observers yet."""
        self._change(self._shut)

    def _shut(self) -> None:
        # Called from inside a send, which goes on after this.
        self._state.spared |= {use.thread for use in self._uses if use.is_own}
        self._state.closed = True
        for waiter in tuple(self._naps):
            self._late.append(partial(waiter.refuse, closed()))

    @property
    def is_closed(self) -> bool:
        """Whether the pool is closed; the next message needs a fresh pool."""
        return self._state.closed

    def _others_use_it(self) -> bool:
        uses = self._uses
        if not all(use.is_own for use in uses):
            return True
        own = {threading.get_ident(), *(use.thread for use in uses)}
        threads = [slot.thread for slot in self._state.everything_out()]
        threads += [waiter.blocks or waiter.holder for waiter in self._state.waiting]
        return any(thread not in own for thread in threads)

    def wait_until_closed(self) -> bool:
        """Wait if the pool is about to be closed; return whether it is closed now.

        Code that is part of a send does not wait: it may go on as long as the pool is open. To ask counts as use: the
        message is perhaps not rendered yet.
        """
        self._state.used_at = self._clock.monotonic()
        if self._closes_at is not None and self.is_about_to_close and not self._is_inside:
            _wait_while(lambda: not self.is_closed, [self], self._closes_at - self._clock.monotonic(), self._clock)
        return self._state.closed

    @property
    def is_about_to_close(self) -> bool:
        """Whether the pool will be closed soon, and the running code is not part of a send that uses it."""
        if self._closes_at is None or self.is_closed:
            return False
        return not any(use.is_own for use in self._uses)

    def wait_for_farewells(self, seconds: float) -> None:
        """Wait until the server has answered every QUIT, at most for so many seconds.

        Code that has interrupted the pool's own code does not wait, since no answer could be recorded meanwhile.
        """
        if not self._is_inside:
            _wait_while(self._are_leaving, [self], seconds, self._clock)

    def _are_leaving(self) -> bool:
        return any(each._state.leaving for each in tuple(self._generations))

    def naps(self, waiter: Waiter) -> None:
        """Refuse a waiter, with PoolClosed, as soon as the pool is closed; until `wakes`."""
        self._naps.add(waiter)
        if self.is_closed:
            waiter.refuse(closed())

    def wakes(self, waiter: Waiter) -> None:
        """Forget a waiter that no longer waits for time to pass."""
        self._naps.discard(waiter)


def close_together(pools: Sequence[Closing], timeout: float, clock: Clock) -> None:
    """Close pools: each as soon as no other code uses it, and all of them after `timeout` seconds.

    If this thread has interrupted the own code of one of them, they are closed after that code has ended.
    """
    if put_off(pools, partial(close_soon, lambda: pools, partial(close_together, pools, clock=clock), timeout)):
        return
    try:
        for pool in pools:
            pool.announce_close(timeout)
        _wait_while(lambda: _are_used(pools), pools, timeout, clock)
    finally:  # also after an interrupt: what was announced is done
        _shut_all(iter(pools))
    for pool in pools:
        pool._tell_if_free()


def _are_used(pools: Iterable[Closing]) -> bool:
    """Close the pools that nothing else uses, and return whether others are left."""
    return bool([pool for pool in pools if not pool.close_if_unused()])


def _wait_while(condition: Callable[[], bool], pools: Iterable[Closing], seconds: float, clock: Clock) -> None:
    """Wait as long as a condition holds, at most so many seconds; it is checked after each change of the pools."""
    alarm, until = Alarm(), clock.monotonic() + seconds
    try:
        for pool in pools:
            pool._alarms.add(alarm)
        while (left := until - clock.monotonic()) > 0 and condition():
            alarm.wait(clock, left)
    finally:
        for pool in pools:
            pool._alarms.discard(alarm)


def _shut_all(pools: Iterator[Closing]) -> None:
    """Shut pools; an interrupt that occurs meanwhile is raised when all are shut."""
    for pool in pools:
        try:
            pool.shut()
        except BaseException:
            _shut_all(pools)
            raise


def put_off(pools: Iterable[Closing], request: Callable[[], None]) -> bool:
    """Carry out a request later if this thread is inside one of these pools; return whether it is."""
    for pool in pools:
        if pool._is_inside:
            pool._late.append(request)
            return True
    return False


def close_soon(pools: Callable[[], Sequence[Closing]], close: Callable[[float], None], timeout: float) -> None:
    """Carry out a `close` that had to wait for a lock; the caller may be sending a message, and must not wait for it.

    Arguments:
        pools: returns the pools to close.
        close: closes them; takes the timeout.
    """
    used = [pool for pool in pools() if not pool.close_if_unused()]
    if not used:
        return
    try:
        for pool in used:
            pool.announce_close(timeout)
        threading.Thread(target=close, args=(timeout,), name="django-smtp-pool-close", daemon=True).start()
    except Exception as error:
        if not is_defect(error):
            raise
        close(0)
