"""The rate limit of one account in this process: its quotas, how much of each is used, and the line.

A limit is a fact about the server, so it outlives the pools that use it. Each message has a ticket, which asks right
before MAIL, when the message has its connection. If it asked earlier, messages that were delayed after that could go
out together, faster than the limit allows. A ticket that is refused waits in line, and the number of tickets ahead of
it decides when it asks again.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from ..errors import Failure, RateLimited
from ..options.quotas import Quota
from .line import GRACE, Line
from .window import Window

LOOK_AGAIN = 5.0  # seconds after which a ticket behind others asks again, because those may have given up

T = TypeVar("T")


class Rate(Protocol):
    """A rate limit, in one process or over all of them."""

    blocks: bool  # whether `take` may wait for another machine

    def take(self, ticket: Ticket, now: float) -> float:
        """Use a message's units and return 0, or return the seconds after which its ticket should ask again."""
        ...

    def leave(self, ticket: Ticket) -> None:
        """Give up a ticket's position in line."""
        ...

    def left(self, now: float) -> Mapping[str, int]:
        """Return how much of each quota may still be used."""
        ...

    def is_idle(self, now: float) -> bool:
        """Return whether no state would be lost if this limit were discarded."""
        ...

    def after_fork(self) -> None:
        """Start over in a forked child."""
        ...

    def close(self) -> None:
        """Close what is open; the limit may still be used afterwards."""
        ...


class Limiter:
    """A rate limit, as one pool uses it.

    Arguments:
        patience: seconds (`rate_wait`) that a message waits at most; infinity for no limit.
        count: called with the name of a counter of `stats()`.
    """

    def __init__(self, rate: Rate, *, patience: float, server: str, count: Callable[[str], None]) -> None:
        self.rate = rate
        self.patience = patience
        self.server = server
        self.count = count

    @property
    def blocks(self) -> bool:
        """Whether a ticket may wait for another machine while it asks."""
        return self.rate.blocks

    def ticket(self, recipients: int) -> Ticket:
        """Return a ticket for one message; it joins the line when it asks and is refused."""
        return Ticket(self, recipients)


class Ticket:
    """The request of one message. Its position in line ends when the ticket is garbage."""

    __slots__ = ("__weakref__", "due", "limiter", "number", "recipients", "since")

    def __init__(self, limiter: Limiter, recipients: int) -> None:
        self.limiter = limiter
        self.recipients = recipients
        self.since: float | None = None  # instant (monotonic) of the first refusal
        self.due = 0.0
        self.number: int | None = None

    def take(self, now: float) -> float:
        """Use the message's units and return 0, or return the seconds after which to ask again.

        Arguments:
            now: instant (monotonic).

        Raises RateLimited if the wait would be longer than `rate_wait`, and RateStorageUnavailable.
        """
        return self.limiter.rate.take(self, now)

    def leave(self) -> None:
        """Give up the position in line, if there is one; takes no lock."""
        self.limiter.rate.leave(self)


def reentered() -> Failure:
    """Return the error for code that has interrupted the rate limit, and would wait for itself."""
    text = "the rate limit is in use by this same thread (in a signal handler or a finaliser): send mail later"
    error = Failure(text)
    error.is_final = True
    return error


class RateLimit:
    """Sliding windows over the messages of one account in this process, exact with any number of connections."""

    blocks = False

    def __init__(self, quotas: Sequence[Quota]) -> None:
        self.quotas = tuple(quotas)
        self._counts_recipients = any(quota.of_recipients for quota in quotas)
        self.after_fork()

    def after_fork(self) -> None:
        """Start over in a forked child, with an empty window."""
        self._lock = threading.Lock()
        self._inside: set[int] = set()  # threads that hold the lock, or are about to
        self._windows = [Window(quota) for quota in self.quotas]  # guarded by: _lock
        self._line = Line()  # guarded by: _lock
        self._left: Mapping[str, int] = {}

    def take(self, ticket: Ticket, now: float) -> float:
        """Use a message's units and return 0, or return the seconds after which its ticket should ask again."""

        def work() -> float:
            pause = self._look(ticket, now, 0.0)
            if not pause:
                self._note(ticket, now)
            return pause

        return self._alone(work)

    def look(self, ticket: Ticket, now: float, held: float = 0.0) -> float:
        """Return the seconds after which a ticket should ask again, 0 if its message may go; uses no units.

        Arguments:
            held: seconds for which the shared storage allows no message.
        """
        return self._alone(lambda: self._look(ticket, now, held))

    def note(self, ticket: Ticket, now: float) -> None:
        """Use a message's units, after the shared storage has allowed it."""
        self._alone(lambda: self._note(ticket, now))

    def leave(self, ticket: Ticket) -> None:
        """Give up a ticket's position in line."""
        self._line.leave(ticket)

    def left(self, now: float) -> Mapping[str, int]:
        """Return how much of each quota may still be used; the last figures, if this thread is changing them."""
        if not self._is_inside:
            self._left = self._alone(lambda: {str(window.quota): window.free(now) for window in self._windows})
        return self._left

    def is_idle(self, now: float) -> bool:
        """Return whether no state would be lost if this limit were discarded."""
        if self._is_inside:
            return False
        return self._alone(lambda: not len(self._line) and all(window.is_empty(now) for window in self._windows))

    @property
    def _is_inside(self) -> bool:
        return threading.get_ident() in self._inside

    def close(self) -> None:
        """Do nothing: nothing is open."""

    def _alone(self, work: Callable[[], T]) -> T:
        """Call a function under the lock; raise if a signal handler of this same thread would wait for itself."""
        me = threading.get_ident()
        if self._is_inside:
            raise reentered()
        try:
            self._inside.add(me)
            with self._lock:
                return work()
        finally:
            self._inside.discard(me)

    def _look(self, ticket: Ticket, now: float, held: float) -> float:
        ticket.due = max(ticket.due, now)  # it has come back
        self._line.sweep(now)
        ahead = self._line.ahead_of(ticket)
        in_line = self._line.recipients_of(ahead) if self._counts_recipients else 0
        wait, tightest = 0.0, None
        for window in self._windows:
            quota = window.quota
            own = quota.units(ticket.recipients)
            if own > quota.limit:
                self._refuse(ticket, math.inf, quota)
            need = own + (in_line if quota.of_recipients else ahead)
            pause = max(window.wait(now, need), held + window.rounds(need) if held else 0.0)
            if pause > wait:
                wait, tightest = pause, quota
        if tightest is None:
            return 0.0
        ticket.since = now if ticket.since is None else ticket.since
        patience = ticket.limiter.patience
        if wait > patience or now - ticket.since > patience + GRACE:
            self._refuse(ticket, wait, tightest)
        again_after = min(wait, LOOK_AGAIN) if ahead else wait
        self._line.keep(ticket, now + again_after)
        return again_after

    def _note(self, ticket: Ticket, now: float) -> None:
        for window in self._windows:
            window.add(now, window.quota.units(ticket.recipients))
        self._line.remove(ticket)

    def _refuse(self, ticket: Ticket, wait: float, quota: Quota) -> None:
        self._line.remove(ticket)
        server, patience = ticket.limiter.server, ticket.limiter.patience
        if math.isinf(wait):
            text = f"never allows a message with {ticket.recipients} recipients: send it in parts"
        else:
            text = (
                f"allows this message only in {wait:.1f} s, and rate_wait is {patience:g}: send it again then, or "
                "raise rate_wait (None: wait for as long as it takes)"
            )
        error = RateLimited(f"the rate limit of {server} ({quota}) {text}")
        error.retry_after = wait
        raise error
