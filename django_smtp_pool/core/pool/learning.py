"""What a pool learns of its server's limits. Pure.

Lessons are drawn from where a reply came, its code, and what else is alive; never from its English words. Each
is forgotten after a while: limits change, and a wrong lesson must not stay.
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass, field

from ..errors import SETUP_STAGES, Stage
from ..replies import Reply

RAISE_AFTER = 60.0  # seconds until a lowered ceiling is raised by one again, and so on
FORGET_AFTER = 3600.0  # seconds until a learnt limit of messages or of idling is forgotten
FIRST_PAUSE = 1.0  # seconds without new messages after a 454; doubles while they go on
LONGEST_PAUSE = 30.0
PROBE_EVERY = 30.0  # seconds between two logins after a refused one
BRISK = 5.0  # seconds of idling below which a 421 is about the number of messages, and not about the idling
SHORTEST_IDLING = 1.0
MARGIN = 0.8  # of the shortest idling after which the server was found to have hung up


@dataclass(frozen=True, kw_only=True)
class Incident:
    """A failure, and what was known around it.

    Arguments:
        alive: how many other connections work.
        carried: how many messages this connection had carried before.
        idled: seconds it had been idle before this one.
    """

    error: BaseException
    stage: Stage | None
    reply: Reply | None
    alive: int
    carried: int = 0
    idled: float = 0.0


@dataclass(kw_only=True)
class Lessons:
    """What is held to be true at the moment; None is "nothing learnt".

    Arguments:
        raise_at: instant (monotonic) at which the ceiling may be one higher.
        paused_until: instant before which no message is begun.
        login_error: how the last login was refused; `probe_at` is the instant of the next try.
        news: (what, why) of lessons that nobody has been told of yet.
    """

    ceiling: int | None = None
    raise_at: float = float("inf")
    max_messages: int | None = None
    idle_timeout: float | None = None
    forget_at: float = float("inf")
    paused_until: float = float("-inf")
    login_error: BaseException | None = None
    probe_at: float = float("-inf")
    news: list[tuple[str, str]] = field(default_factory=list)
    why: dict[str, str] = field(default_factory=dict)
    _next_pause: float = FIRST_PAUSE
    _ends: Counter[int] = field(default_factory=Counter)  # sent away after so many messages: how often
    _deaths: list[float] = field(default_factory=list)

    def learn(self, incident: Incident, now: float) -> None:
        """Draw the lesson of a failure, if it holds one."""
        reply = incident.reply
        if reply is None:
            return
        if incident.stage is Stage.AUTH and reply.is_permanent:
            self._login_refused(incident, reply, now)
        elif reply.is_about_connection and self._tells_of_concurrency(incident, reply):
            self._lower_ceiling(incident.alive, reply, now)
        elif reply.code == 421 and incident.stage in {Stage.RSET, Stage.MAIL} and incident.idled < BRISK:
            self._session_ended(incident.carried, reply, now)
        elif reply.code == 454 or (reply.code == 450 and incident.stage is Stage.MAIL):
            self._pause(reply, now)

    @staticmethod
    def _tells_of_concurrency(incident: Incident, reply: Reply) -> bool:
        if not incident.alive:
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
            self.forget_at = now + FORGET_AFTER
            self._note("max_messages", f"{self.max_messages} on one connection: {reply}")

    def _pause(self, reply: Reply, now: float) -> None:
        if now < self.paused_until:
            return
        self.paused_until = now + self._next_pause
        self._note("pause", f"new messages wait {self._next_pause:.0f} s: {reply}")
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

    def refusal(self, now: float) -> BaseException | None:
        """Return why there is no point in logging in now, None for one who may try: he is the prober."""
        if self.login_error is None:
            return None
        if now >= self.probe_at:
            self.probe_at = now + PROBE_EVERY
            return None
        return copy.copy(self.login_error)

    def _note(self, what: str, why: str) -> None:
        self.why[what] = why
        self.news.append((what, why))
