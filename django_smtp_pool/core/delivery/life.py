"""The life of one message: get a connection, send the message, and try again if that is safe.

    live             until the message has its final outcome
      attempt        one try, on one connection
        borrow       get a slot of the pool, with a connection that may take a message now (the rate limit)
          open       connect and log in, if the slot is empty
        deliver      MAIL, RCPT, content, and the reply to the content
      judged         after a failed attempt: try again at once, try again later, or give up

These are generators that never block. A generator yields what it has to wait for (`core.needs`: a socket, a slot of
the pool, an instant, a call that may block), and a driver (`core.drivers`) resumes it when the wait is over. So the
same code runs in a thread, in an event loop, and side by side with the other messages of a batch. The driver also
provides the clock. In a batch, that clock stands still while other code occupies the thread.

There are two kinds of exceptions. Failures (`is_failure`) come from the network, the server or our own checks: they
end the attempt and are judged. Everything else is an interrupt, such as KeyboardInterrupt: it may arrive at any line,
ends the life, is never judged, and is raised to the caller. Even then, `Delivery` knows the outcome of the message,
and the pool takes back the slot that was lent.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..clock import Clock
from ..errors import Outcome, PoolClosed, is_failure
from ..events.events import Attempted, Finished, LeftInDoubt, Observer
from ..needs import Call, Life, Sleep
from ..pool.pool import Pool
from ..pool.waiters import Waiter
from ..rate_limit.limit import Limiter
from .connection import Connection, Connector
from .delivery import Delivery
from .loan import Loan
from .retry import Retry, judge


@dataclass(frozen=True, kw_only=True)
class Service:
    """What every life needs: the connections of one pool, and the rules for using them.

    Arguments:
        rate_limit: the limit for all messages of the pool together; None for no limit.
        renewed: returns the service over a fresh pool, for messages that arrive after this pool was closed.
        uniform: returns a random number between two bounds, for the jitter of the back-off.
    """

    pool: Pool[Connection]
    connector: Connector
    clock: Clock
    observer: Observer
    rate_limit: Limiter | None = None
    renewed: Callable[[], Any] | None = None
    uniform: Callable[[float, float], float] = random.uniform

    def begin(self, delivery: Delivery, clock: Clock | None = None) -> Delivery:
        """Start the `delivery_timeout` of a message, by the clock of its driver, unless it has started."""
        if delivery.begun is None:
            delivery.begun = self.clock.monotonic()
            delivery.deadline = (clock or self.clock).monotonic() + self.pool.options.delivery_timeout
        return delivery

    def finish(self, delivery: Delivery) -> None:
        """Count a message that has its final outcome, and notify observers; only once per message."""
        if not delivery.is_counted:
            delivery.is_counted = True
            outcome = delivery.outcome
            self.pool.count(f"messages_{outcome.value}")
            kind = LeftInDoubt if outcome is Outcome.UNKNOWN else Finished
            server, envelope = self.pool.name, delivery.envelope
            self.observer.tell(kind, server=server, outcome=outcome, delivery=delivery, envelope=envelope)


def live(service: Service, delivery: Delivery, clock: Clock, loan: Loan | None = None) -> Life[None]:
    """Deliver a message, over as many connections as it takes; the result is in `delivery`.

    Arguments:
        loan: for a message of a batch, the loan that the first attempt uses. Loans for further attempts have the same
            holder.

    Raises only interrupts.
    """
    loan = loan or Loan(service, clock)
    try:
        while (error := (yield from _attempt(service, delivery, clock, loan))) is not None:
            pause = judged(service, delivery, error, clock.monotonic())
            if pause is None:
                return
            if pause and not (yield from _wait_to_retry(service, delivery, pause)):
                return
            loan = loan.another(fresh=delivery.wants_fresh)
    except BaseException:
        # Before the loan is abandoned: the connection then sends QUIT, and no longer knows whether there was doubt.
        delivery.outcome_at_interrupt = delivery.outcome
        loan.abandon()
        raise


def _wait_to_retry(service: Service, delivery: Delivery, pause: float) -> Life[bool]:
    """Wait before the next attempt; return False if there is no next attempt, because the pool was closed."""
    try:
        yield from nap(service, pause, "its next attempt")
    except PoolClosed as error:
        if not is_failure(error):
            raise
        delivery.error = error
        return False
    return True


def judged(service: Service, delivery: Delivery, error: BaseException, now: float) -> float | None:
    """Decide what follows a failed attempt; return the seconds until the next attempt, or None if there is none."""
    time_left, jitter = delivery.deadline - now, service.uniform(0.5, 1.0)
    retry = judge(error, delivery, service.pool.options.max_requeues, time_left=time_left, jitter=jitter)
    if retry is None:
        if delivery.suspect is not None and delivery.outcome is Outcome.NOT_SENT:
            delivery.error = delivery.suspect  # the refusal stands: no fresh connection has contradicted it
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
    """Try once; return the failure, or None if the message was accepted."""
    delivery.attempts += 1
    delivery.reused = False
    delivery.channel = delivery.error = None
    began = clock.monotonic()
    if delivery.asked_at is None:
        delivery.asked_at = began
    error: Exception | None = None
    try:
        if service.rate_limit is None:
            connection = yield from loan.take(delivery.deadline)
        else:
            connection = yield from _borrow_in_turn(service, service.rate_limit, delivery, clock, loan)
        delivery.reused = loan.reused
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


def _borrow_in_turn(service: Service, limit: Limiter, delivery: Delivery, clock: Clock, loan: Loan) -> Life[Connection]:
    """Borrow a connection; while the rate limit allows no message, give the connection back and wait."""
    ticket = limit.ticket(len(delivery.envelope.recipients))
    try:
        while True:
            connection = yield from loan.take(delivery.deadline)
            asked_at = clock.monotonic()
            if limit.blocks:
                pause = yield Call(lambda: ticket.take(service.clock.monotonic()))
            else:
                pause = ticket.take(service.clock.monotonic())
            # Time spent on the rate limit, or on its storage, does not count towards `delivery_timeout`.
            delivery.deadline += clock.monotonic() - asked_at + pause
            if not pause:
                return connection
            loan.end()
            yield from nap(service, pause, "the rate limit")
    finally:
        ticket.leave()


def nap(service: Service, seconds: float, what_for: str) -> Life[None]:
    """Wait for some seconds of real time; raise PoolClosed if the pool is closed meanwhile."""
    waiter, until = Waiter(), service.clock.monotonic() + seconds
    service.pool.naps(waiter)
    try:
        while not waiter.served and service.clock.monotonic() < until:
            yield Sleep(waiter, until)
    finally:
        service.pool.wakes(waiter)
    if waiter.served:
        raise PoolClosed(f"the pool of {service.pool.name} was closed while this message waited for {what_for}")


def warm_up(service: Service, clock: Clock) -> Life[bool]:
    """Make sure that there is a working connection, and return whether a new one was opened.

    A busy connection is proof enough; an idle one is checked. Raises what `Loan.take` raises.
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
