"""What the connections of one pool have learnt about their server. Pure: time is an argument.

If MAIL is refused on a connection that has carried messages, the reason may be the sender, or the server's limit of
messages per connection; the reply does not say which. So the message gets one attempt on a fresh connection. If that
accepts the same MAIL, there is a limit, and the used connection is retired. If it refuses too, the reason is the
sender, and for ten minutes its refusals stand without another attempt: otherwise, one bad sender would cost a login
for each of its messages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ..replies import Reply

STANDS = 600.0  # seconds for which the refusals of a sender stand
ONE_SHOT_BREAK = 600.0  # seconds without one shot, after a connection was lost during one
MOST_SENDERS = 1000  # maximum number to remember

# These are about the command or the message, whatever the connection has carried.
_NEVER_A_LIMIT = frozenset({501, 504, 552, 553, 555})
_NEVER_A_LIMIT_DETAIL = frozenset({(3, 4), (5, 4)})  # the size, the parameters (RFC 3463)


def may_be_limit(reply: Reply) -> bool:
    """Return whether a refusal of MAIL may mean that the connection has reached its limit of messages."""
    if reply.code in _NEVER_A_LIMIT:
        return False
    enhanced = reply.enhanced
    return enhanced is None or not (enhanced[1] == 1 or enhanced[1:] in _NEVER_A_LIMIT_DETAIL)


@dataclass(frozen=True, kw_only=True)
class Suspicion:
    """MAIL was refused on a used connection: it may have reached a limit.

    Arguments:
        carried: number of messages that the connection had carried.
        wear_out: a weak reference to the method that takes the connection out of use.
    """

    carried: int
    reply: Reply
    wear_out: Callable[[], Callable[[], None] | None]


@dataclass(kw_only=True)
class Experience:
    """What has been learnt so far.

    Arguments:
        takes_chunks: whether the server has accepted a message by BDAT; None if unknown, False if it offers CHUNKING
            but does not support BDAT.
        one_shot_from: instant (monotonic) until which content is not sent together with its commands.
        refuses_proofs: whether the server refused a proof of the password, and then accepted the password itself.
        password_next: whether the next login starts with the password, because only a proof was tried, and failed.
    """

    takes_chunks: bool | None = None
    one_shot_from: float = float("-inf")
    refuses_proofs: bool = False
    password_next: bool = False
    _stands_until: dict[str, float] = field(default_factory=dict)  # by sender
    _suspicions: dict[str, Suspicion] = field(default_factory=dict)  # by sender

    def lost_under_one_shot(self, now: float) -> None:
        """Record that a connection was lost while content was sent together with its commands."""
        self.one_shot_from = now + ONE_SHOT_BREAK

    def refusal_stands(self, sender: str, now: float) -> bool:
        """Return whether a fresh connection refused this sender recently."""
        return now < self._stands_until.get(sender, now)

    def suspect(self, sender: str, suspicion: Suspicion) -> None:
        """Record a refusal on a used connection; the next fresh connection shows what it meant."""
        _remember(self._suspicions, sender, suspicion)

    def refused(self, sender: str, now: float) -> None:
        """Record that a fresh connection refused a sender: the connection is not the reason."""
        self._suspicions.pop(sender, None)
        _remember(self._stands_until, sender, now + STANDS)

    def accepted(self, sender: str, *, is_fresh: bool) -> Suspicion | None:
        """Record that MAIL was accepted; return the suspicion that this confirms, or None."""
        if self._stands_until:
            self._stands_until.pop(sender, None)
        return self._suspicions.pop(sender, None) if is_fresh and self._suspicions else None


def _remember(memory: dict[str, object] | dict[str, float] | dict[str, Suspicion], sender: str, what: object) -> None:
    memory.pop(sender, None)
    while len(memory) >= MOST_SENDERS:
        memory.pop(next(iter(memory), ""), None)  # the oldest one
    memory[sender] = what  # type: ignore[assignment]
