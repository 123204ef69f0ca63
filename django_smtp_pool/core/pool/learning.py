"""What a pool learns of its server's limits. Pure.

Lessons are drawn from where a reply came, its code, and what else is alive; never from its English words. Each
is forgotten after a while: limits change, and a wrong lesson must not stay.
"""

from __future__ import annotations

import copy
from collections import Counter, OrderedDict
from dataclasses import dataclass, field

from ..errors import SETUP_STAGES, PoolTimeout, Stage
from ..replies import Reply

RAISE_AFTER = 60.0  # seconds until a lowered ceiling is raised by one again, and so on
FORGET_AFTER = 3600.0  # seconds until a learnt limit of messages or of idling is forgotten
FIRST_PAUSE = 1.0  # seconds without new messages after a 454; doubles while they go on
LONGEST_PAUSE = 30.0
TWO_SENDERS = 10.0  # seconds within which two senders that are refused show that it is about everybody
SENDERS = 1000  # of those whose mail was accepted, how many are remembered
JUST_FORCED = 10.0  # seconds after a connection was closed by force, in which the server may still count it
PROBE_EVERY = 30.0  # seconds between two logins after a refused one
BRISK = 5.0  # seconds of idling below which a 421 is about the number of messages, and not about the idling
SHORTEST_IDLING = 1.0
MARGIN = 0.8  # of the shortest idling after which the server was found to have hung up


@dataclass(frozen=True, kw_only=True)
class Incident:
    """A failure, and what was known around it.

    Arguments:
        alive: how many connections the server counts besides this one, 0 where none of them works.
        carried: how many messages this connection had carried before.
        idled: seconds it had been idle before this one.
        sender: the sender of the message, where it is known.
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
    """What is held to be true at the moment; None is "nothing learnt".

    Arguments:
        raise_at: instant (monotonic) at which the ceiling may be one higher.
        paused_until: instant before which no message is begun.
        login_error: how the last login was refused; `probe_at` is the instant of the next try.
        longest_pause: seconds.
        limits_lowered: idle connections may have carried more messages than they should.
        forced_at: instant of the last connection that was closed by force.
        news: (what, why) of lessons that nobody has been told of yet.
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
    _ends: Counter[int] = field(default_factory=Counter)  # sent away after so many messages: how often
    _deaths: list[float] = field(default_factory=list)
    _senders: OrderedDict[str, None] = field(default_factory=OrderedDict)  # accepted, the last one last
    _refused: tuple[str | None, float] | None = None  # the sender refused last, and when

    def learn(self, incident: Incident, now: float) -> None:
        """Draw the lesson of a failure, if it holds one."""
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
        """Tell whether a refused sender shows that the server takes no mail at all for a while."""
        if reply.code != 450 or incident.stage is not Stage.MAIL:
            return False
        if reply.enhanced is not None and reply.enhanced[1] == 1:  # x.1.x: that address
            return False
        before, self._refused = self._refused, (incident.sender, now)
        if incident.sender in self._senders:
            return True
        return before is not None and before[0] != incident.sender and now - before[1] <= TWO_SENDERS

    def takes_mail_from(self, sender: str) -> None:
        """Take note that the server has accepted a sender."""
        self._senders[sender] = None
        self._senders.move_to_end(sender)
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
        """Take note that a connection was refused MAIL after so many messages, and a fresh one was not."""
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
            self._note("login", f"one login each {PROBE_EVERY:.0f} s until one succeeds: {reply}")
        # A copy, which does not lead to the frames of whoever it was raised to.
        self.login_error, self.probe_at = copy.copy(incident.error), now + PROBE_EVERY

    def died_idle(self, idled: float, now: float) -> None:
        """Take note that a connection was found dead after so many seconds of idling; twice tells a limit."""
        if idled < SHORTEST_IDLING:
            return
        self._deaths = [*self._deaths[-9:], idled]
        limit = max(SHORTEST_IDLING, MARGIN * min(self._deaths))
        if len(self._deaths) >= 2 and (self.idle_timeout is None or limit < self.idle_timeout):
            self.idle_timeout, self.forget_at = limit, now + FORGET_AFTER
            self._note("idle_timeout", f"{limit:.1f} s: the server hangs up on idle connections")

    def logged_in(self) -> None:
        """Take note that a connection could be opened."""
        self.login_error = None
        self.why.pop("login", None)

    def sent(self, now: float) -> None:
        """Take note that a message was accepted."""
        if now >= self.paused_until:
            self._next_pause = FIRST_PAUSE
            self.why.pop("pause", None)

    def pass_time(self, now: float, highest: int) -> None:
        """Forget what is old, and raise a lowered ceiling step by step, up to the highest."""
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
        """Return the instant (monotonic) until which each lesson of `why` holds, or until it changes."""
        ends = {
            "max_connections": self.raise_at,
            "max_messages": self.forget_at,
            "idle_timeout": self.forget_at,
            "pause": self.paused_until,
            "login": self.probe_at,
        }
        return {what: ends[what] for what in self.why}

    def may_log_in(self, now: float) -> bool:
        """Tell whether there is a point in logging in now."""
        return self.login_error is None or now >= self.probe_at

    def logs_in(self, now: float) -> None:
        """Take note that somebody is about to log in: after a refusal that is the prober, and the others wait."""
        if self.login_error is not None:
            self.probe_at = now + PROBE_EVERY

    def refusal(self) -> BaseException:
        """Return why there is no point in logging in."""
        return copy.copy(self.login_error) or PoolTimeout("the server refused the last login")

    def _note(self, what: str, why: str) -> None:
        self.why[what] = why
        self.news.append((what, why))
