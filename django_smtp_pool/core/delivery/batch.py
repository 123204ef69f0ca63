"""Send many messages over several connections, in one thread or one event loop.

    attend    runs the caller's code: renders the next message, and reports each message that has its outcome
    work      gets a connection, delivers the next message over it, and starts again; one worker per connection

All of them are generators, and a driver runs them side by side in the caller's thread. There are no other threads, so
the caller's code sees its own locale, database connection and context variables. Workers have priority: the caller's
code runs only when no worker can go on, so it never delays giving back a connection.

A worker gets its connection before it takes a message: while one connection is being opened, another worker may send
that message. Only one worker at a time waits in the pool's line, so other threads get their connections in between.

If a worker gets no connection while others work, the batch uses fewer workers for a while, and no message fails. If
no worker gets one, that counts as a failed attempt of the next message, which is retried as usual. If that message
fails for a reason that concerns all messages, the batch stops, and the remaining messages are not tried.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import Any

from ..clock import Clock
from ..errors import Outcome, PoolFull, is_failure, let_go
from ..events.events import Finished
from ..interrupts import from_signal_handler
from ..needs import NEVER, Bell, Call, Life, Need, Sleep, Turn
from ..pool.waiters import starved
from ..smtp.envelope import Envelope
from .delivery import Delivery
from .life import Service, judged, live
from .loan import Loan
from .retry import concerns_all

AHEAD = 2**20  # bytes; no further message is rendered while this much waits for a connection
SMALL = 8192  # octets of a message that the kernel takes at once, so that writing it holds up nothing
FIRST_BREAK = 1.0  # seconds with fewer workers, after one got no connection while others worked; doubles each time
LONGEST_BREAK = 30.0

_NO_MORE: Any = object()
_LATER: Any = object()

# Takes (token, delivery); in an event loop, what it returns is awaited.
Finish = Callable[[Any, Delivery], Awaitable[None] | None]


class Batch:
    """The messages of one call.

    Arguments:
        envelopes: (token, envelope) pairs. The next pair is requested only shortly before it is needed, so a generator
            of a million messages is never held in a list. None between them means that the next pair is slow to make.
        finish: called with each message when its outcome is known and its connection is back in the pool.
        connections: the maximum number to use at once; 1 keeps the order.
        may_nest: whether `finish` may send mail itself: then a connection is left free for it until it has been called.
        clock: the clock of the driver that runs the generators.
        in_loop: whether an event loop runs them, so the rest of this thread continues meanwhile.
    """

    def __init__(
        self,
        service: Service,
        envelopes: Iterable[tuple[Any, Envelope] | None],
        finish: Finish,
        connections: int,
        *,
        may_nest: bool,
        clock: Clock,
        in_loop: bool = False,
    ) -> None:
        self._service = service
        self._source: Iterator[tuple[Any, Envelope] | None] | None = iter(envelopes)
        self._next_is_slow = False
        self._finish = finish
        self._limit = connections
        self._may_nest = may_nest
        self._clock = clock
        self._holder = threading.get_ident()
        self._in_loop = in_loop
        # No code of the caller learns of an outcome: then recording it takes no time.
        self._is_quiet = not (may_nest or in_loop or service.observer.hears(Finished))
        self._ready: deque[Delivery] = deque()
        self._has_stopped = False
        self._loans: dict[Loan, None] = {}  # loans without a message yet
        self._under_way: dict[Delivery, None] = {}
        self._ended: deque[Delivery] = deque()
        self._narrow_to = connections
        self._narrow_until = NEVER  # instant (monotonic) of the system's clock
        self._next_break = FIRST_BREAK
        self._attention = Bell()
        self._idle: dict[Bell, None] = {}  # the bells of workers that wait until they may start
        self._woken = 0  # workers that have been woken and have not gone on yet
        self.error: Exception | None = None  # raised by the caller's source, which then has no more messages

    def generators(self) -> list[Life[None]]:
        """Return the generators to run side by side; the batch is over when the first of them has ended."""
        return [self._attend(), *(self._work() for _ in range(self._limit))]

    # -- the caller's code -----------------------------------------------------------------------------

    def _attend(self) -> Life[None]:
        while True:
            if self._ended:
                if self._is_quiet:
                    self._tell()
                else:
                    self._wake_worker()
                    yield Call(self._tell, is_quick=True)
                self._offer()
            elif self._service.pool.has_news:
                self._wake_worker()
                yield Call(self._service.pool.tell)
            elif self._wants_message:
                yield from self._render()
            elif self._is_over:
                break
            else:
                self._wake_worker()
                self._attention.served = False
                yield self._until_rung(self._attention)

    @property
    def _is_over(self) -> bool:
        return self._source is None and not (self._ready or self._under_way or self._ended)

    @property
    def _wants_message(self) -> bool:
        has_room = self._source is not None and len(self._ready) < self._limit
        return has_room and (not self._ready or sum(each.envelope.content.size for each in self._ready) < AHEAD)

    def _render(self) -> Life[None]:
        """Render the next message, so that it is ready when a connection is."""
        if self._source is None:
            return
        try:  # in an event loop, a slow message is rendered in a thread, which touches nothing else
            found = yield Call(partial(self._next, self._source), is_quick=not self._next_is_slow)
        except Exception as error:
            if from_signal_handler(error):
                raise
            self._source, self.error = None, error  # raised when the messages under way have their outcome
            return
        if found is _NO_MORE:
            self._source = None
        elif found is not _LATER and self._source is not None:  # the batch may have stopped meanwhile
            self._next_is_slow = found is None
            if found is not None:
                self._ready.append(Delivery(token=found[0], envelope=found[1]))
                self._offer()

    def _next(self, source: Iterator[tuple[Any, Envelope] | None]) -> Any:
        """Return the next pair, unless a message that is ready has waited: then a worker starts with it first."""
        if not self._in_loop and self._wake_worker():
            return _LATER
        return next(source, _NO_MORE)

    def _offer(self) -> None:
        """Wake a worker for a message that is ready, or wait until the sockets have been read once more.

        A busy worker that has its reply by then sends the message over its own connection, which costs less. But the
        driver makes no call while a worker writes, and so the message would have to wait for a large one.
        """
        sizes = [each.envelope.content.size for each in self._under_way]
        if self._in_loop or self._may_nest or not sizes or max(sizes) > SMALL:
            self._wake_worker()

    def _tell(self) -> Awaitable[None] | None:
        told = self._report(self._ended[0])
        self._ended.popleft()  # not earlier: an interrupt must not hide the outcome
        return told

    def _report(self, delivery: Delivery) -> Awaitable[None] | None:
        try:
            self._service.finish(delivery)
        finally:  # an interrupt in a log handler must not hide the outcome
            told = self._finish(delivery.token, delivery)
        return told

    # -- the workers -----------------------------------------------------------------------------------

    def _work(self) -> Life[None]:
        """Get a connection, then take the next message: no message waits while its connection is being opened."""
        bell = Bell()
        while True:
            if not (self._ready and self._may_start):
                if self._is_starved:
                    self._no_connection(starved())
                    self._attention.ring()
                bell.served = False
                self._idle[bell] = None
                yield self._until_rung(bell)
                if self._idle.pop(bell, self) is self:  # `_wake_worker` has removed it
                    self._woken -= 1
                continue
            loan = Loan(self._service, self._clock, self._holder, wants_more=self._goes_on)
            try:
                if (yield from self._has_connection(loan)):
                    if len(self._ready) > 1:  # one of them is for this worker
                        self._wake_worker()
                    while loan.has_connection:
                        yield from self._deliver(loan)
            except BaseException:
                loan.abandon()
                raise
            self._attention.ring()

    def _goes_on(self) -> bool:
        """Return whether a worker may send the next message at once, over the connection that it has."""
        return bool(self._ready) and not self._may_nest and len(self._ended) < self._limit

    @property
    def _is_narrow(self) -> bool:
        """Whether the batch uses fewer workers for a while."""
        return self._service.clock.monotonic() < self._narrow_until

    def _until_rung(self, bell: Bell) -> Need:
        until = self._narrow_until
        if until == NEVER:
            return Turn(bell, math.inf)
        if not self._is_narrow:  # perhaps it ended a moment ago: then the sleep ends at once, for one more look
            self._narrow_until = NEVER
        return Sleep(bell, until)

    @property
    def _may_start(self) -> bool:
        """Whether one more connection may be taken now, for a message that is ready."""
        if len(self._ended) > self._limit:
            return False
        if len(self._under_way) + len(self._loans) >= self._narrow_to and self._is_narrow:
            return False
        pool = self._service.pool
        leaves_one = self._may_nest and bool(self._ended)
        if pool.idle and not leaves_one:
            return True
        if len(self._loans) >= len(self._ready) and not pool.idle:
            return False
        vacant = pool.vacancies
        if leaves_one and vacant < 2:
            return False
        # One worker in the pool's line is enough: more would only delay single messages from other threads.
        return vacant > 0 or not (self._is_starved or any(loan.is_waiting for loan in self._loans))

    @property
    def _is_starved(self) -> bool:
        """Whether an outer batch of this thread holds every connection: it cannot go on while this one waits."""
        if self._in_loop or not self._ready or self._under_way or self._loans:
            return False
        return not self._service.pool.vacancies and self._service.pool.is_starved_by(self._holder)

    def _has_connection(self, loan: Loan) -> Life[bool]:
        """Get a connection; return False if that fails, which may be recorded as a failure of the next message."""
        self._loans[loan] = None
        try:
            yield from loan.take(self._clock.monotonic() + self._service.pool.options.delivery_timeout)
        except Exception as error:
            if not is_failure(error):
                raise
            del self._loans[loan]
            self._no_connection(error, loan)
            return False
        del self._loans[loan]
        return True

    def _deliver(self, loan: Loan) -> Life[None]:
        if not self._ready:
            loan.end()
            return
        delivery = self._service.begin(self._ready[0], self._clock)
        self._under_way[delivery] = None
        self._ready.popleft()  # not earlier: an interrupt must not hide that the message is under way
        self._attention.ring()
        yield from live(self._service, delivery, self._clock, loan)
        let_go(delivery.error)  # there may be as many errors as messages
        if delivery.receipt is not None:
            self._next_break = FIRST_BREAK
        concerns = delivery.error is not None and delivery.outcome is Outcome.NOT_SENT and concerns_all(delivery.error)
        # After a stop, a message that never got a connection is treated like those that were not tried.
        if not (concerns and self._has_stopped and delivery.channel is None):
            self._ended.append(delivery)
        self._under_way.pop(delivery, None)
        if concerns:
            self._stop(delivery.error)

    def _no_connection(self, error: Exception, loan: Loan | None = None) -> None:
        """Use only the connections that work, for a while; if there are none, the next message has failed."""
        real, now = self._service.clock.monotonic(), self._clock.monotonic()
        idle = 0 if isinstance(error, PoolFull) else self._service.pool.idle
        self._narrow_to = len(self._under_way) + len(self._loans) + idle
        self._narrow_until = real + self._next_break
        self._next_break = min(LONGEST_BREAK, 2 * self._next_break)
        if self._under_way or self._service.pool.idle or not self._ready:
            return
        if self._loans and not getattr(error, "logins", 0):  # another loan may still succeed; but logins are limited
            return
        # No connection works: one worker at a time finds out whether that changes.
        self._narrow_to, self._narrow_until, self._next_break = 1, real + FIRST_BREAK, FIRST_BREAK
        delivery = self._service.begin(self._ready[0], self._clock)
        delivery.attempts += 1
        delivery.error = error
        delivery.asked_at, delivery.ended = now if delivery.asked_at is None else delivery.asked_at, now
        if loan is not None:
            delivery.waited += loan.waited
            delivery.connected += loan.connected
        let_go(error)
        pause = judged(self._service, delivery, error, now)
        if pause is None:
            self._ended.append(delivery)
            self._ready.remove(delivery)  # not earlier: an interrupt must not hide the outcome
            if concerns_all(error):
                self._stop(error)
        elif pause:
            self._narrow_to, self._narrow_until = 0, real + pause

    def _stop(self, error: BaseException | None) -> None:
        """Request no more messages. Messages that have begun fail with this error; the others were never tried."""
        self._source, self._has_stopped = None, True
        for delivery in self._ready:
            if delivery.begun is not None:
                delivery.error = error
                self._ended.append(delivery)
        self._ready.clear()

    def _wake_worker(self) -> bool:
        """Wake one worker if it may start; as soon as it has a connection, it wakes the next one."""
        if not (self._idle and len(self._ready) > self._woken and (self._may_start or self._is_starved)):
            return False
        bell = next(iter(self._idle))
        del self._idle[bell]
        self._woken += 1
        bell.ring()
        return True

    def break_off(self, interrupt: BaseException) -> None:
        """Report what is known about the messages that an interrupt has cut short; the generators are closed."""
        known = dict.fromkeys([*self._ended, *self._under_way, *self._ready])
        for delivery in self._under_way:
            if delivery not in self._ended:
                delivery.cut_short(interrupt)
        self._report_all(iter([each for each in known if each.begun is not None]))

    def _report_all(self, deliveries: Iterator[Delivery]) -> None:
        for delivery in deliveries:
            try:
                self._report(delivery)
            except BaseException:  # another interrupt, perhaps of a receiver: the others have their outcome as well
                self._report_all(deliveries)
                raise
