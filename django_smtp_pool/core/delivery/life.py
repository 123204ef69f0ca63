"""The life of a message, written once: acquire, open, rate limit, deliver, give back, judge, wait, again.

    live             until the message has found its outcome
      attempt        one try on one connection
        borrow       a place in the pool with a connection in it that may take a message now
          open       ... where the place is empty
        deliver      MAIL, RCPT, content, verdict

Each is a generator of needs (`core.needs`): it waits by yielding, and a driver runs it (`core.drivers`). It reads no
clock but the one it is given. In a batch, that clock stands still while other code has the thread.

Two kinds of exceptions arise here. Failures (`is_failure`) are what the network, the server or our own checks did: they
end an attempt and are judged. Everything else is an interrupt: it ends the life wherever it strikes, is never judged,
and passes on to the caller. `Delivery` knows what is true of the message at that moment, and the pool takes back
what was lent.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..clock import Clock
from ..errors import Outcome, PoolClosed, is_failure
from ..events.events import Attempted, Finished, LeftInDoubt, Observer
from ..needs import Call, Life, Turn
from ..pool.pool import Pool
from ..pool.waiters import Waiter
from ..rate_limit.limit import Limiter
from .connection import Connection, Connector
from .delivery import Delivery
from .loan import Loan
from .retry import Retry, judge


@dataclass(frozen=True, kw_only=True)
class Service:
    """What every life needs: the connections of one pool, and the rules they keep.

    Arguments:
        rate_limit: the limit that all messages of the pool keep together, None for none.
        renewed: returns the service over a fresh pool, for what comes when this one is closed.
        uniform: random numbers between two bounds, for the jitter of the back-off.
    """

    pool: Pool[Connection]
    connector: Connector
    clock: Clock
    observer: Observer
    rate_limit: Limiter | None = None
    renewed: Callable[[], Any] | None = None
    uniform: Callable[[float, float], float] = random.uniform

    def begin(self, delivery: Delivery) -> Delivery:
        """Let the time of a message run, if nobody has tried it yet."""
        if delivery.begun is None:
            delivery.begun = self.clock.monotonic()
            delivery.deadline = delivery.begun + self.pool.options.delivery_timeout
        return delivery

    def finish(self, delivery: Delivery) -> None:
        """Count a message that has found its outcome, and tell observers; once."""
        if not delivery.is_counted:
            delivery.is_counted = True
            outcome = delivery.outcome
            self.pool.count(f"messages_{outcome.value}")
            kind = LeftInDoubt if outcome is Outcome.UNKNOWN else Finished
            server, envelope = self.pool.name, delivery.envelope
            self.observer.tell(kind, server=server, outcome=outcome, delivery=delivery, envelope=envelope)


def live(service: Service, delivery: Delivery, clock: Clock, loan: Loan | None = None) -> Life[None]:
    """Deliver a message, over as many connections as it takes; what became of it is in `delivery`.

    Arguments:
        loan: for a message of a batch, the connection that the first attempt goes by. The next ones are for the same
            holder.

    Raises interrupts only.
    """
    loan = loan or Loan(service, clock)
    try:
        while (error := (yield from _attempt(service, delivery, clock, loan))) is not None:
            pause = judged(service, delivery, error, clock.monotonic())
            if pause is None:
                return
            if pause and not (yield from _rests(service, delivery, clock, pause)):
                return
            loan = loan.another(fresh=delivery.wants_fresh)
    except BaseException:
        delivery.fate = delivery.outcome  # not after: a connection that is given up says QUIT, and doubt is forgotten
        loan.abandon()
        raise


def _rests(service: Service, delivery: Delivery, clock: Clock, pause: float) -> Life[bool]:
    """Wait before the next attempt; return False where there is none, since the pool is closed."""
    try:
        yield from nap(service, clock, pause, "its next attempt")
    except PoolClosed as error:
        delivery.error = error
        return False
    return True


def judged(service: Service, delivery: Delivery, error: BaseException, now: float) -> float | None:
    """Decide what follows a failed attempt: another one after so many seconds, or None for no other."""
    time_left, jitter = delivery.deadline - now, service.uniform(0.5, 1.0)
    retry = judge(error, delivery, service.pool.options.max_requeues, time_left=time_left, jitter=jitter)
    if retry is None:
        if delivery.suspect is not None and delivery.outcome is Outcome.NOT_SENT:
            delivery.error = delivery.suspect  # a refusal, and nobody has contradicted it
        return None
    _note_retry(delivery, error, retry)
    service.pool.count("requeues")
    service.observer.tell(
        Attempted,
        server=service.pool.name,
        attempts=delivery.attempts,
        stage=getattr(error, "stage", None),
        error=error,
        retry_after=retry.after,
        reused=delivery.reused,
        delivery=delivery,
    )
    return retry.after


def _note_retry(delivery: Delivery, error: BaseException, retry: Retry) -> None:
    delivery.logins += getattr(error, "logins", 0)
    delivery.wants_fresh = retry.fresh
    if retry.fresh:
        delivery.fresh_try_spent = True
        delivery.suspect = error if delivery.outcome is Outcome.REFUSED else None
    elif retry.is_free:
        delivery.free_retry_spent = True
    else:
        delivery.requeues += 1


def _attempt(service: Service, delivery: Delivery, clock: Clock, loan: Loan) -> Life[Exception | None]:
    """Try once; return how it failed, None for an accepted message."""
    delivery.attempts += 1
    delivery.reused = False
    delivery.channel = delivery.error = None
    began = clock.monotonic()
    if delivery.asked_at is None:
        delivery.asked_at = began
    error: Exception | None = None
    try:
        connection = yield from _borrow(service, delivery, clock, loan)
        began = clock.monotonic()
        connection.channel.begin_message()
        delivery.channel = connection.channel
        delivery.receipt = yield from connection.deliver(delivery.envelope, clock, delivery.deadline)
    except Exception as failure:
        if not is_failure(failure):
            raise
        error = delivery.error = failure
    delivery.waited += loan.waited
    delivery.connected += loan.connected
    delivery.ended = clock.monotonic()
    if delivery.channel is not None:
        delivery.sent += delivery.ended - began
        delivery.round_trips += delivery.channel.exchanges
    if error is not None or not loan.keep(delivery.envelope.sender):
        loan.end(error, delivery.envelope.sender)
    return error


def _borrow(service: Service, delivery: Delivery, clock: Clock, loan: Loan) -> Life[Connection]:
    """Borrow a connection, and keep it only if the rate limit lets a message go now."""
    limit = service.rate_limit
    if limit is None:
        connection = yield from loan.take(delivery.deadline)
        delivery.reused = loan.reused
        return connection
    ticket = limit.ticket(len(delivery.envelope.recipients))
    try:
        while True:
            connection = yield from loan.take(delivery.deadline)
            delivery.reused = loan.reused
            asked_at = clock.monotonic()
            if limit.blocks:
                pause = yield Call(lambda: ticket.take(service.clock.monotonic()))
            else:
                pause = ticket.take(service.clock.monotonic())
            # Waiting for the rate limit, or for the machine that keeps it, is not waiting for the server.
            delivery.deadline += clock.monotonic() - asked_at + pause
            if not pause:
                return connection
            loan.end()
            yield from nap(service, clock, pause, "the rate limit")
    finally:
        ticket.leave()


def nap(service: Service, clock: Clock, seconds: float, what_for: str) -> Life[None]:
    """Wait for a while; raise PoolClosed where the pool is closed meanwhile."""
    waiter, until = Waiter(), clock.monotonic() + seconds
    service.pool.naps(waiter)
    try:
        while not waiter.served and clock.monotonic() < until:
            yield Turn(waiter, until)
    finally:
        service.pool.wakes(waiter)
    if waiter.served:
        raise PoolClosed(f"the pool of {service.pool.name} was closed while this message waited for {what_for}")


def warm_up(service: Service, clock: Clock) -> Life[bool]:
    """Make sure that a connection can be had, and return whether that took a new one.

    A busy one is proof enough, and is not waited for; an idle one is looked at. Raises what `Loan.take` raises.
    """
    if service.pool.stats().busy:
        return False
    loan = Loan(service, clock)
    try:
        yield from loan.take(float("inf"))
        loan.end()
    except BaseException:
        loan.abandon()
        raise
    return not loan.reused
