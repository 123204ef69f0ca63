"""The connections of a batch: standing in line, dialling and giving back, without ever blocking the thread."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from ..clock import Clock
from ..drivers import drive
from ..drivers.run import Run
from ..errors import PoolFull, PoolTimeout
from ..pool.policy import starved
from ..pool.pool import Pool
from .connection import Connection, Connector
from .lane import Lane, LaneWaiter

FIRST_BREAK = 1.0  # seconds without a further lane, after one failed while others work; doubles
LONGEST_BREAK = 30.0
NEVER = -math.inf  # an instant (monotonic) that has passed already


class Lanes:
    """The lanes of one batch.

    Arguments:
        limit: how many there may be at once.
        serve: called with a lane whose connection is ready for a message.
        bereft: called with an error where no connection can be had and no lane is left.
        allow_for_absence: called after code that kept us from looking at the servers.
    """

    def __init__(
        self,
        pool: Pool[Connection],
        connector: Connector,
        clock: Clock,
        *,
        limit: int,
        serve: Callable[[Lane], None],
        bereft: Callable[[BaseException], None],
        allow_for_absence: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._connector = connector
        self._clock = clock
        self._limit = limit
        self._serve = serve
        self._bereft = bereft
        self._allow_for_absence = allow_for_absence
        self._answers: deque[LaneWaiter] = deque()
        self._is_taking = False
        self._wakeup = drive.Wakeup()
        self._next_break = FIRST_BREAK
        self.narrow_until = NEVER  # instant (monotonic) until which fewer lanes will do
        self._narrow_to = limit
        self._can_go_on: set[Run[Any]] = set()
        self._due = NEVER  # instant (monotonic) before which nothing is overdue
        self.all: list[Lane] = []

    @property
    def pending(self) -> int:
        """How many lanes will take a message and have none yet."""
        return [lane.entry for lane in self.all].count(None)

    @property
    def has_room(self) -> bool:
        """Whether there may be one more."""
        is_narrow = self._clock.monotonic() < self.narrow_until
        return len(self.all) < (self._narrow_to if is_narrow else self._limit)

    @property
    def busy(self) -> int:
        """How many lanes have a message under way."""
        return len(self.all) - self.pending

    @property
    def can_go_on(self) -> bool:
        """Whether a server has said something that nobody has looked at yet."""
        return bool(self._can_go_on)

    @property
    def are_writing(self) -> bool:
        """Whether a server waits for octets that we hold back as long as other code runs."""
        until = self.write_until
        return until > NEVER and self._clock.monotonic() < until

    @property
    def write_until(self) -> float:
        """The instant (monotonic) at which no server waits for octets any more, unless one takes some before."""
        until = NEVER
        for lane in self.all:
            if lane.run is not None and not lane.run.done:
                until = max(until, lane.run.outlook.writes_until)
        return until

    # -- standing in line ------------------------------------------------------------------------------

    def ask(self, *, first: bool = False) -> bool:
        """Stand in line for one more connection; return whether there is a point in asking for another."""
        lane = Lane(asked_at=self._clock.monotonic(), waiter=LaneWaiter(self._answers, self._wakeup.wake))
        self.all.append(lane)
        try:
            self._pool.request(lane.waiter, first=first)
        except (PoolFull, PoolTimeout) as error:
            self.all.remove(lane)
            self._no_connection(error)
            return False
        self.take_answers()
        if lane in self.all and lane.waiter.slot is None and self._is_starved:
            self._forgo(lane)
            self._no_connection(starved())
            return False
        return True

    @property
    def _is_starved(self) -> bool:
        """Whether an outer batch of this thread holds every connection: it cannot go on while we wait."""
        own = any(lane.slot is not None for lane in self.all)
        return not own and self._pool.is_starved_by(threading.get_ident())

    def take_answers(self) -> None:
        """Make use of the slots that were granted meanwhile, and hear of refusals."""
        if self._is_taking:  # whoever replaces a dead connection stands in line again, and goes no deeper for that
            return
        self._is_taking = True
        try:
            while self._answers:
                self._take(self._answers.popleft())
        finally:
            self._is_taking = False

    def _take(self, waiter: LaneWaiter) -> None:
        lane = next((lane for lane in self.all if lane.waiter is waiter), None)
        if lane is None or lane.slot is not None:  # gone, or told twice
            return
        lane.waited = self._clock.monotonic() - lane.asked_at
        self._pool.leave_line(waiter, lane.waited)
        if waiter.error is not None:
            self.all.remove(lane)
            self._no_connection(waiter.error)
        else:
            self._occupy(lane)

    def _occupy(self, lane: Lane) -> None:
        slot = lane.slot = lane.waiter.slot
        if slot is None:
            raise AssertionError("an answer is a slot or an error")
        if slot.connection is None:
            self._dial(lane)
        elif slot.connection.is_usable:
            lane.reused = True
            self._serve(lane)
        else:
            self.all.remove(lane)
            self._pool.take_back_dead(slot)
            self.ask(first=True)

    def _forgo(self, lane: Lane) -> None:
        """Leave the line, and put back what came all the same."""
        self.all.remove(lane)
        self._pool.leave_line(lane.waiter, self._clock.monotonic() - lane.asked_at)
        self._pool.take_back_ungranted(lane.waiter.leave())

    def _no_connection(self, error: BaseException) -> None:
        """Do with the lanes that work, for a while; where none does, that is the batch's trouble."""
        working = len(self.all) + self._pool.idle  # a lane may just have given its connection back
        if working:
            self._narrow_to = working
            self.narrow_until = self._clock.monotonic() + self._next_break
            self._next_break = min(LONGEST_BREAK, 2 * self._next_break)
        else:
            # Nobody works: one at a time finds out whether that passes, for a moment only.
            self._narrow_to, self._next_break = 1, FIRST_BREAK
            self.narrow_until = self._clock.monotonic() + FIRST_BREAK
            self._bereft(error)

    # -- dialling --------------------------------------------------------------------------------------

    def _dial(self, lane: Lane) -> None:
        """Open a connection; where that may mean to make an access token, only while no server waits for octets."""
        if self._connector.tokens is not None and self.are_writing:
            return  # `look` comes back to it
        lane.started_at = self._clock.monotonic()
        deadline = lane.started_at + self._pool.options.delivery_timeout
        try:
            lane.opening = self._begin(lane, deadline)
            lane.run = lane.opening.opening(deadline)
        except Exception as error:  # noqa: BLE001 - a certificate file that cannot be read, say
            self.dial_failed(lane, error)
        else:
            lane.run.start()

    def _begin(self, lane: Lane, deadline: float) -> Connection:
        try:
            if lane.refused is not None:
                return self._connector.begin_again(*lane.refused, deadline)
            return self._connector.begin(deadline)
        finally:
            self._allow_for_absence()

    def opened(self, lane: Lane) -> None:
        """Put a connection that is ready into the pool's books, and let it serve."""
        connection, lane.opening = lane.opening, None
        if connection is None:
            raise AssertionError("it was being opened")
        lane.run = None
        lane.connected = self._clock.monotonic() - lane.started_at
        self._next_break = FIRST_BREAK
        self._pool.opened(lane.taken, connection, lane.connected)
        self._serve(lane)

    def dial_failed(self, lane: Lane, error: BaseException) -> None:
        """Give up a connection that could not be opened, unless a newer access token may do it: once."""
        if lane.opening is not None and lane.refused is None and self._connector.may_begin_again(error):
            lane.refused = lane.opening, error
            lane.opening = lane.run = None
            self._dial(lane)
            return
        self.all.remove(lane)
        self._pool.failed_to_open(lane.taken, error)
        self._no_connection(error)

    # -- moving on -------------------------------------------------------------------------------------

    def look(self) -> Lane | None:
        """Let the dialogues that can go on do so, until one has ended: return its lane; the others wait for a turn.

        What is overdue after that has really timed out.
        """
        self.take_answers()
        self._allow_for_absence()
        ended = self._move_on()
        for lane in [lane for lane in self.all if lane.is_to_be_dialled]:
            self._dial(lane)
        return ended

    def _move_on(self) -> Lane | None:
        is_due = self._clock.monotonic() >= self._due
        for lane in self._nearest_first():
            if lane.run in self._can_go_on:
                self._can_go_on.remove(lane.run)
                lane.run.look()
            elif is_due:
                self._look_at_the_clock(lane)
            if lane.run is not None and lane.run.done:
                return lane
        return None

    def _nearest_first(self) -> list[Lane]:
        """Return the lanes, those last whose message has ended: others' servers only wait for the content to begin."""
        last = [lane for lane in self.all if lane.run in self._can_go_on and lane.run.waits_for_verdict]
        return [lane for lane in self.all if lane not in last] + last

    def _look_at_the_clock(self, lane: Lane) -> None:
        now = self._clock.monotonic()
        if lane.run is not None:
            if not lane.run.done and now >= lane.run.outlook.wake_at:
                lane.run.look()
        elif lane.slot is None and now >= self._patience_of(lane):
            self._forgo(lane)
            self._no_connection(self._pool.timed_out(now - lane.asked_at))

    def allow(self, seconds: float) -> None:
        """Let the deadlines of what is under way be so much later: the caller's own code had the thread."""
        for lane in self.all:
            if lane.entry is not None and lane.entry.job is not None:
                lane.entry.job.postpone(seconds)
            if lane.run is not None:
                lane.run.postpone(seconds)

    def wait(self, until: float) -> None:
        """Wait for a socket, for an answer from the pool, or for an instant (monotonic)."""
        # A dialogue may have ended where it began: a refused connection on this machine is known at once.
        at_once, runs, self._due = bool(self._answers), [], math.inf
        for lane in self.all:
            if lane.slot is None:
                self._due = min(self._due, self._patience_of(lane))
            elif lane.run is not None and lane.run.done:
                at_once = True
            elif lane.run is not None:
                runs.append(lane.run)
                self._due = min(self._due, lane.run.outlook.wake_at)
        patience = 0.0 if at_once else max(0.0, min(until, self._due) - self._clock.monotonic())
        self._can_go_on = self._wakeup.wait(runs, patience, self._clock)

    def _patience_of(self, lane: Lane) -> float:
        return lane.asked_at + self._pool.options.acquire_timeout

    def release(
        self, lane: Lane, error: BaseException | None = None, *, stale: bool = False, sender: str | None = None
    ) -> None:
        """Give the connection back: whoever waits gets it, perhaps a single message of another thread."""
        if stale:
            self._pool.take_back_stale(lane.taken)
        else:
            self._pool.take_back(lane.taken, error, sender)
        self.all.remove(lane)  # not before: an interrupt must not hide that it has a connection

    def close(self) -> None:
        """Leave every line, and break off what is under way: no dot and no QUIT, so no half message is accepted."""
        for lane in list(self.all):
            if lane.slot is None:
                self._forgo(lane)
                continue
            self.all.remove(lane)
            if lane.run is not None:
                lane.run.abandon()
            self._pool.drop(lane.waiter)
        self._wakeup.close()
