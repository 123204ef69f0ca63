"""Send messages over the connections of one pool: one in a thread, many side by side, or in an event loop."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from .delivery.batch import Batch, Finish
from .delivery.connection import Connection, Connector
from .delivery.delivery import Delivery
from .delivery.life import Service, live, warm_up
from .delivery.loan import Loan
from .drivers import aio, blocking, side_by_side
from .needs import Life
from .options.options import PoolOptions
from .pool.housekeeper import Housekeeper
from .pool.pool import Pool
from .replies import Reply
from .smtp.envelope import Envelope


def pool_over(connector: Connector, options: PoolOptions, housekeeper: Housekeeper) -> Pool[Connection]:
    """Return a pool of a connector's connections."""
    clock = connector.clock
    return Pool(
        options,
        name=connector.server.place,
        connect=lambda deadline: blocking.run(connector.open(clock, deadline), clock),
        clock=clock,
        observer=connector.observer,
        housekeeper=housekeeper,
    )


class Sender(Service):
    """Sends messages over the connections of one pool."""

    def send(self, envelope: Envelope) -> Delivery:
        """Deliver a message, over as many connections as it takes, and return the result.

        Failures are not raised: the caller may raise `Delivery.error`. Interrupts (KeyboardInterrupt, a time limit)
        are raised, with an `outcome` attribute.
        """
        return self.complete(Delivery(envelope=envelope))

    def complete(self, delivery: Delivery) -> Delivery:
        """Do what `send` does, with a delivery of the caller, which knows its outcome even after an interrupt."""
        self.begin(delivery)
        try:
            if not self.pool.begin(delivery) and self.renewed is not None:
                renewed: Sender = self.renewed()
                return renewed.complete(delivery)
            blocking.run(live(self, delivery, self.clock), self.clock)
        except BaseException as interrupt:
            delivery.cut_short(interrupt)
            raise
        finally:
            self.pool.end(delivery)
            self.finish(delivery)
        return delivery

    def send_many(
        self,
        envelopes: Iterable[tuple[Any, Envelope] | None],
        finish: Finish,
        connections: int,
        *,
        may_nest: bool = True,
    ) -> None:
        """Deliver messages side by side, over at most so many connections; see `delivery.batch.Batch`.

        Raises interrupts, and what the iterable raises, after the messages before that have their outcome.
        """
        clock = side_by_side.StoppableClock(self.clock)
        batch = Batch(self, envelopes, finish, connections, may_nest=may_nest, clock=clock)
        try:
            if self.pool.begin(batch) or self.renewed is None:
                self._run(batch, clock)
                return
        finally:
            self.pool.end(batch)
        self.renewed().send_many(envelopes, finish, connections, may_nest=may_nest)

    def _run(self, batch: Batch, clock: side_by_side.StoppableClock) -> None:
        try:
            lives = batch.generators()
            side_by_side.run(lives, clock, main=lives[0])
        except BaseException as interrupt:
            batch.break_off(interrupt)
            raise
        if batch.error is not None:
            raise batch.error

    async def asend(self, envelope: Envelope) -> Delivery:
        """Do what `send` does, in the running event loop."""
        return await self.acomplete(Delivery(envelope=envelope))

    async def acomplete(self, delivery: Delivery) -> Delivery:
        """Do what `complete` does, in the running event loop."""
        # The loop's thread holds the connection but does not block: a blocking call in the loop must not wait for it.
        loan = Loan(self, self.clock, threading.get_ident())
        self.begin(delivery)
        try:
            if not self.pool.begin(delivery) and self.renewed is not None:
                renewed: Sender = self.renewed()
                return await renewed.acomplete(delivery)
            await aio.run(live(self, delivery, self.clock, loan), self.clock)
        except BaseException as interrupt:
            delivery.cut_short(interrupt)
            raise
        finally:
            self.pool.end(delivery)
            self.finish(delivery)
        return delivery

    async def asend_many(
        self,
        envelopes: Iterable[tuple[Any, Envelope] | None],
        finish: Finish,
        connections: int,
        *,
        may_nest: bool = True,
    ) -> None:
        """Do what `send_many` does, in the running event loop; the result of `finish` is awaited."""
        batch = Batch(self, envelopes, finish, connections, may_nest=may_nest, clock=self.clock, in_loop=True)
        try:
            if self.pool.begin(batch) or self.renewed is None:
                await self._arun(batch)
                return
        finally:
            self.pool.end(batch)
        await self.renewed().asend_many(envelopes, finish, connections, may_nest=may_nest)

    async def _arun(self, batch: Batch) -> None:
        try:
            lives = batch.generators()
            await aio.run_until_first(lives, self.clock)
        except BaseException as interrupt:
            batch.break_off(interrupt)
            raise
        if batch.error is not None:
            raise batch.error

    def warm_up(self) -> bool:
        """Make sure that there is a working connection, and return whether a new one was opened; see `life.warm_up`."""
        return blocking.run(warm_up(self, self.clock), self.clock)

    def noop(self) -> Reply:
        """Send NOOP on a connection of the pool and return the reply."""
        return blocking.run(self._noop(), self.clock)

    def _noop(self) -> Life[Reply]:
        loan = Loan(self, self.clock)
        try:
            connection = yield from loan.take(float("inf"))
            reply = yield from connection.noop(self.clock)
            loan.end()
        except BaseException:
            loan.abandon()
            raise
        return reply

    def close(self, timeout: float) -> None:
        """Close the pool and the rate limit, after waiting at most `timeout` seconds for deliveries under way."""
        self.pool.close(timeout)
        self.close_rate_limit()

    def close_rate_limit(self) -> None:
        """Close what the rate limit has open; it may still be used afterwards."""
        if self.rate_limit is not None:
            self.rate_limit.rate.close()

    def after_fork(self) -> None:
        """Start over in a forked child."""
        self.pool.after_fork()
