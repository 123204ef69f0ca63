"""What a pool learns about the limits of its server. Pure.

A lesson depends on the stage and the code of a reply, and on the other connections, never on the words of its text.
Each lesson is forgotten after a while: limits change, and a wrong lesson must not last.
"""

from __future__ import annotations

import copy
from collections import Counter, OrderedDict
from dataclasses import dataclass, field

from ..errors import SETUP_STAGES, PoolTimeout, Stage
from ..replies import Reply

RAISE_AFTER = 60.0  # seconds until a lowered ceiling is raised by one, and between further raises
FORGET_AFTER = 3600.0  # seconds until a learnt limit of messages or of idling is forgotten
FIRST_PAUSE = 1.0  # seconds without new messages after a 454; doubles with each further one
LONGEST_PAUSE = 30.0
TWO_SENDERS = 10.0  # seconds within which the refusals of two senders show that the server refuses all
SENDERS = 1000  # how many accepted senders are remembered
JUST_FORCED = 10.0  # seconds after a connection was closed by force, in which the server may still count it
PROBE_EVERY = 30.0  # seconds between two logins after a refused one
BRISK = 5.0  # seconds of idling below which a 421 is about the number of messages, and not about the idling
SHORTEST_IDLING = 1.0
MARGIN = 0.8  # fraction of the shortest idling after which a connection was found closed


@dataclass(frozen=True, kw_only=True)
class Incident:
    """A failure, and the circumstances.

    Arguments:
        alive: how many connections the server counts besides this one; 0 if none of them works.
        carried: how many messages this connection had carried before.
        idled: seconds for which it had been idle before this message.
        sender: the sender of the message, if it is known.
    """

    error: BaseException
    stage: Stage | None
    reply: Reply | None
    alive: int
    carried: int = 0
    idled: float = 0.0
    sender: str | None = None


@dataclass(kw_only=True)
class Lessons:
    """What is assumed about the server at the moment; None means that nothing was learnt.

    Arguments:
        longest_pause: seconds.
        ceiling: the maximum number of connections.
        raise_at: instant (monotonic) at which the ceiling is raised by one.
        max_messages: the maximum number of messages on one connection.
        idle_timeout: seconds after which the server closes an idle connection.
        forget_at: instant at which these two are forgotten.
        paused_until: instant before which no message begins.
        login_error: the refusal of the last login; `probe_at` is the instant of the next try.
        limits_lowered: idle connections may have carried more messages than they should.
        forced_at: instant at which a connection was last closed by force.
        news: (what, why) of lessons that were not passed to observers yet.
        why: the reason for each lesson that holds.
    """

    longest_pause: float = LONGEST_PAUSE
    ceiling: int | None = None
    raise_at: float = float("inf")
    max_messages: int | None = None
    idle_timeout: float | None = None
    forget_at: float = float("inf")
    paused_until: float = float("-inf")
    login_error: BaseException | None = None
    probe_at: float = float("-inf")
    limits_lowered: bool = False
    forced_at: float = float("-inf")
    news: list[tuple[str, str]] = field(default_factory=list)
    why: dict[str, str] = field(default_factory=dict)
    _next_pause: float = FIRST_PAUSE
    _ends: Counter[int] = field(default_factory=Counter)  # by number of messages: how often the server ended a session
    _deaths: list[float] = field(default_factory=list)  # seconds of idling after which connections were found dead
    _senders: OrderedDict[str, None] = field(default_factory=OrderedDict)  # accepted senders, the latest last
    _refused: tuple[str | None, float] | None = None  # the sender that was refused last, and when

    def learn(self, incident: Incident, now: float) -> None:
        """Learn from a failure, if it shows a limit."""
        reply = incident.reply
        if reply is None:
            return
        if incident.stage is Stage.AUTH and reply.is_permanent:
            self._login_refused(incident, reply, now)
        elif reply.is_about_connection and self._is_about_concurrency(incident, reply, now):
            self._lower_ceiling(incident.alive, reply, now)
        elif reply.code == 421 and incident.stage in {Stage.RSET, Stage.MAIL} and incident.idled < BRISK:
            self._session_ended(incident.carried, reply, now)
        elif reply.code == 454 or self._is_about_everybody(incident, reply, now):
            self._pause(reply, now)

    def _is_about_everybody(self, incident: Incident, reply: Reply, now: float) -> bool:
        """Return whether a refused sender shows that the server accepts no mail at all for a while."""
        if reply.code != 450 or incident.stage is not Stage.MAIL:
            return False
        if reply.enhanced is not None and reply.enhanced[1] == 1:  # x.1.x: it is about that address
            return False
        before, self._refused = self._refused, (incident.sender, now)
        if incident.sender in self._senders:
            return True
        return before is not None and before[0] != incident.sender and now - before[1] <= TWO_SENDERS

    def sent(self, sender: str, now: float) -> None:
        """Record that a message of a sender was accepted."""
        self.takes_mail_from(sender)
        if now >= self.paused_until and self._next_pause > FIRST_PAUSE:
            self._next_pause = FIRST_PAUSE
            self.why.pop("pause", None)

    def takes_mail_from(self, sender: str) -> None:
        """Record that the server has accepted a sender."""
        if sender in self._senders:
            self._senders.move_to_end(sender)
            return
        self._senders[sender] = None
        if len(self._senders) > SENDERS:
            self._senders.popitem(last=False)

    def _is_about_concurrency(self, incident: Incident, reply: Reply, now: float) -> bool:
        if not incident.alive or now - self.forced_at < JUST_FORCED:
            return False
        return reply.code == 432 or incident.stage in SETUP_STAGES or incident.carried == 0

    def _lower_ceiling(self, alive: int, reply: Reply, now: float) -> None:
        if self.ceiling is None or alive < self.ceiling:
            self.ceiling = alive
            self._note("max_connections", f"{alive} at once for a while: {reply}")
        self.raise_at = now + RAISE_AFTER

    def limit_found(self, carried: int, reply: Reply, now: float) -> None:
        """Record that the server refused MAIL on a connection after so many messages, but not on a fresh one."""
        self._session_ended(carried, reply, now)

    def _session_ended(self, carried: int, reply: Reply, now: float) -> None:
        self._ends[carried] += 1
        if carried and self._ends[carried] == 2:
            self.max_messages = min(carried, self.max_messages or carried)
            self.forget_at, self.limits_lowered = now + FORGET_AFTER, True
            self._note("max_messages", f"{self.max_messages} on one connection: {reply}")

    def _pause(self, reply: Reply, now: float) -> None:
        if now < self.paused_until:
            return
        pause = min(self._next_pause, self.longest_pause)
        self.paused_until = now + pause
        self._note("pause", f"new messages wait {pause:.0f} s: {reply}")
        self._next_pause = min(LONGEST_PAUSE, 2 * self._next_pause)

    def _login_refused(self, incident: Incident, reply: Reply, now: float) -> None:
        if self.login_error is None:
            self._note("login", f"one login every {PROBE_EVERY:.0f} s until one succeeds: {reply}")
        # A copy, which does not reference the frames that the original was raised through.
        self.login_error, self.probe_at = copy.copy(incident.error), now + PROBE_EVERY

    def died_idle(self, idled: float, now: float) -> None:
        """Record that a connection was found dead after so many seconds of idling; the second time shows a limit."""
        if idled < SHORTEST_IDLING:
            return
        self._deaths = [*self._deaths[-9:], idled]
        limit = max(SHORTEST_IDLING, MARGIN * min(self._deaths))
        if len(self._deaths) >= 2 and (self.idle_timeout is None or limit < self.idle_timeout):
            self.idle_timeout, self.forget_at = limit, now + FORGET_AFTER
            self._note("idle_timeout", f"{limit:.1f} s: the server hangs up on idle connections")

    def logged_in(self) -> None:
        """Record that a connection could be opened."""
        self.login_error = None
        self.why.pop("login", None)

    def pass_time(self, now: float, highest: int) -> None:
        """Forget old lessons, and raise a lowered ceiling step by step, up to the highest."""
        while self.ceiling is not None and now >= self.raise_at:
            self.ceiling, self.raise_at = self.ceiling + 1, self.raise_at + RAISE_AFTER
            if self.ceiling >= highest:
                self.ceiling, self.raise_at = None, float("inf")
                self.why.pop("max_connections", None)
        if now >= self.forget_at:
            self.max_messages = self.idle_timeout = None
            self.forget_at = float("inf")
            self._ends.clear()
            self._deaths.clear()
            self.why.pop("max_messages", None)
            self.why.pop("idle_timeout", None)

    def ends(self) -> dict[str, float]:
        """Return the instant (monotonic) at which each lesson of `why` ends or changes."""
        ends = {
            "max_connections": self.raise_at,
            "max_messages": self.forget_at,
            "idle_timeout": self.forget_at,
            "pause": self.paused_until,
            "login": self.probe_at,
        }
        return {what: ends[what] for what in self.why}

    def may_log_in(self, now: float) -> bool:
        """Return whether a login may be tried now."""
        return self.login_error is None or now >= self.probe_at

    def logs_in(self, now: float) -> None:
        """Record that a login begins; after a refused login, no other one is tried for `PROBE_EVERY` seconds."""
        if self.login_error is not None:
            self.probe_at = now + PROBE_EVERY

    def refusal(self) -> BaseException:
        """Return the error for a message for which no login is tried."""
        return copy.copy(self.login_error) or PoolTimeout("the server refused the last login")

    def _note(self, what: str, why: str) -> None:
        self.why[what] = why
        self.news.append((what, why))
