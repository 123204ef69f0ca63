"""The pool without Django, for a script, Flask or FastAPI. Use one client per account, in all threads of a process."""

from __future__ import annotations

import copy
import functools
import os
import socket
from collections.abc import Iterable
from email.message import Message
from email.policy import SMTP
from email.utils import getaddresses
from typing import Any

from .after_fork import NewWorld
from .clock import Clock, SystemClock
from .delivery.connection import Connector
from .delivery.delivery import Delivery
from .drivers.farewells import FAREWELL, Farewells
from .events.events import Observer, Observers
from .events.logs import LogObserver
from .interrupts import foreign
from .net import sockets, tls
from .options.host import name_to_greet_with
from .options.options import PoolOptions, ServerOptions
from .pool.housekeeper import Housekeeper
from .pool.stats import Stats
from .rate_limit.limit import Limiter, RateLimit
from .sender import Sender, pool_over
from .smtp.content import Content
from .smtp.envelope import Envelope


@functools.cache
def _machine() -> str:
    """Return the name of this machine; looking it up may be slow."""
    return socket.getfqdn()


class Client:
    """Sends messages of the standard library over warm connections.

    Arguments:
        server: the server and the login. Access tokens only by `oauth2_token`.
        pool: the options of the pool, except `rate_storage`.
        observer: receives events; by default, they are logged.

    In a forked child it starts over. `close()` closes the connections with QUIT.
    """

    def __init__(
        self,
        server: ServerOptions,
        pool: PoolOptions | None = None,
        *,
        clock: Clock | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._server, self._options = server, pool or PoolOptions()
        self._clock, self._observer = clock or SystemClock(), Observers([observer or LogObserver()])
        self._rate = RateLimit(self._options.quotas)
        self._new_world = NewWorld()
        self._start_over()

    def _start_over(self) -> None:
        self._housekeeper = Housekeeper(self._clock, Farewells(self._clock))
        connector = Connector(
            server=self._server,
            clock=self._clock,
            observer=self._observer,
            local_hostname=self._name,
        )
        pool = pool_over(connector, self._options, self._housekeeper)
        limit = Limiter(self._rate, patience=self._options.rate_patience, server=pool.name, count=pool.count)
        self._sender = Sender(
            pool=pool,
            connector=connector,
            clock=self._clock,
            observer=self._observer,
            rate_limit=limit if self._options.quotas else None,
        )
        self._pid = os.getpid()  # last: from now on, other threads use what is here

    def send(self, message: Message | Envelope) -> Delivery:
        """Send a message and return the result, whose `outcome` is accepted.

        Raises the error otherwise; its `outcome` is `not_sent`, `refused` or `unknown` (`core.errors`).
        """
        delivery = self._current().send(envelope_of(message))
        if delivery.error is not None:
            raise delivery.error
        return delivery

    def send_many(self, messages: Iterable[Message | Envelope]) -> list[Delivery]:
        """Send messages side by side, and return the result for each that was tried; `error` is None if accepted."""
        deliveries: dict[int, Delivery] = {}
        envelopes = ((index, envelope_of(message)) for index, message in enumerate(messages))
        self._current().send_many(envelopes, deliveries.__setitem__, self._options.max_connections)
        return [delivery for _, delivery in sorted(deliveries.items())]

    def stats(self) -> Stats:
        """Return the figures of the pool."""
        return self._current().pool.stats()

    def _name(self, local_address: str | None) -> str:
        return self._server.local_hostname or name_to_greet_with(foreign(_machine), local_address)

    def close(self, timeout: float = 10.0) -> None:
        """Close the connections with QUIT, after waiting at most `timeout` seconds for messages under way."""
        self._current().close(timeout)
        self._housekeeper.say_quit_without_thread(FAREWELL)
        self._sender.pool.wait_for_farewells(FAREWELL)

    def _current(self) -> Sender:
        if self._is_foreign():
            self._new_world.start_over(self._is_foreign, self._after_fork)
        return self._sender

    def _is_foreign(self) -> bool:
        return os.getpid() != self._pid

    def _after_fork(self) -> None:
        sockets.close_inherited()  # they are the parent's
        tls.after_fork()
        self._rate.after_fork()
        self._start_over()


def envelope_of(message: Message | Envelope) -> Envelope:
    """Return the envelope of a message of the standard library: addresses from its header, content without Bcc."""
    if isinstance(message, Envelope):
        return message
    sender = _addresses(message, "Sender") or _addresses(message, "From")
    recipients = [address for name in ("To", "Cc", "Bcc") for address in _addresses(message, name)]
    if not (sender and recipients):
        raise ValueError("the message needs a From and a recipient (To, Cc or Bcc)")
    content = Content.of(_without_bcc(message).as_bytes(policy=SMTP))
    return Envelope(sender=sender[0], recipients=tuple(dict.fromkeys(recipients)), content=content)


def _addresses(message: Any, name: str) -> list[str]:
    return [address for _, address in getaddresses(map(str, message.get_all(name, []))) if address]


def _without_bcc(message: Message) -> Message:
    if "Bcc" not in message:
        return message
    shown = copy.copy(message)
    shown._headers = list(message._headers)  # type: ignore[attr-defined]  # a copy shares its list of fields
    del shown["Bcc"]
    return shown
