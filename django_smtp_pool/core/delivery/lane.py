"""One of the connections that a batch uses, from standing in line to the end of one message."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..drivers.run import Run
from ..options.options import PoolOptions
from ..pool.slots import Slot
from ..rate_limit.limit import Ticket
from ..smtp.envelope import Envelope
from .connection import Connection
from .job import Job, Try


@dataclass(eq=False, kw_only=True)
class Entry:
    """A message of a batch; it becomes a job when its turn comes.

    Arguments:
        token: what the caller knows the message by.
        not_before: instant (monotonic) of the next try.
        is_counted: those who watch have been told of its outcome.
        ticket: its wish for a place under the rate limit, while it waits for one.
    """

    token: Any
    envelope: Envelope
    job: Job | None = None
    not_before: float = 0.0
    is_counted: bool = False
    ticket: Ticket | None = None

    def begin(self, options: PoolOptions, now: float) -> Job:
        """Return the job; its time runs from its first try on, not while others of the batch have theirs."""
        if self.job is None:
            self.job = Job(self.envelope, options, now)
        return self.job


class LaneWaiter:
    """Stands in line for a lane: the answer goes into a queue, and the batch's thread is woken."""

    def __init__(self, answers: deque[LaneWaiter], wake: Callable[[], None]) -> None:
        self._lock = threading.Lock()
        self._answers = answers
        self._wake = wake
        self._gone = False  # guarded by: _lock
        self.blocks: int | None = None
        self.holder: int | None = threading.get_ident()
        self.slot: Slot | None = None
        self.error: BaseException | None = None

    def grant(self, slot: Slot) -> bool:
        """Take the slot, unless the batch has lost interest."""
        with self._lock:
            if self._gone:
                return False
            self.slot = slot
            self._answer()
        return True

    def refuse(self, error: BaseException) -> None:
        """Hear that there will be no connection."""
        with self._lock:
            self.error = error
            self._answer()

    def _answer(self) -> None:
        if not self._gone:
            self._answers.append(self)
            if threading.get_ident() != self.holder:  # who answers himself is awake
                self._wake()

    def leave(self) -> Slot | None:
        """Go, and return the slot that came all the same."""
        with self._lock:
            self._gone = True
            return self.slot


@dataclass(eq=False, kw_only=True)
class Lane:
    """A place in line, then a dial or an idle connection, then one message.

    Arguments:
        asked_at, started_at: instants (monotonic): in line, and since the dial or the message began.
        opening: the connection while it is being dialled.
        refused: an earlier one, whose access token the server refused, and how.
        entry: the message while it is being delivered.
        waited, connected: seconds spent on what came before the message.
    """

    asked_at: float
    waiter: LaneWaiter
    slot: Slot | None = None
    run: Run[Any] | None = None
    opening: Connection | None = None
    refused: tuple[Connection, BaseException] | None = None
    entry: Entry | None = None
    reused: bool = False
    started_at: float = 0.0
    waited: float = 0.0
    connected: float = 0.0

    @property
    def taken(self) -> Slot:
        """The slot, of a lane that has one."""
        if self.slot is None:
            raise AssertionError("the lane still stands in line")
        return self.slot

    @property
    def is_to_be_dialled(self) -> bool:
        """Whether there is a place for a connection, and nobody is opening one."""
        vacant = self.slot is not None and self.slot.connection is None
        return vacant and self.opening is None and self.entry is None

    def ended(self, now: float) -> Try:
        """Return the try whose run has ended, be it of a dial or of a message."""
        if self.run is None:
            raise AssertionError("only a lane with a run comes to an end")
        try:
            receipt = self.run.result()
        except Exception as error:  # noqa: BLE001 - judged
            return self.tried(now, error=error)
        return self.tried(now, receipt=receipt)

    def tried(self, now: float, **how: Any) -> Try:
        """Return the try that has just ended here."""
        return Try(reused=self.reused, waited=self.waited, connected=self.connected, sent=now - self.started_at, **how)
