"""Sends one message: acquires a connection, delivers, and tries again where that is right."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable
from typing import Any

from ..clock import Clock
from ..drivers import drive
from ..errors import PoolClosed
from ..events.events import Attempted, Finished, Observer
from ..pool.lease import Lease
from ..pool.pool import Pool
from ..rate_limit.limit import Limiter
from ..smtp.envelope import Envelope
from .batch import Batch, Finish
from .connection import Connection, Connector
from .job import Delivery, Job, Try
from .retry import Done, Raise, Retry, tells_of_idling


class Sender:
    """Sends messages over the connections of one pool.

    Arguments:
        connector: makes connections for batches, which dial several at once.
        rate_limit: the limit that all messages of the pool keep together, None for none.
    """

    def __init__(
        self,
        pool: Pool[Connection],
        *,
        connector: Connector,
        clock: Clock,
        observer: Observer,
        rate_limit: Limiter | None = None,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.pool = pool
        self.clock = clock
        self.observer = observer
        self.connector = connector
        self.rate_limit = rate_limit
        self.uniform = uniform
        self._closing = threading.Event()

    def send(self, envelope: Envelope) -> Delivery:
        """Deliver a message, over as many connections as it takes, and return what became of it.

        Nothing about the message is raised: `Delivery.error` is for the caller to raise. KeyboardInterrupt and
        the like pass through, with an `outcome` attribute.
        """
        return self.complete(self.begin(envelope))

    def begin(self, envelope: Envelope) -> Job:
        """Return a message's job, to be completed: whoever keeps it knows what became of it, interrupted or not."""
        return Job(envelope, self.pool.options, self.clock.monotonic())

    def complete(self, job: Job) -> Delivery:
        """Do what `send` does, for a job."""
        try:
            return self._complete(job)
        except BaseException as interrupt:
            job.cut_short(interrupt)
            if job.lease is not None:
                self.pool.drop(job.lease.waiter)
            raise

    def _complete(self, job: Job) -> Delivery:
        while True:
            this = self._try(job)
            verdict = self.judge(job, this)
            if not isinstance(verdict, Retry):
                return self.finished(job)
            if verdict.after:
                self.clock.wait(threading.Event().wait, verdict.after)

    def send_many(
        self, envelopes: Iterable[tuple[Any, Envelope]], finish: Finish, connections: int, *, may_nest: bool = True
    ) -> None:
        """Deliver messages side by side over up to so many connections; see `batch.Batch`."""
        Batch(self, envelopes, finish, connections, may_nest=may_nest).run()

    def close(self, timeout: float) -> None:
        """Close the pool, waiting so many seconds for deliveries under way, and what the rate limit holds open."""
        self._closing.set()
        self.pool.close(timeout)
        if self.rate_limit is not None:
            self.rate_limit.rate.close()

    def after_fork(self) -> None:
        """Start over in a forked child."""
        self._closing = threading.Event()
        self.pool.after_fork()

    # -- one try ---------------------------------------------------------------------------------------

    def _try(self, job: Job) -> Try:
        started_at = self.clock.monotonic()
        try:
            lease = self._borrow(job)
        except Exception as error:  # noqa: BLE001 - judged, and raised to the caller in the end
            return Try(error=error, waited=self.clock.monotonic() - started_at)
        return self._deliver(job, lease)

    def _borrow(self, job: Job) -> Lease[Connection]:
        """Borrow a connection, and keep it only if the rate limit lets a message go now."""
        if self.rate_limit is None:
            job.lease = self.pool.acquire(job.deadline)
            return job.lease
        ticket = self.rate_limit.ticket(len(job.envelope.recipients))
        try:
            while True:
                lease = job.lease = self.pool.acquire(job.deadline)
                asked_at = self.clock.monotonic()
                try:
                    pause = ticket.take(asked_at)
                except BaseException:
                    lease.give_back()
                    raise
                job.postpone(self.clock.monotonic() - asked_at)  # the answer may come from another machine
                if not pause:
                    return lease
                lease.give_back()
                self._wait_for_rate(pause)
                job.postpone(pause)
        finally:
            ticket.leave()

    def _wait_for_rate(self, pause: float) -> None:
        if self.clock.wait(self._closing.wait, pause):
            raise PoolClosed(f"the pool of {self.pool.name} was closed while this message waited for the rate limit")

    def _deliver(self, job: Job, lease: Lease[Connection]) -> Try:
        started_at = self.clock.monotonic()
        receipt, error = None, None
        try:
            job.run = lease.connection.delivering(job.envelope, job.deadline)
            receipt = drive.one(job.run, self.clock)
        except Exception as failure:  # noqa: BLE001 - judged, and raised to the caller in the end
            error = failure
        finally:
            _give_back(lease, error)
        return Try(
            receipt=receipt,
            error=error,
            reused=lease.reused,
            waited=lease.waited,
            connected=lease.dialled,
            sent=self.clock.monotonic() - started_at,
        )

    # -- also for batches ------------------------------------------------------------------------------

    def judge(self, job: Job, this: Try) -> Done | Retry | Raise:
        """Take note of a try, and tell those who watch where another one follows."""
        verdict = job.ended(this, now=self.clock.monotonic(), jitter=self.uniform(0.5, 1.0))
        if isinstance(verdict, Retry) and this.error is not None:
            self.pool.count("requeues")
            self.observer.notice(
                Attempted(
                    server=self.pool.name,
                    stage=getattr(this.error, "stage", None),
                    error=this.error,
                    retry_after=verdict.after,
                    reused=this.reused,
                )
            )
        return verdict

    def finished(self, job: Job) -> Delivery:
        """Count a message that has found its outcome, and tell those who watch."""
        delivery = job.delivery
        self.pool.count(f"messages_{delivery.outcome.value}")
        self.observer.notice(
            Finished(server=self.pool.name, outcome=delivery.outcome, delivery=delivery, envelope=job.envelope)
        )
        return delivery


def _give_back(lease: Lease[Connection], error: Exception | None) -> None:
    """Return a connection; one that was closed while idle condemns those that were idle for as long."""
    if lease.reused and error is not None and tells_of_idling(error):
        lease.give_back_stale()
    else:
        lease.give_back(error)
