"""A backend without a network: it keeps mail in `mail.outbox`, and answers as a test configures it.

Everything except the SMTP conversation is the pooled backend's own: rendering, checks, statuses, errors, signals.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from django.core import mail

from ..backend import PooledBackend
from ..core.delivery.delivery import Delivery
from ..core.errors import DataRefused, DeliveryUnknown, Outcome, RecipientsRefused, Stage, refusal
from ..core.replies import Reply
from ..core.smtp.delivery import Receipt
from ..core.smtp.envelope import Envelope
from ..mailing import Mailing
from ..status import SmtpPoolStatus
from .local import mailer

BACKEND = "django_smtp_pool.testing.recording.RecordingBackend"


class ManualClock:
    """A clock that moves only when a test or a slow message moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def advance(self, seconds: float) -> None:
        """Move the clock."""
        self.now += seconds


@dataclass(kw_only=True)
class Answers:
    """How messages are answered; by default, all are accepted.

    Arguments:
        clock: moved by each slow message.
    """

    clock: ManualClock = field(default_factory=ManualClock)
    _recipients: dict[str, str] = field(default_factory=dict)
    _next: list[str] = field(default_factory=list)
    _seconds: float = 0.0
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def outbox(self) -> list[Any]:
        """The accepted messages: Django's `mail.outbox`."""
        return mail.outbox

    def refuse_recipient(self, address: str, reply: str = "550 5.1.1 No such user") -> None:
        """Refuse this recipient in all following messages."""
        self._recipients[address] = reply

    def refuse_message(self, reply: str = "554 5.7.1 Refused") -> None:
        """Refuse the next message after its data. Repeated calls set the answers for the messages after it."""
        self._next.append(reply)

    def lose_connection(self) -> None:
        """Lose the connection after the data of the next message, which then raises DeliveryUnknown."""
        self._next.append("")

    def accept_message(self) -> None:
        """Accept the next message, for example between two that fail."""
        self._next.append("250 2.0.0 Ok")

    def be_slow(self, seconds: float) -> None:
        """Move the clock by this many seconds for each message, which its status shows as `sent`; does not wait."""
        self._seconds = seconds

    def settle(self, delivery: Delivery) -> None:
        """Set the outcome of a message."""
        self.clock.advance(self._seconds)
        delivery.attempts, delivery.sent = 1, self._seconds
        envelope = delivery.envelope
        refused = {each: _reply(self._recipients[each]) for each in envelope.recipients if each in self._recipients}
        accepted = tuple(each for each in envelope.recipients if each not in refused)
        if not accepted:
            delivery.error = _all_refused(refused)
            return
        answer = self._next.pop(0) if self._next else "250 2.0.0 Ok"
        if not answer:
            delivery.error = _in_doubt(envelope, accepted)
        elif answer.startswith("2"):
            reply = _reply(f"{answer}: queued as T{next(self._numbers):06}")
            delivery.receipt = Receipt(accepted=accepted, refused=refused, reply=reply)
        else:
            delivery.error = refusal(DataRefused, _reply(answer), stage=Stage.CONTENT, outcome=Outcome.REFUSED)


def _reply(text: str) -> Reply:
    return Reply(code=int(text[:3]), lines=(text[4:].encode(),))


def _all_refused(refused: dict[str, Reply]) -> RecipientsRefused:
    error = RecipientsRefused({address: (reply.code, reply.message) for address, reply in refused.items()})
    error.outcome, error.stage, error.refused = Outcome.REFUSED, Stage.RCPT, refused
    error.reply = next(iter(refused.values()))
    return error


def _in_doubt(envelope: Envelope, recipients: tuple[str, ...]) -> DeliveryUnknown:
    error = DeliveryUnknown("the test lost the connection after the data, and the answer with it")
    error.stage, error.recipients, error.message_id = Stage.CONTENT, recipients, envelope.message_id
    return error


class _Scripted:
    """Replaces the sender of a pool; the pool is only used for its name and statistics."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool

    def complete(self, delivery: Delivery) -> Delivery:
        _answers[-1].settle(delivery)
        return delivery

    def send_many(
        self, envelopes: Iterable[tuple[Any, Envelope] | None], finish: Any, *_: Any, may_nest: bool = True
    ) -> None:
        for found in envelopes:
            if found is not None:
                token, envelope = found
                finish(token, self.complete(Delivery(envelope=envelope)))


class _Recording(Mailing):
    """Puts accepted messages into the outbox."""

    def _tell(self, message: Any, status: SmtpPoolStatus) -> None:
        super()._tell(message, status)
        if status.outcome == Outcome.ACCEPTED.value:
            mail.outbox.append(_copied(message))


def _copied(message: Any) -> Any:
    """Return a copy, as locmem does. The backend on a message is not copied, because it has locks."""
    backend = vars(message).get("connection")  # Django 6.1 warns about the attribute
    return copy.deepcopy(message, {id(backend): backend})


class RecordingBackend(PooledBackend):
    """The pooled backend without a network; `recorded_mail` installs it."""

    _is_customised = False
    _sends_its_own_way = True  # asend_messages() calls send_messages() in a thread

    def open(self) -> bool:
        """Open nothing."""
        return True

    def close(self) -> None:
        """Close nothing."""

    def _mailing(self) -> Mailing:
        # The sender of signals must be PooledBackend, since receivers may be connected to it.
        sender = cast("Any", _Scripted(self.pool))
        return _Recording(PooledBackend, sender, self.config, getattr(self, "prep_address", None))


_answers = [Answers()]  # the last one is in use


@contextmanager
def recorded_mail(**options: Any) -> Iterator[Answers]:
    """Empty `mail.outbox`, keep mail in it, and answer as configured on the returned object.

    Arguments:
        options: options of the mailer, such as `on_partial_refusal`.
    """
    answers = Answers()
    before, mail.outbox = getattr(mail, "outbox", None), []
    _answers.append(answers)
    try:
        with mailer(BACKEND, {"host": "localhost", **options}):
            yield answers
    finally:
        _answers.remove(answers)
        if before is None:
            del mail.outbox
        else:
            mail.outbox = before
