"""All errors that the core raises.

Each inherits the smtplib class that code for Django's own backend catches, has the `outcome` of the message and the
`stage` of the conversation, and can be pickled (task queues store errors).
"""

from __future__ import annotations

import copy
import smtplib
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar

from .interrupts import from_signal_handler, is_marked
from .replies import Reply


class Outcome(str, Enum):
    """The outcome of a message; each message has exactly one."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    NOT_SENT = "not_sent"
    UNKNOWN = "unknown"


class Stage(str, Enum):
    """The stage of the conversation."""

    CONNECT = "connect"
    GREETING = "greeting"
    EHLO = "EHLO"
    STARTTLS = "STARTTLS"
    TLS = "TLS handshake"
    AUTH = "AUTH"
    RSET = "RSET"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    CONTENT = "content"
    NOOP = "NOOP"
    QUIT = "QUIT"


# Until a connection is ready, a 5xx is about this client (its address or password), not about a message.
SETUP_STAGES = frozenset({Stage.CONNECT, Stage.GREETING, Stage.EHLO, Stage.STARTTLS, Stage.TLS, Stage.AUTH})


class Failure(smtplib.SMTPException):
    """The base class. It has the `outcome`, the `stage`, and the server's `reply` if one was read.

    `is_final`: another attempt cannot help, although the message was not sent. `session_survives`: the connection may
    carry another message.
    """

    outcome: Outcome = Outcome.NOT_SENT
    stage: Stage | None = None
    reply: Reply | None = None
    refused: Mapping[str, Reply] = {}  # the recipients that the server refused, whatever the outcome for the others
    is_final: bool = False
    session_survives: bool = False
    # For the rules of retrying (delivery/retry.py). `try_fresh`: the connection may be the cause, so one attempt on a
    # fresh connection makes sense, whatever the outcome; `is_last_resort`: no other attempt follows it.
    # `logins`: number of logins in this attempt that were refused or not answered.
    try_fresh: bool = False
    is_last_resort: bool = False
    logins: int = 0

    def __init__(
        self,
        *args: Any,
        stage: Stage | None = None,
        reply: Reply | None = None,
        outcome: Outcome | None = None,
        session_survives: bool = False,
        is_final: bool = False,
    ) -> None:
        super().__init__(*args)
        # Values that are not given keep the class's default.
        if stage is not None:
            self.stage = stage
        if reply is not None:
            self.reply = reply
        if outcome is not None:
            self.outcome = outcome
        if session_survives:
            self.session_survives = True
        if is_final:
            self.is_final = True


FailureT = TypeVar("FailureT", bound=Failure)


def refusal(
    kind: type[FailureT], reply: Reply, *extra: Any, stage: Stage, outcome: Outcome = Outcome.NOT_SENT
) -> FailureT:
    """Make an error from a refusing reply, with its arguments in smtplib's order."""
    return kind(reply.code, reply.message, *extra, stage=stage, reply=reply, outcome=outcome)


class ConnectionLost(Failure, smtplib.SMTPServerDisconnected):
    """The connection was closed or reset, and no reply to the end of the data was due."""

    # What the driver knew at that moment: the replies that had arrived in this exchange, and whether the last octet
    # of our data may have left.
    heard: tuple[Reply, ...] = ()
    all_said: bool = False


class ReplyTimeout(ConnectionLost, TimeoutError):
    """The server did not answer, or did not accept what was sent, in time."""


class ProtocolError(ConnectionLost):
    """The server sent something other than a reply, an unexpected reply, or no proof in a SCRAM login."""


class GreetingRefused(Failure, smtplib.SMTPConnectError):
    """The server greeted with a refusal."""


class EhloRefused(Failure, smtplib.SMTPHeloError):
    """The server refused both EHLO and HELO, or LHLO."""


class StartTLSRefused(Failure, smtplib.SMTPResponseException):
    """The server offers STARTTLS but refused it."""


class NotOffered(Failure, smtplib.SMTPNotSupportedError):
    """The server does not offer something that is required (TLS, a login, SMTPUTF8, DSN, REQUIRETLS)."""

    is_final = True


class AuthRefused(Failure, smtplib.SMTPAuthenticationError):
    """The server refused the login; `explanation` is the text that it sent about a token before, if any."""

    explanation: str = ""


class TokenUnavailable(Failure):
    """No OAuth2 access token is available, so there was no login; the cause is the generator's error."""

    stage = Stage.AUTH
    is_final = True


class SenderRefused(Failure, smtplib.SMTPSenderRefused):
    """The server refused MAIL."""


class RecipientsRefused(Failure, smtplib.SMTPRecipientsRefused):
    """The server refused every recipient; `recipients` maps each to (code, text)."""


class DataRefused(Failure, smtplib.SMTPDataError):
    """The server refused DATA, or the message after its last byte."""


class DeliveryUnknown(Failure):
    """The connection was lost after the whole message may have left, before the server's answer was read.

    The server may have the message or not; sending it again may deliver it twice. `in_doubt` is True, `recipients` are
    those that the server had accepted, and `message_id` identifies the message in the server's log. With LMTP, each
    recipient has its own reply: `recipients` are those without one, and `accepted` maps those that certainly have the
    message to the reply.
    """

    outcome = Outcome.UNKNOWN
    in_doubt = True
    recipients: tuple[str, ...] = ()
    accepted: Mapping[str, Reply] = {}
    message_id: str | None = None


class PartiallyRefused(Failure):
    """The message was accepted for some recipients and refused for others (`on_partial_refusal="raise"`).

    `accepted` has addresses, `refused` maps addresses to replies. Do not send it to all again: some have it.
    """

    outcome = Outcome.ACCEPTED

    def __init__(self, accepted: Sequence[str], refused: Mapping[str, Reply]) -> None:
        super().__init__(tuple(accepted), dict(refused))
        self.accepted = tuple(accepted)
        self.refused = dict(refused)

    def __str__(self) -> str:
        refusals = ", ".join(f"{address} ({reply})" for address, reply in self.refused.items())
        accepted = "1 recipient" if len(self.accepted) == 1 else f"{len(self.accepted)} recipients"
        return f"accepted for {accepted}, refused for {len(self.refused)}: {refusals}"


class PoolTimeout(Failure, TimeoutError):
    """No connection became free within `acquire_timeout` (or what was left of `delivery_timeout`)."""


class PoolFull(Failure):
    """`max_waiting` other messages wait for a connection already."""


class PoolClosed(Failure):
    """The pool was closed while this message waited for a connection."""


class RateLimited(Failure):
    """The rate limit does not allow the message within `rate_wait`, but after `retry_after` seconds."""

    is_final = True
    retry_after: float = 0.0  # infinity if the message has more recipients than the limit allows


class RateStorageUnavailable(Failure):
    """The storage of the rate limit did not answer, and `on_rate_storage_failure` is "closed"."""

    is_final = True


def is_failure(error: BaseException) -> bool:
    """Return whether an error is a failure of a message; any other exception is an interrupt (`core.interrupts`)."""
    # The failure of mail that a signal handler sends is an interrupt of what the handler has interrupted.
    return (isinstance(error, Failure) or is_marked(error)) and not from_signal_handler(error)


def outcome_of(error: BaseException) -> Outcome:
    """Return the outcome that an error states; an error without one was raised before anything was sent."""
    outcome = getattr(error, "outcome", Outcome.NOT_SENT)
    return outcome if isinstance(outcome, Outcome) else Outcome.NOT_SENT


def let_go(error: BaseException | None) -> None:
    """Remove the tracebacks from our failures: their frames hold a whole message, and would keep it in memory."""
    while isinstance(error, Failure):  # keep the traceback of any other error, for debugging
        error.__traceback__ = None
        error = error.__cause__


def without_frames(error: Exception) -> Exception:
    """Return a copy to keep or show elsewhere: the error itself refers to the frames of its caller."""
    try:
        return copy.copy(error)
    except Exception as problem:
        if from_signal_handler(problem):
            raise
        return Failure(str(error))  # its class comes from elsewhere, and cannot be copied
