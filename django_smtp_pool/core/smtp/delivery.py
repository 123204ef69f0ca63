"""The dialogue of one message: envelope, content, reply (RFC 5321 §3.3, RFC 2920, RFC 3030; LMTP: RFC 2033).

The outcome of a message is decided here and in `transaction`, by what was sent and read, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..errors import (
    ConnectionLost,
    DataRefused,
    DeliveryUnknown,
    Failure,
    Outcome,
    ProtocolError,
    RecipientsRefused,
    Stage,
    refusal,
)
from ..replies import Reply
from .content import Content
from .envelope import Envelope
from .steps import Dialogue, Heard, Patience, Say
from .transaction import Meaning, RcptOutcome, Session, Transaction, in_doubt, meaning_of

UNKNOWN_COMMAND = frozenset({500, 502})
DOT = b".\r\n"
LONE_DOT = Say(pieces=(DOT,), stage=Stage.CONTENT)
NEXT_VERDICT = Say(pieces=(), stage=Stage.CONTENT, patience=Patience.VERDICT)


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """The server has accepted a message.

    Arguments:
        accepted: the addresses it was accepted for.
        refused: each refused address and the reply to its RCPT; in LMTP also those refused after the data.
        reply: the reply to the end of the data; in LMTP the first that accepts.
        replies: in LMTP, each accepted address and its reply.
        dsn: whether the server was asked for the notifications that the message requests; None if it requests none.
        session_survives: whether both sides are still in step.
    """

    accepted: tuple[str, ...]
    refused: Mapping[str, Reply] = field(default_factory=dict)
    reply: Reply
    replies: Mapping[str, Reply] = field(default_factory=dict)
    dsn: bool | None = None
    session_survives: bool = True


def deliver(
    session: Session, envelope: Envelope, content: Content, stuffed: tuple[bytes, ...] | None = None
) -> Dialogue[Receipt]:
    """Deliver one message; return the receipt, or raise an error with the outcome.

    Arguments:
        content: as `extensions.fit` has returned it.
        stuffed: its octets with stuffed dots for DATA, if the caller has done that already.
    """
    transaction = Transaction(session, envelope, content)
    yield from transaction.exchange()
    rcpt = transaction.judge()
    if not rcpt.accepted:
        survives = yield from _abandon(transaction, lmtp=session.lmtp)
        raise _all_refused(rcpt.refused, stage=Stage.RCPT, session_survives=survives)
    try:
        if session.one_shot:  # the content was sent with the commands
            heard = transaction.answer(Stage.CONTENT)
            _check_subject(envelope, rcpt, heard.replies[0])
            receipt = _verdict(session, envelope, rcpt, heard)
        else:
            receipt = yield from _conclude(session, transaction, envelope, content, rcpt, stuffed)
    except Failure as error:
        # These refusals are certain, whatever the outcome for the other recipients.
        error.refused = {**rcpt.refused, **error.refused}
        raise
    return receipt if envelope.dsn is None else replace(receipt, dsn=session.extensions.dsn)


def _conclude(
    session: Session,
    transaction: Transaction,
    envelope: Envelope,
    content: Content,
    rcpt: RcptOutcome,
    stuffed: tuple[bytes, ...] | None,
) -> Dialogue[Receipt]:
    """Send the content, and judge the reply to it."""
    if session.chunking:  # one chunk (RFC 3030): no go-ahead to wait for, no dots to stuff
        pieces = (b"BDAT %d LAST\r\n" % content.size, *content.octets)
    else:
        transaction.answer(Stage.DATA)
        # The dot is a separate piece: until it has left, the server cannot have accepted anything.
        pieces = (*(content.stuffed() if stuffed is None else stuffed), DOT)
    heard = yield from _say_content(envelope, pieces, rcpt)
    if session.lmtp:
        return (yield from _hear_each(session, envelope, rcpt, heard))
    return _verdict(session, envelope, rcpt, heard)


def _abandon(transaction: Transaction, *, lmtp: bool) -> Dialogue[bool]:
    """Send a lone dot to a server that waits for content although it refused every recipient (RFC 2920 §3.1).

    The outcome is certain already, so the reply decides only whether the session survives.
    """
    if not transaction.was_told_to_go_ahead:
        return transaction.is_in_step
    if lmtp:  # the dot has one reply per accepted recipient (RFC 2033 §4.2): here none, so its end cannot be noticed
        return False
    try:
        heard = yield LONE_DOT
    except ConnectionLost:
        return False
    return not heard.replies[0].closes_connection


def _all_refused(refused: Mapping[str, Reply], *, stage: Stage, session_survives: bool) -> RecipientsRefused:
    error = RecipientsRefused(
        {address: (reply.code, reply.message) for address, reply in refused.items()},
        stage=stage,
        reply=next(iter(refused.values())),
        outcome=Outcome.REFUSED,
        session_survives=session_survives,
    )
    error.refused = refused
    return error


def _say_content(envelope: Envelope, pieces: tuple[bytes, ...], rcpt: RcptOutcome) -> Dialogue[Heard]:
    step = Say(pieces=pieces, stage=Stage.CONTENT, patience=Patience.VERDICT)
    try:
        return (yield step)
    except ConnectionLost as lost:
        if lost.all_said:
            raise in_doubt(envelope, rcpt.accepted, str(lost)) from lost
        raise


def _check_subject(envelope: Envelope, rcpt: RcptOutcome, reply: Reply) -> None:
    """Raise if the reply to the content is about addresses (RFC 3463 §3.2): then it answers an earlier command.

    With everything in one write, only the order shows which reply belongs to which command, and the server has sent one
    reply too many.
    """
    if reply.code < 300 and reply.enhanced is not None and reply.enhanced[1] == 1:
        raise in_doubt(envelope, rcpt.accepted, f"the replies are out of step, the last one is {reply}")


def _verdict(session: Session, envelope: Envelope, rcpt: RcptOutcome, heard: Heard) -> Receipt:
    """Judge the reply to the end of the data."""
    reply = heard.replies[0]
    if reply.code == 250 and heard.all_said:
        return Receipt(accepted=rcpt.accepted, refused=rcpt.refused, reply=reply)
    meaning = meaning_of(Stage.CONTENT, reply, carried=session.carried)
    if meaning is Meaning.SESSION:
        raise _not_taken(reply)
    _check_all_said(heard)
    if meaning is Meaning.GOES_ON:
        return Receipt(accepted=rcpt.accepted, refused=rcpt.refused, reply=reply)
    if meaning is Meaning.UNKNOWN:
        raise in_doubt(envelope, rcpt.accepted, f"the server answered the end of the data with {reply}")
    raise _refused_chunk(reply) if session.chunking else _refused(reply)


def _not_taken(reply: Reply) -> DataRefused:
    """Return the error for a message that was not accepted because of the session, not because of the message."""
    error = refusal(DataRefused, reply, stage=Stage.CONTENT)
    # With 451 4.4.2 at this point, a server may mean this message: it gets one more attempt, not several.
    error.try_fresh = error.is_last_resort = not (reply.closes_connection or reply.code == 432)
    return error


def _refused(reply: Reply) -> DataRefused:
    error = refusal(DataRefused, reply, stage=Stage.CONTENT, outcome=Outcome.REFUSED)
    error.session_survives = True
    return error


def _refused_chunk(reply: Reply) -> DataRefused:
    """Return the error for a refused BDAT; the connection must be closed.

    A server that did not read the chunk would take the user's text for commands. A server that does not know BDAT has
    not accepted the message, and the next attempt uses DATA.
    """
    unknown = reply.code in UNKNOWN_COMMAND
    error = refusal(DataRefused, reply, stage=Stage.CONTENT, outcome=Outcome.NOT_SENT if unknown else Outcome.REFUSED)
    error.try_fresh = unknown
    return error


def _check_all_said(heard: Heard) -> None:
    """Raise for a reply in the middle of the content: it was not accepted, and the two sides are out of step."""
    if heard.all_said:
        return
    reply = heard.replies[0]
    if reply.is_refusal:
        raise refusal(DataRefused, reply, stage=Stage.CONTENT)
    raise ProtocolError(f"the server answered in the middle of the content: {reply}", stage=Stage.CONTENT, reply=reply)


# -- LMTP: one reply to the content for each recipient (RFC 2033 §4.2) ---------------------------------------------


def _hear_each(session: Session, envelope: Envelope, rcpt: RcptOutcome, heard: Heard) -> Dialogue[Receipt]:
    """Read a reply for each recipient that RCPT accepted, in their order."""
    _check_all_said(heard)
    replies, why = [heard.replies[0]], ""
    try:
        while len(replies) < len(rcpt.accepted) and not _ends_the_verdicts(replies[-1]):
            # One at a time: each has the whole `data_timeout`, since the server may deliver in between.
            heard = yield NEXT_VERDICT
            replies.append(heard.replies[0])
    except ConnectionLost as lost:
        why = str(lost)
    return _judge_each(session, envelope, rcpt, replies, why or f"the server said {replies[-1]}")


def _ends_the_verdicts(reply: Reply) -> bool:
    return reply.closes_connection or reply.is_intermediate


def _judge_each(session: Session, envelope: Envelope, rcpt: RcptOutcome, replies: Sequence[Reply], why: str) -> Receipt:
    """Decide the outcome of the message by the reply for each recipient.

    If the outcome for one recipient is unknown, it is unknown for the message, which is then never sent again. A reply
    about the session is an answer too: this recipient has not received the message. If none has, it was not sent.
    """
    pairs = list(zip(rcpt.accepted, replies, strict=False))
    accepted = {address: reply for address, reply in pairs if reply.is_positive}
    # Here, too, the same address may occur twice, and may have the message once.
    unclear = [*(address for address, reply in pairs if reply.is_intermediate), *rcpt.accepted[len(replies) :]]
    unknown = tuple(dict.fromkeys(address for address in unclear if address not in accepted))
    refused = {address: reply for address, reply in pairs if address not in accepted and address not in unknown}
    if unknown:
        raise _partly_in_doubt(in_doubt(envelope, unknown, why), accepted, refused)
    if not accepted:
        raise _none_accepted(session, {**rcpt.refused, **refused}, replies)
    return Receipt(
        accepted=tuple(accepted),
        refused={**rcpt.refused, **refused},
        reply=next(iter(accepted.values())),
        replies=accepted,
        session_survives=len(replies) == len(rcpt.accepted) and not replies[-1].closes_connection,
    )


def _partly_in_doubt(
    error: DeliveryUnknown, accepted: Mapping[str, Reply], refused: Mapping[str, Reply]
) -> DeliveryUnknown:
    error.accepted, error.refused = accepted, refused
    return error


def _none_accepted(session: Session, refused: Mapping[str, Reply], replies: Sequence[Reply]) -> Failure:
    for reply in replies:
        if reply.is_about_session(carried=session.carried):
            return _not_taken(reply)
    return _all_refused(refused, stage=Stage.CONTENT, session_survives=True)
