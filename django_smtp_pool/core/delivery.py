"""The dialogue of one message: MAIL, RCPT, DATA, content (RFC 5321 §3.3, RFC 2920).

The outcome is decided here, by what was said and heard, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .dialogue import command
from .envelope import Envelope, dot_stuffed, with_crlf
from .errors import (
    ConnectionLost,
    DataRefused,
    DeliveryUnknown,
    Failure,
    NotOffered,
    Outcome,
    ProtocolError,
    RecipientsRefused,
    SenderRefused,
    Stage,
    refusal,
)
from .offer import Offer
from .replies import Reply
from .steps import Dialogue, Heard, Patience, Say


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """The server has taken a message.

    Arguments:
        accepted: the addresses it was accepted for.
        refused: each refused address and the reply to its RCPT.
        reply: the reply to the end of the data.
    """

    accepted: tuple[str, ...]
    refused: Mapping[str, Reply] = field(default_factory=dict)
    reply: Reply


@dataclass(frozen=True, kw_only=True)
class Session:
    """What a delivery must know of the session it takes place in."""

    offer: Offer
    reused: bool = False  # it has been idle: its first reply may speak of that
    needs_reset: bool = False  # the message before was refused half-way
    pipelining: bool = True


def fit(offer: Offer, envelope: Envelope) -> bytes:
    """Return the content in the form this server takes, or raise before anything is said.

    Raises NotOffered where an address needs SMTPUTF8 and the server does not offer it, SenderRefused (552)
    where the message is larger than the server said it takes, ValueError where it cannot be made 7-bit.
    """
    _check_smtputf8(offer, envelope)
    content = with_crlf(_content_for(offer, envelope))
    _check_size(offer, envelope, len(content))
    return content


def deliver(session: Session, envelope: Envelope, content: bytes) -> Dialogue[Receipt]:
    """Deliver one message, its content as `fit` returned it.

    Returns the receipt, or raises what tells the message's outcome.
    """
    group = _Group(session, envelope, len(content))
    yield from group.exchange()
    group.judge_sender()
    fates = group.judge_recipients()
    if not fates.accepted:
        survives = yield from _abandon(group)
        raise _all_refused(fates, session_survives=survives)
    try:
        group.judge_data()
        return (yield from _send_content(envelope, content, fates))
    except Failure as error:
        error.refused = fates.refused  # these have their answer, whatever becomes of the others
        raise


def _check_smtputf8(offer: Offer, envelope: Envelope) -> None:
    if envelope.smtputf8 and not offer.smtputf8:
        error = NotOffered("an address has non-ASCII characters, and the server does not offer SMTPUTF8")
        error.stage, error.session_survives = Stage.MAIL, True
        raise error


def _content_for(offer: Offer, envelope: Envelope) -> bytes:
    if envelope.is_eight_bit and not offer.eight_bit_mime and envelope.seven_bit is not None:
        return envelope.seven_bit()
    return envelope.content


def _check_size(offer: Offer, envelope: Envelope, size: int) -> None:
    """Refuse what the server has said it will refuse, before MAIL (RFC 1870 §6.1)."""
    if offer.size and size > offer.size:
        text = f"5.3.4 the message has {size} octets, the server takes at most {offer.size}".encode()
        error = refusal(SenderRefused, Reply(code=552, lines=(text,)), envelope.sender, stage=Stage.MAIL)
        error.is_final = error.session_survives = True
        raise error


@dataclass(frozen=True, kw_only=True)
class _Fates:
    accepted: tuple[str, ...]
    refused: dict[str, Reply]


class _Group:
    """The commands before the content, as one write where the server offers PIPELINING."""

    def __init__(self, session: Session, envelope: Envelope, size: int) -> None:
        self._session = session
        self._envelope = envelope
        self._lost: ConnectionLost | None = None
        self._commands: list[tuple[Stage, str]] = []
        if session.needs_reset:
            self._commands.append((Stage.RSET, "RSET"))
        self._commands.append((Stage.MAIL, _mail(session.offer, envelope, size)))
        self._commands += [(Stage.RCPT, f"RCPT TO:<{address}>") for address in envelope.recipients]
        self._commands.append((Stage.DATA, "DATA"))
        self._replies: list[tuple[Stage, Reply]] = []

    def exchange(self) -> Dialogue[None]:
        """Say the commands and collect the replies, as many as there come."""
        if self._session.pipelining and self._session.offer.pipelining:
            yield from self._say(self._commands)
        else:
            for one in self._commands:
                if not self._is_pointless(one[0]):
                    yield from self._say([one])
        self._check_session()

    def _say(self, commands: Sequence[tuple[Stage, str]]) -> Dialogue[None]:
        lines = [command(line, stage=stage).pieces[0] for stage, line in commands]
        step = Say(pieces=(b"".join(lines),), stage=commands[0][0], hear=len(commands))
        try:
            heard: Heard = yield step
            replies = heard.replies
        except ConnectionLost as lost:
            self._lost, replies = lost, lost.heard
        self._replies += zip(
            (stage for stage, _ in commands), replies, strict=False
        )  # fewer replies where it ended early

    def _is_pointless(self, stage: Stage) -> bool:
        """Tell whether nothing more is to be said of this message, one command at a time."""
        if self._lost or any(reply.closes_connection for _, reply in self._replies):
            return True
        if stage is Stage.RCPT:
            return self._refusal(Stage.MAIL) is not None
        return stage is Stage.DATA and not any(
            reply.is_positive for answered, reply in self._replies if answered is Stage.RCPT
        )

    def _refusal(self, stage: Stage) -> Reply | None:
        return next((reply for at, reply in self._replies if at is stage and not reply.is_positive), None)

    def _check_session(self) -> None:
        """Raise where a reply ended the session before the message was refused: then it was not sent.

        A refusal stands whatever comes after it: Postfix under stress hangs up (421) behind a single error, and
        trying again elsewhere would only be refused again.
        """
        for position, (stage, reply) in enumerate(self._replies):
            if self._is_refused_by(self._replies[:position]):
                return
            stale = position == 0 and self._session.reused and reply.is_idle_notice
            if reply.is_about_connection or stale:
                raise self._error(stage, reply, Outcome.NOT_SENT)
            if stage is Stage.RSET and not reply.is_positive:
                raise self._out_of_step(stage, reply)
        if self._lost and not self._replies:
            raise self._lost

    def _is_refused_by(self, replies: Sequence[tuple[Stage, Reply]]) -> bool:
        if any(stage is Stage.MAIL and reply.is_refusal for stage, reply in replies):
            return True
        refusals = sum(stage is Stage.RCPT and reply.is_refusal for stage, reply in replies)
        return refusals == len(self._envelope.recipients)

    def _error(self, stage: Stage, reply: Reply, outcome: Outcome) -> Failure:
        if stage is Stage.RCPT:
            error: Failure = RecipientsRefused(dict.fromkeys(self._envelope.recipients, (reply.code, reply.message)))
            error.reply, error.stage, error.outcome = reply, stage, outcome
        elif stage is Stage.DATA:
            error = refusal(DataRefused, reply, stage=stage, outcome=outcome)
        else:
            error = refusal(SenderRefused, reply, self._envelope.sender, stage=stage, outcome=outcome)
        error.session_survives = outcome is Outcome.REFUSED and self.is_in_step
        return error

    def _out_of_step(self, stage: Stage, reply: Reply) -> Failure:
        error = ProtocolError(f"the server answered {stage.value} with {reply}")
        error.reply, error.stage = reply, stage
        return error

    def judge_sender(self) -> None:
        """Raise where the server refused MAIL."""
        reply = self._only(Stage.MAIL)
        if reply.is_refusal:
            raise self._error(Stage.MAIL, reply, Outcome.REFUSED)
        if not reply.is_positive:
            raise self._out_of_step(Stage.MAIL, reply)

    def judge_recipients(self) -> _Fates:
        """Tell who was accepted; raise where not every recipient has an answer."""
        replies = [reply for stage, reply in self._replies if stage is Stage.RCPT]
        for reply in replies:
            if reply.is_intermediate:
                raise self._out_of_step(Stage.RCPT, reply)
        if len(replies) < len(self._envelope.recipients):
            raise self._lost or ProtocolError("the server did not answer every RCPT")
        pairs = list(zip(self._envelope.recipients, replies, strict=True))
        return _Fates(
            accepted=tuple(address for address, reply in pairs if reply.is_positive),
            refused={address: reply for address, reply in pairs if reply.is_refusal},
        )

    def _only(self, stage: Stage) -> Reply:
        replies = [reply for at, reply in self._replies if at is stage]
        if not replies:
            raise self._lost or ProtocolError(f"the server did not answer {stage.value}")
        return replies[0]

    @property
    def was_told_to_go_ahead(self) -> bool:
        """Whether the server waits for content now."""
        return any(stage is Stage.DATA and reply.is_intermediate for stage, reply in self._replies)

    @property
    def is_in_step(self) -> bool:
        """Whether every command has its answer and the server waits for the next one."""
        hung_up = self._lost is not None or any(reply.closes_connection for _, reply in self._replies)
        return not hung_up and not self.was_told_to_go_ahead

    def judge_data(self) -> None:
        """Raise where the server does not wait for the content."""
        reply = self._only(Stage.DATA)
        if reply.is_refusal:
            raise self._error(Stage.DATA, reply, Outcome.REFUSED)
        if reply.code != 354:
            raise self._out_of_step(Stage.DATA, reply)


def _mail(offer: Offer, envelope: Envelope, size: int) -> str:
    line = f"MAIL FROM:<{envelope.sender}>"
    if offer.size is not None:
        line += f" SIZE={size}"
    if envelope.is_eight_bit and offer.eight_bit_mime:
        line += " BODY=8BITMIME"
    if envelope.smtputf8:
        line += " SMTPUTF8"
    return line


def _abandon(group: _Group) -> Dialogue[bool]:
    """Send a lone dot to a server that waits for content although it refused every recipient (RFC 2920 §3.1).

    Every recipient has its answer, so what comes back decides only whether the session survives.
    """
    if not group.was_told_to_go_ahead:
        return group.is_in_step
    try:
        heard = yield Say(pieces=(b".\r\n",), stage=Stage.CONTENT)
    except ConnectionLost:
        return False
    return not heard.replies[0].closes_connection


def _all_refused(fates: _Fates, *, session_survives: bool) -> RecipientsRefused:
    error = RecipientsRefused({address: (reply.code, reply.message) for address, reply in fates.refused.items()})
    error.refused = fates.refused
    error.stage, error.outcome = Stage.RCPT, Outcome.REFUSED
    error.reply = next(iter(fates.refused.values()))
    error.session_survives = session_survives
    return error


def _send_content(envelope: Envelope, content: bytes, fates: _Fates) -> Dialogue[Receipt]:
    # The dot is a piece of its own: while it has not left, the server cannot have accepted anything.
    pieces = (dot_stuffed(content), b".\r\n")
    step = Say(pieces=pieces, stage=Stage.CONTENT, patience=Patience.VERDICT)
    try:
        heard = yield step
    except ConnectionLost as lost:
        if lost.all_said:
            raise _in_doubt(envelope, fates, str(lost)) from lost
        raise
    return _verdict(envelope, fates, heard)


def _verdict(envelope: Envelope, fates: _Fates, heard: Heard) -> Receipt:
    reply = heard.replies[0]
    if reply.is_about_connection:
        raise refusal(DataRefused, reply, stage=Stage.CONTENT)
    if not heard.all_said:
        raise _interrupted(reply)
    if reply.is_refusal:
        error = refusal(DataRefused, reply, stage=Stage.CONTENT, outcome=Outcome.REFUSED)
        error.session_survives = True
        raise error
    if not reply.is_positive:
        raise _in_doubt(envelope, fates, f"the server answered the end of the data with {reply}")
    return Receipt(accepted=fates.accepted, refused=fates.refused, reply=reply)


def _interrupted(reply: Reply) -> Failure:
    """A reply in the middle of the content: the message was not taken, and the two sides are out of step."""
    if reply.is_refusal:
        return refusal(DataRefused, reply, stage=Stage.CONTENT)
    error = ProtocolError(f"the server answered in the middle of the content: {reply}")
    error.reply, error.stage = reply, Stage.CONTENT
    return error


def _in_doubt(envelope: Envelope, fates: _Fates, why: str) -> DeliveryUnknown:
    error = DeliveryUnknown(
        f"the whole message {envelope.message_id or ''} may have left, and the server's answer was not read: {why}. "
        "It may have been delivered: look at the server's log before you send it again"
    )
    error.stage, error.recipients, error.message_id = Stage.CONTENT, fates.accepted, envelope.message_id
    return error
