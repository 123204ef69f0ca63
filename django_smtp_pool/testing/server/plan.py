"""When a fault occurs: the points of a conversation, single faults, and random faults."""

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from . import faults
from .misbehaviour import Misbehaviour

# In the order of a conversation. A fault at a point that answers a command replaces the answer.
POINTS = (
    "connect",  # accepted; nothing sent yet, not even TLS
    "tls",  # instead of the handshake, implicit or after STARTTLS
    "banner",
    "ehlo",  # with LMTP, LHLO
    "helo",
    "starttls",
    "challenge",  # a 334 in the middle of AUTH
    "auth",  # the final reply to AUTH
    "mail",
    "next",  # a MAIL on a connection that has delivered a message; before "mail"
    "rcpt",
    "data",
    "body",  # in the middle of the content, by DATA or BDAT
    "bdat",  # after reading a chunk, including the last one; before "end"
    "end",  # after the end of data, by DATA or BDAT; in LMTP, once per recipient
    "after",  # directly after a 250 to the end of data, without a command
    "rset",
    "noop",
    "quit",
    "unknown",  # any other command
)


@dataclass(frozen=True, kw_only=True)
class Moment:
    """The state at a point where a fault may occur."""

    points: tuple[str, ...]
    connection: int
    step: int  # number of points that this connection passed before
    reused: bool  # whether it has delivered a message before

    @property
    def name(self):
        """Return the most general point."""
        return self.points[-1]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A misbehaviour at one or more points: `times` times, or always (None), after `skip` opportunities."""

    at: str | tuple[str, ...]
    do: Misbehaviour
    times: int | None = 1
    skip: int = 0
    when: str = "any"

    def __post_init__(self):
        if unknown := set(self.points).difference(POINTS):
            raise ValueError(f"unknown point: {', '.join(sorted(unknown))}; known are {', '.join(POINTS)}")
        if self.when not in ("any", "fresh", "reused"):
            raise ValueError(f"when must be any, fresh or reused, not {self.when!r}")

    @property
    def points(self):
        """Return the points as a tuple."""
        return (self.at,) if isinstance(self.at, str) else tuple(self.at)

    def concerns(self, moment):
        """Return whether the fault may occur at this moment."""
        return not set(self.points).isdisjoint(moment.points) and self.when in (
            "any",
            "reused" if moment.reused else "fresh",
        )


class Counted:
    """A fault with a count of its opportunities."""

    def __init__(self, fault):
        self._fault = fault
        self._chances = 0

    def pick(self, moment):
        """Return the misbehaviour if the fault occurs now."""
        if not self._fault.concerns(moment):
            return None
        self._chances += 1
        first, times = self._fault.skip, self._fault.times
        hits = first < self._chances and (times is None or self._chances <= first + times)
        return self._fault.do if hits else None


@dataclass(frozen=True, kw_only=True)
class RandomFaults:
    """Occur with probability `rate` at `points`; the same for the same seed, connection and step."""

    rate: float
    seed: object
    points: Sequence[str] = ()  # all points, if empty
    choices: Sequence[Misbehaviour] = faults.MIXTURE

    def pick(self, moment):
        """Return a misbehaviour, or None."""
        if self.points and set(self.points).isdisjoint(moment.points):
            return None
        # Not a shared random generator: the result must not depend on which thread runs first.
        draw = random.Random(f"{self.seed}/{moment.connection}/{moment.step}")
        return draw.choice(self.choices) if draw.random() < self.rate else None


class Plan:
    """All faults of a server, in order: of several at one point, the first is used up first."""

    def __init__(self, fault):
        several = fault if isinstance(fault, (list, tuple)) else [] if fault is None else [fault]
        self._rules = [Counted(each) if isinstance(each, Fault) else each for each in several]
        self._lock = threading.Lock()  # guards the counts

    def pick(self, moment):
        """Return the misbehaviour for this moment, or None."""
        with self._lock:  # rules after the one that applies do not count the opportunity, so a list is a sequence
            return next(filter(None, (rule.pick(moment) for rule in self._rules)), None)
