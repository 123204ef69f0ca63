"""A transaction up to its content: MAIL, RCPT and DATA or BDAT, and what their replies mean for the message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
from ..replies import Reply
from .envelope import Envelope
from .extensions import Extensions
from .session import command
from .steps import Dialogue, Heard, Patience, Say


@dataclass(frozen=True, kw_only=True)
class Session:
    """What a delivery must know of the session it takes place in."""

    extensions: Extensions
    reused: bool = False  # it has been idle: its first reply may speak of that
    needs_reset: bool = False  # the message before was refused half-way
    pipelining: bool = True
    chunking: bool = False  # the content goes by BDAT
    one_shot: bool = False  # and in the same write as the commands
    lmtp: bool = False  # a verdict for each recipient (RFC 2033); never by BDAT


@dataclass(frozen=True, kw_only=True)
class Fates:
    """Which recipients the server accepted, and its replies to the others."""

    accepted: tuple[str, ...]
    refused: dict[str, Reply]


class Transaction:
    """The commands before the content, as one write where the server offers PIPELINING.

    In one shot (RFC 3030 with RFC 2920), the content goes with them: then the message may be accepted as soon as
    the last octet has left, whatever the replies before its own.
    """

    def __init__(self, session: Session, envelope: Envelope, content: bytes) -> None:
        self._session = session
        self._envelope = envelope
        self._lost: ConnectionLost | None = None
        self._commands: list[tuple[Stage, str]] = []
        if session.needs_reset:
            self._commands.append((Stage.RSET, "RSET"))
        self._commands.append((Stage.MAIL, _mail(session.extensions, envelope, len(content))))
        self._commands += [
            (Stage.RCPT, _rcpt(session.extensions, envelope, address)) for address in envelope.recipients
        ]
        self._content = content if session.one_shot else None
        if session.one_shot:
            self._commands.append((Stage.CONTENT, f"BDAT {len(content)} LAST"))
        elif not session.chunking:
            self._commands.append((Stage.DATA, "DATA"))
        self._replies: list[tuple[Stage, Reply]] = []
        self._all_said = True

    def exchange(self) -> Dialogue[None]:
        """Say the commands and collect the replies, as many as there come."""
        if self._session.pipelining and self._session.extensions.pipelining:
            yield from self._say(self._commands)
        else:
            for one in self._commands:
                if not self._is_pointless(one[0]):
                    yield from self._say([one])
        self._check_session()

    def _say(self, commands: Sequence[tuple[Stage, str]]) -> Dialogue[None]:
        try:
            heard: Heard = yield self._step(commands)
            replies, self._all_said = heard.replies, heard.all_said
        except ConnectionLost as lost:
            self._lost, replies = lost, lost.heard
        stages = (stage for stage, _ in commands)
        self._replies += zip(stages, replies, strict=False)  # fewer replies where it ended early

    def _step(self, commands: Sequence[tuple[Stage, str]]) -> Say:
        lines = b"".join(command(line, stage=stage).pieces[0] for stage, line in commands)
        stage, hear = commands[0][0], len(commands)
        if self._content is None:
            return Say(pieces=(lines,), stage=stage, hear=hear)
        return Say(
            pieces=(lines, self._content),
            stage=stage,
            hear=hear,
            patience=Patience.VERDICT,
            masked=" | ".join([*(line for _, line in commands), f"<{len(self._content)} octets>"]),
        )

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
        if self._is_in_doubt:
            raise in_doubt(self._envelope, self._envelope.recipients, str(self._lost or self._replies[-1][1]))
        for position, (stage, reply) in enumerate(self._replies):
            if stage is Stage.CONTENT:
                return
            if self._is_refused_by(self._replies[:position]):
                return
            stale = position == 0 and self._session.reused and reply.is_idle_notice
            if reply.is_about_connection or stale:
                raise self._error(stage, reply, Outcome.NOT_SENT)
            if stage is Stage.RSET and not reply.is_positive:
                raise self._out_of_step(stage, reply)
        if self._lost and not self._replies:
            raise self._lost

    @property
    def _is_in_doubt(self) -> bool:
        """Whether the content has left with the commands, and neither its own reply nor a refusal of all was read."""
        if self._content is None or (self._lost is not None and not self._lost.all_said):
            return False
        if self._is_refused_by(self._replies):
            return False
        verdict = next((reply for stage, reply in self._replies if stage is Stage.CONTENT), None)
        makes_sense = all(not reply.is_intermediate for _, reply in self._replies)
        return verdict is None or not (makes_sense or verdict.is_refusal)

    def _is_refused_by(self, replies: Sequence[tuple[Stage, Reply]]) -> bool:
        if any(stage is Stage.MAIL and reply.is_refusal for stage, reply in replies):
            return True
        refusals = sum(stage is Stage.RCPT and reply.is_refusal for stage, reply in replies)
        return refusals == len(self._envelope.recipients)

    def _error(self, stage: Stage, reply: Reply, outcome: Outcome) -> Failure:
        if stage is Stage.RCPT:
            each = dict.fromkeys(self._envelope.recipients, (reply.code, reply.message))
            error: Failure = RecipientsRefused(each, stage=stage, reply=reply, outcome=outcome)
        elif stage is Stage.DATA:
            error = refusal(DataRefused, reply, stage=stage, outcome=outcome)
        else:
            error = refusal(SenderRefused, reply, self._envelope.sender, stage=stage, outcome=outcome)
        error.session_survives = outcome is Outcome.REFUSED and self.is_in_step
        return error

    def _out_of_step(self, stage: Stage, reply: Reply) -> Failure:
        return ProtocolError(f"the server answered {stage.value} with {reply}", stage=stage, reply=reply)

    def judge_sender(self) -> None:
        """Raise where the server refused MAIL."""
        reply = self._only(Stage.MAIL)
        if reply.is_refusal:
            raise self._error(Stage.MAIL, reply, Outcome.REFUSED)
        if not reply.is_positive:
            raise self._out_of_step(Stage.MAIL, reply)

    def judge_recipients(self) -> Fates:
        """Tell who was accepted; raise where not every recipient has an answer."""
        replies = [reply for stage, reply in self._replies if stage is Stage.RCPT]
        for reply in replies:
            if reply.is_intermediate:
                raise self._out_of_step(Stage.RCPT, reply)
        if len(replies) < len(self._envelope.recipients):
            raise self._lost or ProtocolError("the server did not answer every RCPT")
        pairs = list(zip(self._envelope.recipients, replies, strict=True))
        accepted = tuple(address for address, reply in pairs if reply.is_positive)
        # The same address may be there twice; who was accepted once is not refused.
        refused = {address: reply for address, reply in pairs if reply.is_refusal and address not in accepted}
        return Fates(accepted=accepted, refused=refused)

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
        if self._content is not None:  # it may not have swallowed the chunk that it refused
            return False
        hung_up = self._lost is not None or any(reply.closes_connection for _, reply in self._replies)
        return not hung_up and not self.was_told_to_go_ahead

    @property
    def chunk_heard(self) -> Heard:
        """The reply to the content that went with the commands, and whether all of it had left by then."""
        return Heard(replies=(self._only(Stage.CONTENT),), all_said=self._all_said)

    def judge_data(self) -> None:
        """Raise where the server does not wait for the content."""
        reply = self._only(Stage.DATA)
        if reply.is_refusal:
            raise self._error(Stage.DATA, reply, Outcome.REFUSED)
        if reply.code != 354:
            raise self._out_of_step(Stage.DATA, reply)


def _mail(extensions: Extensions, envelope: Envelope, size: int) -> str:
    line = f"MAIL FROM:<{envelope.sender}>"
    if extensions.size is not None:
        line += f" SIZE={size}"
    if envelope.is_eight_bit and extensions.eight_bit_mime:
        line += " BODY=8BITMIME"
    if envelope.smtputf8:
        line += " SMTPUTF8"
    if envelope.require_tls:  # `fit` has seen that it is offered
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
    """Return the error of a message that may have left whole, and whose verdict was not read."""
    error = DeliveryUnknown(
        f"the whole message {envelope.message_id or ''} may have left, and the server's answer was not read: {why}. "
        "It may have been delivered: look at the server's log before you send it again"
    )
    error.stage, error.recipients, error.message_id = Stage.CONTENT, recipients, envelope.message_id
    return error
