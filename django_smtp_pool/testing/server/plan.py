"""When a fault hits: the points of a conversation, single faults, and random mixtures."""

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from . import faults
from .misbehaviour import Misbehaviour

# In the order of a conversation. A fault at a point that answers a command replaces the answer.
POINTS = (
    "connect",  # accepted; not a word said yet, no TLS either
    "tls",  # instead of the handshake, implicit or after STARTTLS
    "banner",
    "ehlo",  # LHLO, in LMTP
    "helo",
    "starttls",
    "challenge",  # a 334 in the middle of AUTH
    "auth",  # the verdict on AUTH
    "mail",
    "next",  # a MAIL on a connection that has delivered already; before "mail"
    "rcpt",
    "data",
    "body",  # in the middle of the content, whether DATA's or BDAT's
    "bdat",  # a chunk has been read, the last one too; before "end"
    "end",  # the end of data has been read, whether by DATA or by BDAT; in LMTP, once for each recipient
    "after",  # right after a 250 to the end of data, unasked
    "rset",
    "noop",
    "quit",
    "unknown",  # any other command
)


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What is known where a fault might hit."""

    points: tuple[str, ...]
    connection: int
    step: int  # how many moments this connection had before
    reused: bool  # it has delivered a message before

    @property
    def name(self):
        """Return the most general point."""
        return self.points[-1]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One misbehaviour at a point (or several): `times` times, or for ever (None), after `skip` chances."""

    at: str | tuple[str, ...]
    do: Misbehaviour
    times: int | None = 1
    skip: int = 0
    when: str = "any"

    def __post_init__(self):
        if unknown := set(self.points).difference(POINTS):
            raise ValueError(f"no such point: {', '.join(sorted(unknown))}; there are {', '.join(POINTS)}")
        if self.when not in ("any", "fresh", "reused"):
            raise ValueError(f"when is any, fresh or reused, not {self.when!r}")

    @property
    def points(self):
        """Return the points as a tuple, however they were given."""
        return (self.at,) if isinstance(self.at, str) else tuple(self.at)

    def concerns(self, moment):
        """Tell whether this is a chance for the fault to hit."""
        return not set(self.points).isdisjoint(moment.points) and self.when in (
            "any",
            "reused" if moment.reused else "fresh",
        )


class Counted:
    """A fault with its chances counted."""

    def __init__(self, fault):
        self._fault = fault
        self._chances = 0

    def pick(self, moment):
        """Return the misbehaviour if this chance is one of its own."""
        if not self._fault.concerns(moment):
            return None
        self._chances += 1
        first, times = self._fault.skip, self._fault.times
        hits = first < self._chances and (times is None or self._chances <= first + times)
        return self._fault.do if hits else None


@dataclass(frozen=True, kw_only=True)
class RandomFaults:
    """Hit at `rate` of all chances at `points`; alike for the same seed, connection and step."""

    rate: float
    seed: object
    points: Sequence[str] = ()  # none given: everywhere
    choices: Sequence[Misbehaviour] = faults.MIXTURE

    def pick(self, moment):
        """Return a misbehaviour, or None."""
        if self.points and set(self.points).isdisjoint(moment.points):
            return None
        # No shared generator: what a connection meets must not hang on which thread happens to run first.
        draw = random.Random(f"{self.seed}/{moment.connection}/{moment.step}")
        return draw.choice(self.choices) if draw.random() < self.rate else None


class Plan:
    """All faults of a server, asked in order: of several at one point the first is used up first."""

    def __init__(self, fault):
        several = fault if isinstance(fault, (list, tuple)) else [] if fault is None else [fault]
        self._rules = [Counted(each) if isinstance(each, Fault) else each for each in several]
        self._lock = threading.Lock()  # guards the counts

    def pick(self, moment):
        """Return the misbehaviour for this moment, or None."""
        with self._lock:  # the rules behind the one that hits do not count the chance: a list is a sequence
            return next(filter(None, (rule.pick(moment) for rule in self._rules)), None)
