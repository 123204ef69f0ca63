"""The dialogue of one message: envelope, content, verdict (RFC 5321 §3.3, RFC 2920, RFC 3030).

The outcome is decided here, by what was said and heard, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .envelope import Envelope, dot_stuffed, with_crlf
from .errors import (
    ConnectionLost,
    DataRefused,
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
from .transaction import Fates, Session, Transaction, in_doubt

UNKNOWN_COMMAND = frozenset({500, 502})


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
    transaction = Transaction(session, envelope, content)
    yield from transaction.exchange()
    transaction.judge_sender()
    fates = transaction.judge_recipients()
    if not fates.accepted:
        survives = yield from _abandon(transaction)
        raise _all_refused(fates, session_survives=survives)
    try:
        if session.one_shot:
            heard = transaction.chunk_heard
            _check_subject(envelope, fates, heard.replies[0])
            return _verdict_on_chunk(envelope, fates, heard)
        if session.chunking:
            return (yield from _send_chunk(envelope, content, fates))
        transaction.judge_data()
        return (yield from _send_data(envelope, content, fates))
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


def _abandon(transaction: Transaction) -> Dialogue[bool]:
    """Send a lone dot to a server that waits for content although it refused every recipient (RFC 2920 §3.1).

    Every recipient has its answer, so what comes back decides only whether the session survives.
    """
    if not transaction.was_told_to_go_ahead:
        return transaction.is_in_step
    try:
        heard = yield Say(pieces=(b".\r\n",), stage=Stage.CONTENT)
    except ConnectionLost:
        return False
    return not heard.replies[0].closes_connection


def _all_refused(fates: Fates, *, session_survives: bool) -> RecipientsRefused:
    error = RecipientsRefused({address: (reply.code, reply.message) for address, reply in fates.refused.items()})
    error.refused = fates.refused
    error.stage, error.outcome = Stage.RCPT, Outcome.REFUSED
    error.reply = next(iter(fates.refused.values()))
    error.session_survives = session_survives
    return error


def _send_data(envelope: Envelope, content: bytes, fates: Fates) -> Dialogue[Receipt]:
    # The dot is a piece of its own: while it has not left, the server cannot have accepted anything.
    heard = yield from _say_content(envelope, (dot_stuffed(content), b".\r\n"), fates)
    return _verdict(envelope, fates, heard)


def _send_chunk(envelope: Envelope, content: bytes, fates: Fates) -> Dialogue[Receipt]:
    """Send the content as one chunk (RFC 3030): no go-ahead to wait for, no dots to stuff."""
    heard = yield from _say_content(envelope, (b"BDAT %d LAST\r\n" % len(content), content), fates)
    return _verdict_on_chunk(envelope, fates, heard)


def _say_content(envelope: Envelope, pieces: tuple[bytes, ...], fates: Fates) -> Dialogue[Heard]:
    step = Say(pieces=pieces, stage=Stage.CONTENT, patience=Patience.VERDICT)
    try:
        return (yield step)
    except ConnectionLost as lost:
        if lost.all_said:
            raise in_doubt(envelope, fates.accepted, str(lost)) from lost
        raise


def _check_subject(envelope: Envelope, fates: Fates, reply: Reply) -> None:
    """Raise where what should be the verdict speaks of addresses (RFC 3463 §3.2): then it answers an earlier command.

    With everything in one write only the order tells which reply belongs to what, and the server sent one too many.
    """
    if reply.is_positive and reply.enhanced is not None and reply.enhanced[1] == 1:
        raise in_doubt(envelope, fates.accepted, f"the replies are out of step, the last one is {reply}")


def _verdict_on_chunk(envelope: Envelope, fates: Fates, heard: Heard) -> Receipt:
    """Judge the reply to BDAT; where it refuses, the connection is of no more use.

    A server that did not swallow the chunk reads the user's text as commands. One that does not know BDAT has not
    taken the message: it goes by DATA next time.
    """
    try:
        return _verdict(envelope, fates, heard)
    except DataRefused as error:
        error.session_survives = False
        if error.reply is not None and error.reply.code in UNKNOWN_COMMAND:
            error.outcome = Outcome.NOT_SENT
        raise


def _verdict(envelope: Envelope, fates: Fates, heard: Heard) -> Receipt:
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
        raise in_doubt(envelope, fates.accepted, f"the server answered the end of the data with {reply}")
    return Receipt(accepted=fates.accepted, refused=fates.refused, reply=reply)


def _interrupted(reply: Reply) -> Failure:
    """A reply in the middle of the content: the message was not taken, and the two sides are out of step."""
    if reply.is_refusal:
        return refusal(DataRefused, reply, stage=Stage.CONTENT)
    error = ProtocolError(f"the server answered in the middle of the content: {reply}")
    error.reply, error.stage = reply, Stage.CONTENT
    return error
