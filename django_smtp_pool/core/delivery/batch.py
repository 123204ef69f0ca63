"""Many messages at once: several connections driven side by side from the calling thread.

No worker threads: locale, database and context variables are the caller's, and nothing has to survive a fork.
The caller's code (rendering, signal receivers) runs between the steps of the dialogues, never while one of
them is half-way through a write (unless its server has taken nothing for a second: it keeps the others waiting no
longer); a deadline counts as missed only if a fresh look finds nothing to read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from ..clock import Clock
from ..errors import let_go
from ..pool.pool import Pool
from ..rate_limit.limit import Limiter
from ..smtp.envelope import Envelope
from .connection import Connection, Connector
from .job import Delivery, Job, Try
from .lane import Entry, Lane
from .lanes import Lanes
from .retry import Done, Raise, Retry, concerns_all, tells_of_idling

AHEAD = 2**20  # octets of rendered messages that may wait for a connection, before one more is rendered

BRIEF = 0.01  # seconds that are not worth moving deadlines for; they add up

Finish = Callable[[Any, Delivery], None]  # (token, what became of the message)


class Means(Protocol):
    """What a batch needs of the sender."""

    pool: Pool[Connection]
    clock: Clock
    connector: Connector
    rate_limit: Limiter | None

    def judge(self, job: Job, this: Try) -> Done | Retry | Raise:
        """Take note of a try and judge what follows."""
        ...

    def finished(self, job: Job) -> Delivery:
        """Count a message that has found its outcome."""
        ...


class Batch:
    """One batch.

    Arguments:
        envelopes: (token, envelope) pairs; the next is asked for only when its turn is near, so a generator of a
            million is never held in a list.
        finish: told of each message when its outcome is known and its connection is back in the pool.
        connections: how many to use at once at most; 1 keeps the order.
        may_nest: whether `finish` may send mail itself: then one connection waits for it while there is news.

    After each message its connection goes to whoever waits. A failure is about one message; where no connection
    can be had, the rest is left alone: what was never tried is not told of.
    """

    def __init__(
        self,
        means: Means,
        envelopes: Iterable[tuple[Any, Envelope]],
        finish: Finish,
        connections: int,
        *,
        may_nest: bool = True,
    ) -> None:
        self._means = means
        self._options = means.pool.options
        self._clock = means.clock
        self._source: Iterator[tuple[Any, Envelope]] | None = iter(envelopes)
        self._finish = finish
        self._limit = connections
        self._may_nest = may_nest
        self._source_error: Exception | None = None  # of the caller's iterable: it has no more messages
        self._owed = 0.0  # seconds of the caller's code that nobody has been allowed for yet
        self._absent_since = means.clock.monotonic()  # instant since which they are not counted yet
        self._held_until = float("-inf")  # instant (monotonic) before which the rate limit lets nothing go
        self._ready: deque[Entry] = deque()  # to be tried as soon as there is a connection
        self._pausing: list[Entry] = []  # to be tried again a little later
        self._ended: deque[Entry] = deque()  # their outcome is to be told
        self._lanes = Lanes(
            means.pool,
            means.connector,
            means.clock,
            limit=connections,
            serve=self._serve,
            bereft=self._bereft,
            allow_for_absence=self._allow_for_absence,
        )

    def run(self) -> None:
        """Deliver everything; return when each message has found its outcome, or none can be sent any more."""
        try:
            while True:
                self._give_caller_a_turn()
                seen_at = self._clock.monotonic()
                self._look()
                self._ask_for_lanes()
                self._allow_for_absence()  # those who watch, log handlers too, are the caller's code
                if self._is_over:
                    break
                self._lanes.wait(self._next_instant(seen_at))
                self._absent_since = self._clock.monotonic()
        except BaseException as interrupt:
            self._break_off(interrupt)
            raise
        finally:
            self._lanes.close()
        if self._source_error is not None:
            raise self._source_error

    @property
    def _is_over(self) -> bool:
        under_way = any(lane.entry is not None for lane in self._lanes.all)
        return self._source is None and not (self._ready or self._pausing or self._ended or under_way)

    # -- the caller's code -----------------------------------------------------------------------------

    def _give_caller_a_turn(self) -> None:
        """Run one piece of the caller's code; then the servers are looked at, whose connections must not stand idle."""
        if (piece := self._next_piece) is not None:
            piece()
            self._allow_for_absence()

    @property
    def _next_piece(self) -> Callable[[], None] | None:
        """What the caller's code is to do now: hear what became of a message, or make the next one."""
        if self._lanes.are_writing:
            return None
        if self._ended and (len(self._ended) > self._limit or not self._lanes.can_go_on):
            return self._tell
        return self._render if self._wants_message else None

    @property
    def _wants_message(self) -> bool:
        if self._source is None or len(self._pausing) >= self._limit:
            return False
        if self._lanes.has_room and len(self._ready) <= self._lanes.pending:
            return True
        # Replies come in bursts: each connection that is free at once finds its next message rendered.
        if self._lanes.can_go_on or len(self._ready) >= max(1, self._lanes.busy):
            return False
        return sum(len(entry.envelope.content) for entry in self._ready) < AHEAD

    def _render(self) -> None:
        """Ask for the next message, so that it is ready when a connection is."""
        if self._source is None:
            raise AssertionError("there may be more messages")
        try:
            token, envelope = next(self._source)
        except StopIteration:
            self._source = None
        except Exception as error:  # noqa: BLE001 - raised when the messages under way have found their outcome
            self._source, self._source_error = None, error
        else:
            self._ready.append(Entry(token=token, envelope=envelope))

    def _tell(self) -> None:
        self._tell_of(self._ended[0])
        self._ended.popleft()  # and not before: an interrupt must not hide what became of it

    def _tell_of(self, entry: Entry) -> None:
        job = self._job(entry)
        try:
            if not entry.is_counted:
                entry.is_counted = True
                self._means.finished(job)
        finally:  # an interrupt in a log handler must not hide what became of the message
            self._finish(entry.token, job.delivery)

    def _allow_for_absence(self) -> None:
        """Do not hold the time that the caller's code took against the messages under way, nor their servers."""
        now = self._clock.monotonic()
        self._owed += now - self._absent_since
        self._absent_since = now
        if self._owed < BRIEF:
            return
        seconds, self._owed = self._owed, 0.0
        self._lanes.allow(seconds)
        for entry in (*self._ready, *self._pausing):
            if entry.job is not None:
                entry.job.postpone(seconds)

    # -- connections -----------------------------------------------------------------------------------

    def _ask_for_lanes(self) -> None:
        """Get the connections that there is mail for, all but one where somebody else in this thread may want it."""
        self._lanes.take_answers()
        now = self._clock.monotonic()
        for entry in [entry for entry in self._pausing if entry.not_before <= now]:
            self._ready.appendleft(entry)
            self._pausing.remove(entry)
        spare = self._may_nest and bool(self._ended)
        while self._is_short_of_lanes and self._may_go_on and not (spare and self._means.pool.idle < 2):
            if not self._lanes.ask():
                return

    @property
    def _is_short_of_lanes(self) -> bool:
        if not (self._ready and self._lanes.has_room) or self._clock.monotonic() < self._held_until:
            return False
        # A lane that is still being dialled must not keep a message from a connection that is ready.
        return self._lanes.pending < len(self._ready) or self._means.pool.idle > 0

    @property
    def _may_go_on(self) -> bool:
        # With one connection the order is kept: what is tried again goes before what follows.
        return self._limit > 1 or not self._pausing

    def _next_instant(self, seen_at: float) -> float:
        """Return until when there is nothing to do, where there was nothing at `seen_at`."""
        if self._next_piece is not None:
            return seen_at
        instants = [entry.not_before for entry in self._pausing]
        # One that has passed since then was still to come when it was looked at.
        breaks = (self._held_until, self._lanes.write_until, self._lanes.narrow_until)
        instants += [until for until in breaks if until > seen_at]
        return min(instants, default=seen_at + self._options.delivery_timeout)

    def _serve(self, lane: Lane) -> None:
        """Give a lane the next message, or give its connection back where there is none to go now."""
        try:
            goes = bool(self._ready) and self._may_go_on and not self._is_held_back()
        except Exception as error:  # noqa: BLE001 - judged
            self._lanes.release(lane)
            self._bereft(error)
            return
        if not goes:
            self._lanes.release(lane)
            return
        entry = lane.entry = self._ready.popleft()
        now = lane.started_at = self._clock.monotonic()
        job = entry.begin(self._options, now)
        try:
            job.run = lane.run = lane.taken.connection.delivering(job.envelope, job.deadline)
        except Exception as error:  # noqa: BLE001 - refused by ourselves, before anything was said
            self._message_ended(lane, lane.tried(now, error=error))
            return
        lane.run.start()  # what comes out of this is no answer of the server's

    def _is_held_back(self) -> bool:
        """Ask the rate limit, with the connection in hand."""
        limit, entry = self._means.rate_limit, self._ready[0]
        if limit is None:
            return False
        entry.ticket = entry.ticket or limit.ticket(len(entry.envelope.recipients))
        try:
            pause = entry.ticket.take(self._clock.monotonic())
            entry.ticket = entry.ticket if pause else None  # another try needs another place
        finally:
            self._allow_for_absence()  # the answer may come from another machine
        now = self._clock.monotonic()
        if pause:
            longer = now + pause - max(now, self._held_until)
            self._held_until = now + pause
            for entry in (*self._ready, *self._pausing):
                if entry.job is not None:
                    entry.job.postpone(longer)
        return pause > 0

    def _look(self) -> None:
        lane = self._lanes.look()
        if lane is None:
            return
        this = lane.ended(self._clock.monotonic())
        if lane.opening is None:
            self._message_ended(lane, this)
        elif this.error is None:
            self._lanes.opened(lane)
        else:
            self._lanes.dial_failed(lane, this.error)

    # -- outcomes --------------------------------------------------------------------------------------

    def _message_ended(self, lane: Lane, this: Try) -> None:
        if lane.entry is None:
            raise AssertionError("the lane had a message")
        # In this order: wherever an interrupt comes, what became of the message is known.
        self._judge(lane.entry, this)
        lane.entry = lane.run = None
        stale = lane.reused and this.error is not None and tells_of_idling(this.error)
        self._lanes.release(lane, this.error, stale=stale)

    def _judge(self, entry: Entry, this: Try) -> None:
        let_go(this.error)  # there may be as many as messages
        verdict = self._means.judge(self._job(entry), this)
        if not isinstance(verdict, Retry):
            self._ended.append(entry)
        elif verdict.after:
            entry.not_before = self._clock.monotonic() + verdict.after
            self._pausing.append(entry)
        else:
            self._ready.appendleft(entry)

    def _bereft(self, error: BaseException) -> None:
        """Nothing can go: that is the next message's failure, and perhaps everybody's."""
        if not self._ready:
            return
        entry = self._ready[0]
        entry.begin(self._options, self._clock.monotonic())
        self._judge(entry, Try(error=error))
        self._ready.remove(entry)  # not before: an interrupt must not hide what became of it
        if entry in self._ended and concerns_all(error):
            self._stop(error)

    def _stop(self, error: BaseException) -> None:
        """Ask for no more messages; those that were tried before share the fate of this one."""
        self._source = None
        for entry in (*self._ready, *self._pausing):
            if entry.job is not None:
                entry.job.give_up(error)
                self._ended.append(entry)
        self._ready.clear()
        self._pausing.clear()

    def _break_off(self, interrupt: BaseException) -> None:
        """Stop in the middle, and tell what is known of the messages that were under way."""
        under_way = [lane.entry for lane in self._lanes.all if lane.entry is not None]
        self._lanes.close()
        ended = list(self._ended)
        cut_short = dict.fromkeys([*under_way, *self._ready, *self._pausing])  # one on its way is in two of them
        for entry in [entry for entry in cut_short if entry.job is not None and entry not in ended]:
            self._job(entry).cut_short(interrupt)
            ended.append(entry)
        for entry in ended:
            self._tell_of(entry)

    @staticmethod
    def _job(entry: Entry) -> Job:
        if entry.job is None:
            raise AssertionError("it was tried")
        return entry.job
