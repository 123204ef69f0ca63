"""What the connections of one pool have found out about their server, for each other. Pure: time is an argument.

A refusal of MAIL on a connection that has carried messages may speak of the sender, or of the server's limit of
messages on one connection, and no reply says which. So it gets one try on a fresh connection. Where that takes the
same MAIL there is a limit, and the used connection is worn out. Where it refuses too, the sender is at fault, and for
ten minutes its refusals stand without another try: one bad sender must not cost a login for each of its messages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ..replies import Reply

STANDS = 600.0  # seconds for which a sender's refusals stand
ONE_SHOT_BREAK = 600.0  # seconds without one shot, after a connection was lost under it
MOST_SENDERS = 1000  # remembered at once

# These are about the command or the message, whatever the connection has carried.
_NEVER_A_LIMIT = frozenset({501, 504, 552, 553, 555})
_NEVER_A_LIMIT_DETAIL = frozenset({(3, 4), (5, 4)})  # the size, the parameters (RFC 3463)


def may_be_limit(reply: Reply) -> bool:
    """Return whether a refusal of MAIL may mean that the connection has carried as many messages as it may."""
    if reply.code in _NEVER_A_LIMIT:
        return False
    enhanced = reply.enhanced
    return enhanced is None or not (enhanced[1] == 1 or enhanced[1:] in _NEVER_A_LIMIT_DETAIL)


@dataclass(frozen=True, kw_only=True)
class Suspicion:
    """A used connection was refused MAIL: perhaps it has reached a limit.

    Arguments:
        carried: how many messages it had carried.
        wear_out: takes the connection out of use.
    """

    carried: int
    reply: Reply
    wear_out: Callable[[], None]


@dataclass(kw_only=True)
class Experience:
    """What was found out so far.

    Arguments:
        takes_chunks: whether the server has accepted a message by BDAT; None while nobody has tried, False for one that
            offers CHUNKING and does not know BDAT.
        one_shot_from: instant (monotonic) before which no content goes with its commands.
        refuses_proofs: whether it has refused a proof of the password, and taken the password itself right after that.
        password_next: the last login by a proof failed, and nobody could try the password: the next login does.
    """

    takes_chunks: bool | None = None
    one_shot_from: float = float("-inf")
    refuses_proofs: bool = False
    password_next: bool = False
    _stands_until: dict[str, float] = field(default_factory=dict)  # by sender
    _suspicions: dict[str, Suspicion] = field(default_factory=dict)  # by sender

    def lost_under_one_shot(self, now: float) -> None:
        """Take note that a connection was lost while content was on its way together with its commands."""
        self.one_shot_from = now + ONE_SHOT_BREAK

    def refusal_stands(self, sender: str, now: float) -> bool:
        """Return whether a fresh connection has refused this sender not long ago."""
        return now < self._stands_until.get(sender, now)

    def suspect(self, sender: str, suspicion: Suspicion) -> None:
        """Take note of a refusal on a used connection; the next fresh one decides what it meant."""
        _remember(self._suspicions, sender, suspicion)

    def refused(self, sender: str, now: float) -> None:
        """Take note that a fresh connection refused a sender: it is at fault, and no connection."""
        self._suspicions.pop(sender, None)
        _remember(self._stands_until, sender, now + STANDS)

    def accepted(self, sender: str, *, is_fresh: bool) -> Suspicion | None:
        """Take note that MAIL was accepted; return the suspicion that this confirms."""
        if self._stands_until:
            self._stands_until.pop(sender, None)
        return self._suspicions.pop(sender, None) if is_fresh and self._suspicions else None


def _remember(memory: dict[str, object] | dict[str, float] | dict[str, Suspicion], sender: str, what: object) -> None:
    memory.pop(sender, None)
    while len(memory) >= MOST_SENDERS:
        memory.pop(next(iter(memory), ""), None)  # the oldest
    memory[sender] = what  # type: ignore[assignment]
