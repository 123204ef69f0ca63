"""A transaction up to its content: MAIL, RCPT and DATA or BDAT, and what their replies mean for the message.

The table `MEANING` says what each kind of reply means at each stage. The first reply that refuses the message decides,
whatever follows: Postfix under stress hangs up after a single error, and another attempt would only be refused again.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple

from ..errors import (
    ConnectionLost,
    DataRefused,
    DeliveryUnknown,
    Failure,
    Outcome,
    ProtocolError,
    RecipientsRefused,
    SenderRefused,
    Stage,
    refusal,
)
from ..replies import STATE, Reply
from .content import Content
from .envelope import Envelope
from .extensions import Extensions
from .steps import Dialogue, Heard, Patience, Say, line_of


class Meaning(Enum):
    """What a reply means for the message."""

    GOES_ON = auto()  # the transaction continues; at the last stage, the message is accepted
    REFUSED = auto()  # this message is refused
    SESSION = auto()  # it is about the session: the message was not sent, and may go over another connection
    OUT_OF_STEP = auto()  # it makes no sense here: the message was not sent, and the connection must be closed
    UNKNOWN = auto()  # it makes no sense here, and the message may have been accepted


class Kind(Enum):
    """The kinds of replies that mean different things."""

    POSITIVE = 0  # 2xx
    GO_AHEAD = 1  # 354
    OTHER = 2  # another 3xx
    SESSION = 3  # see `Reply.is_about_session`
    REFUSAL = 4  # 4xx, 5xx


_ON, _NO, _SESSION, _ODD, _DOUBT = Meaning  # in their order above, so that the table fits

MEANING: dict[Stage, tuple[Meaning, ...]] = {
    # ...........  2xx    354     3xx     session   4xx, 5xx
    Stage.RSET: (_ON, _ODD, _ODD, _SESSION, _ODD),
    Stage.MAIL: (_ON, _ODD, _ODD, _SESSION, _NO),
    Stage.RCPT: (_ON, _ODD, _ODD, _SESSION, _NO),
    Stage.DATA: (_ODD, _ON, _ODD, _SESSION, _NO),
    Stage.CONTENT: (_ON, _DOUBT, _DOUBT, _SESSION, _NO),
}


def kind_of(reply: Reply, *, carried: bool) -> Kind:
    """Return the kind of a reply; `carried`: whether the connection has carried a message before."""
    code = reply.code
    if code < 300:
        return Kind.POSITIVE
    if code < 400:
        return Kind.GO_AHEAD if code == 354 else Kind.OTHER
    return Kind.SESSION if reply.is_about_session(carried=carried) else Kind.REFUSAL


def meaning_of(stage: Stage, reply: Reply, *, carried: bool) -> Meaning:
    """Return what a reply means at a stage; `carried`: whether the connection has carried a message before."""
    return MEANING[stage][kind_of(reply, carried=carried).value]


class Session(NamedTuple):
    """What a delivery must know about its session."""

    extensions: Extensions
    carried: bool = False  # it has carried a message before this one
    needs_reset: bool = False  # the transaction before ended early
    pipelining: bool = True
    chunking: bool = False  # the content is sent with BDAT
    one_shot: bool = False  # with BDAT, and in the same write as the commands
    lmtp: bool = False  # one reply to the content for each recipient (RFC 2033); never with BDAT


class RcptOutcome(NamedTuple):
    """Which recipients the server accepted, and its replies to the others."""

    accepted: tuple[str, ...]
    refused: dict[str, Reply]


Command = tuple[Stage, str]
RSET: Command = (Stage.RSET, "RSET")
DATA: Command = (Stage.DATA, "DATA")
_USUAL = {stage: 354 if stage is Stage.DATA else 250 for stage in MEANING}  # the usual codes of success


class Transaction:
    """The commands before the content, in one write if the server offers PIPELINING.

    In one shot (RFC 3030 with RFC 2920), the content is in the same write: then the server may accept the message as
    soon as the last octet has left, whatever it replies to the commands.
    """

    def __init__(self, session: Session, envelope: Envelope, content: Content) -> None:
        self._session = session
        self._envelope = envelope
        self._content = content
        self._lost: ConnectionLost | None = None
        self._said: list[Stage] = []
        self._replies: list[tuple[Stage, Reply]] = []
        self._all_said = True

    def exchange(self) -> Dialogue[None]:
        """Send the commands and collect the replies that arrive."""
        session, commands = self._session, self._commands()
        is_together = session.pipelining and session.extensions.pipelining
        content, patience = (self._content.octets, Patience.VERDICT) if session.one_shot else ((), Patience.COMMAND)
        for group in [commands] if is_together else [[each] for each in commands]:
            if self._said and self._is_pointless(group[0][0]):
                continue
            stages = [stage for stage, _ in group]
            self._said += stages
            lines = line_of(*[line for _, line in group])
            try:
                replies, self._all_said = yield Say(
                    pieces=(lines, *content), stage=stages[0], hear=len(stages), patience=patience
                )
            except ConnectionLost as lost:
                self._lost, replies, self._all_said = lost, lost.heard, lost.all_said
            # There are fewer replies than commands if the exchange ended early.
            self._replies += zip(stages, replies, strict=False)

    def _commands(self) -> list[Command]:
        session, envelope = self._session, self._envelope
        commands = [RSET] if session.needs_reset else []
        commands.append((Stage.MAIL, _mail(session.extensions, envelope, self._content.size)))
        commands += [(Stage.RCPT, _rcpt(session.extensions, envelope, address)) for address in envelope.recipients]
        if session.one_shot:
            commands.append((Stage.CONTENT, f"BDAT {self._content.size} LAST"))
        elif not session.chunking:
            commands.append(DATA)
        return commands

    def _is_pointless(self, stage: Stage) -> bool:
        """Return whether the next command need not be sent, when commands are sent one at a time."""
        if self._lost or self._was_closed:
            return True
        if stage is Stage.RCPT:
            return any(at is Stage.MAIL and not reply.is_positive for at, reply in self._replies)
        return stage is Stage.DATA and not self._is_any_accepted

    # -- what the replies mean -------------------------------------------------------------------------

    def judge(self) -> RcptOutcome:
        """Return which recipients were accepted, perhaps none; raise if the content must not be sent."""
        # The common case: each command has the usual code of success as its reply.
        if [reply.code for _, reply in self._replies] == [_USUAL[stage] for stage in self._said] and not self._lost:
            return RcptOutcome(accepted=self._envelope.recipients, refused={})
        return self._judge_each()

    def _judge_each(self) -> RcptOutcome:
        """Judge reply by reply, in their order."""
        if self._is_in_doubt:
            why = str(self._lost or self._replies[-1][1])
            raise in_doubt(self._envelope, self._envelope.recipients, why) from self._lost
        rcpts: list[Reply] = []
        for stage, reply in self._replies:
            meaning = self._meaning(stage, reply)
            if stage is Stage.RCPT:
                rcpts.append(reply)
            if stage is Stage.CONTENT or meaning is Meaning.GOES_ON:
                continue
            if meaning is Meaning.OUT_OF_STEP:
                raise ProtocolError(f"the server answered {stage.value} with {reply}", stage=stage, reply=reply)
            if meaning is Meaning.SESSION and not (stage is Stage.RCPT and self._is_taken):
                raise self._refused(stage, reply, Outcome.NOT_SENT)
            if stage is not Stage.RCPT:
                error = self._refused(stage, reply, Outcome.REFUSED)
                if stage is Stage.DATA:  # the refused recipients are certain
                    error.refused = self._rcpt_outcome(rcpts).refused
                raise error
            if self._all_refused(rcpts):
                break
        return self._rcpt_outcome(rcpts)

    def _rcpt_outcome(self, rcpts: Sequence[Reply]) -> RcptOutcome:
        if len(rcpts) < len(self._envelope.recipients):
            raise self._lost or ProtocolError("the server did not answer every RCPT", stage=Stage.RCPT)
        pairs = list(zip(self._envelope.recipients, rcpts, strict=True))
        accepted = tuple(address for address, reply in pairs if reply.is_positive)
        # The same address may occur twice; if it was accepted once, it is not refused.
        refused = {address: reply for address, reply in pairs if reply.is_refusal and address not in accepted}
        return RcptOutcome(accepted=accepted, refused=refused)

    def _meaning(self, stage: Stage, reply: Reply) -> Meaning:
        return meaning_of(stage, reply, carried=self._session.carried)

    @property
    def _is_in_doubt(self) -> bool:
        """Whether the content has left with the commands, and the replies do not show the outcome."""
        if not self._session.one_shot or not self._all_said:
            return False
        verdict = self._reply_to(Stage.CONTENT)
        if verdict is not None and verdict.is_refusal:
            return False
        mail, rcpts = self._reply_to(Stage.MAIL), self._replies_to_rcpt
        is_accepted = self._is_any_accepted
        if self._was_closed and not is_accepted:
            return False
        if verdict is None or not verdict.is_positive:
            is_refused = (mail is not None and mail.is_refusal) or self._all_refused(rcpts)
            return is_accepted or not is_refused
        # It was accepted; the replies before show for which recipients, but only if they make sense.
        sender = Meaning.GOES_ON if mail is None else self._meaning(Stage.MAIL, mail)
        meanings = {self._meaning(Stage.RCPT, reply) for reply in rcpts}
        if is_accepted:
            return sender is not Meaning.GOES_ON or Meaning.OUT_OF_STEP in meanings
        return sender is not Meaning.REFUSED and not (sender is Meaning.GOES_ON and meanings == {Meaning.REFUSED})

    def _all_refused(self, rcpts: Sequence[Reply]) -> bool:
        """Return whether every recipient is refused."""
        return len(rcpts) == len(self._envelope.recipients) and all(reply.is_refusal for reply in rcpts)

    @property
    def _is_taken(self) -> bool:
        """Whether the content was sent with the commands, and the server has accepted it for at least one recipient."""
        verdict = self._reply_to(Stage.CONTENT)
        return verdict is not None and verdict.is_positive and self._is_any_accepted

    @property
    def _replies_to_rcpt(self) -> list[Reply]:
        return [reply for stage, reply in self._replies if stage is Stage.RCPT]

    @property
    def _is_any_accepted(self) -> bool:
        return any(reply.is_positive for reply in self._replies_to_rcpt)

    @property
    def _was_closed(self) -> bool:
        return any(reply.closes_connection for _, reply in self._replies)

    def _reply_to(self, stage: Stage) -> Reply | None:
        for at, reply in self._replies:
            if at is stage:
                return reply
        return None

    def _refused(self, stage: Stage, reply: Reply, outcome: Outcome) -> Failure:
        if stage is Stage.RCPT:
            each = dict.fromkeys(self._envelope.recipients, (reply.code, reply.message))
            error: Failure = RecipientsRefused(each, stage=stage, reply=reply, outcome=outcome)
        elif stage is Stage.DATA:
            error = refusal(DataRefused, reply, stage=stage, outcome=outcome)
        else:
            error = refusal(SenderRefused, reply, self._envelope.sender, stage=stage, outcome=outcome)
        error.session_survives = outcome is Outcome.REFUSED and self.is_in_step
        error.try_fresh = outcome is Outcome.NOT_SENT and reply.code in STATE
        return error

    def answer(self, stage: Stage) -> Heard:
        """Return the reply to a stage, and whether everything had been sent by then; raise if none was read."""
        reply = self._reply_to(stage)
        if reply is None:
            raise self._lost or ProtocolError(f"the server did not answer {stage.value}", stage=stage)
        return Heard(replies=(reply,), all_said=self._all_said)

    @property
    def was_told_to_go_ahead(self) -> bool:
        """Whether the server waits for the content now."""
        return any(stage is Stage.DATA and reply.is_intermediate for stage, reply in self._replies)

    @property
    def is_in_step(self) -> bool:
        """Whether every command has its reply and the server waits for the next command."""
        if self._session.one_shot:  # the server may not have read the chunk that it refused
            return False
        return self._lost is None and not self._was_closed and not self.was_told_to_go_ahead


def _mail(extensions: Extensions, envelope: Envelope, size: int) -> str:
    line = f"MAIL FROM:<{envelope.sender}>"
    if extensions.size is not None:
        line += f" SIZE={size}"
    if extensions.eight_bit_mime and not envelope.content.is_ascii:
        line += " BODY=8BITMIME"
    if envelope.smtputf8:
        line += " SMTPUTF8"
    if envelope.require_tls:  # `fit` has checked that it is offered
        line += " REQUIRETLS"
    if envelope.dsn is not None and extensions.dsn:
        line += envelope.dsn.of_mail()
    return line


def _rcpt(extensions: Extensions, envelope: Envelope, address: str) -> str:
    line = f"RCPT TO:<{address}>"
    if envelope.dsn is not None and extensions.dsn:
        line += envelope.dsn.of_rcpt(address, smtputf8=envelope.smtputf8)
    return line


def in_doubt(envelope: Envelope, recipients: tuple[str, ...], why: str) -> DeliveryUnknown:
    """Return the error for a message that may have left completely, and whose reply was not read."""
    error = DeliveryUnknown(
        f"the whole message {envelope.message_id or ''} may have left, and the server's answer was not read: {why}. "
        "It may have been delivered: look at the server's log before you send it again",
        stage=Stage.CONTENT,
    )
    error.recipients, error.message_id = recipients, envelope.message_id
    return error
