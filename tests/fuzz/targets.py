"""What is fuzzed: each target takes octets, and raises where a promise is broken."""

import contextlib

from django_smtp_pool.core.errors import ConnectionLost, DeliveryUnknown, Failure, Outcome, Stage, outcome_of
from django_smtp_pool.core.replies import MAX_LINE, MAX_REPLY, MalformedReply, Reply, ReplyParser
from django_smtp_pool.core.smtp.content import Content
from django_smtp_pool.core.smtp.delivery import Receipt, deliver
from django_smtp_pool.core.smtp.envelope import Envelope, check_address
from django_smtp_pool.core.smtp.extensions import Extensions
from django_smtp_pool.core.smtp.transaction import Session
from django_smtp_pool.message.render import envelope_of
from tests.mailing import message

TARGETS = {}


def target(function):
    """Enter a function into the list."""
    TARGETS[function.__name__] = function
    return function


@target
def replies(data):
    """No octets make the parser raise anything but MalformedReply, keep much, or depend on how they were cut."""
    whole, pieces = _parsed([data]), _parsed([data[start : start + 1] for start in range(len(data))])
    assert whole == pieces
    for reply in whole[0]:
        assert 200 <= reply.code < 600
        assert all(char.isprintable() for char in str(reply))
        assert sum(map(len, reply.lines)) <= MAX_REPLY
        extensions = Extensions.from_reply(reply)
        assert all(char.isprintable() for keyword in extensions.keywords for char in keyword)
        assert (reply.enhanced is None) or reply.enhanced[0] in (2, 4, 5)


def _parsed(pieces):
    parser, heard = ReplyParser(), []
    try:
        for piece in pieces:
            heard += parser.feed(piece)
            assert len(parser._buffer) <= MAX_LINE
        heard += parser.feed(b"")
    except MalformedReply:
        return heard, "malformed"
    return heard, "empty" if parser.is_empty else "more"


def _text(data):
    return data.decode("utf-8", "surrogateescape")


@target
def addresses(data):
    """Any text is an address that fits on one line, or a ValueError."""
    with contextlib.suppress(ValueError):
        envelope = envelope_of(message(to=["b@example.com", _text(data)], from_email=_text(data) or "a"), None)
        for address in (envelope.sender, *envelope.recipients):
            assert not set(address) & set("\r\n\0")
            check_address(address, smtputf8=envelope.smtputf8)


@target
def headers(data):
    """No text becomes a header field of its own, wherever it is put."""
    text = _text(data)
    puts = (
        {"subject": text},
        {"headers": {"X-Test": text}},
        {"headers": {text: "x"}},
        {"reply_to": [f"{text} <a@example.com>"]},
    )
    for fields in puts:
        with contextlib.suppress(ValueError):
            content = bytes(envelope_of(message(**fields), None).content)
            header = content.partition(b"\r\n\r\n")[0]
            names = [line.partition(b":")[0].lower() for line in header.split(b"\r\n") if line[:1] not in (b" ", b"\t")]
            expected = {b"content-type", b"mime-version", b"content-transfer-encoding", b"subject", b"from", b"to"}
            own = {text.lower().encode("utf-8", "surrogateescape")} if text in fields.get("headers", {}) else set()
            assert set(names) <= expected | {b"date", b"message-id", b"x-test", b"reply-to"} | own, names
            assert b"\0" not in content


CODES = (200, 220, 250, 251, 334, 354, 421, 432, 450, 451, 454, 500, 502, 535, 550, 552, 554)
TEXTS = (b"", b"2.0.0 ok", b"2.1.5 ok", b"4.4.2 timeout", b"4.3.2 x", b"5.1.1 x")


@target
def conversation(data):
    """Whatever a server says, or does not, the outcome told is what it has said."""
    flags, octets = (data[0], data[1:]) if data else (0, b"")
    pipelining, chunking = bool(flags & 1), bool(flags & 2)
    session = Session(
        extensions=Extensions(pipelining=pipelining, chunking=chunking),
        pipelining=pipelining,
        chunking=chunking,
        one_shot=bool(flags & 4) and pipelining and chunking,
        carried=bool(flags & 8),
        needs_reset=bool(flags & 16) and not flags & 4,
    )
    envelope = Envelope(
        sender="a@example.com", recipients=("b@example.com", "c@example.com"), content=Content.of(b"x\r\n")
    )
    said_all, verdict = False, None
    dialogue, coming = deliver(session, envelope, envelope.content), iter(octets)
    outcome, told = None, None
    try:
        step = next(dialogue)
        while True:
            heard = _answers(step, coming)
            # Whether the server may take it: the content, and not only the dot of a message nobody wanted.
            content = any(bytes(envelope.content) in piece for piece in step.pieces)
            lost = len(heard) < step.hear and not (heard and heard[-1].closes_connection)
            all_said = next(coming, 1) % 8 > 0
            if content and all_said:
                said_all, verdict = True, heard[-1] if len(heard) == step.hear else None
            step = _resume(dialogue, heard, lost=lost, all_said=all_said)
    except StopIteration as stop:
        outcome, told = Outcome.ACCEPTED, stop.value
    except Failure as error:
        outcome, told = outcome_of(error), error
    assert (outcome is Outcome.ACCEPTED) == isinstance(told, Receipt)
    assert (outcome is Outcome.UNKNOWN) == isinstance(told, DeliveryUnknown)
    accepted = said_all and verdict is not None and verdict.is_positive
    if outcome is Outcome.ACCEPTED:
        assert accepted
    elif outcome is Outcome.NOT_SENT and not session.one_shot:
        assert not accepted
        assert verdict is not None or not said_all


def _answers(step, coming):
    heard = []
    for octet in coming:
        if octet == 255:  # the connection is lost
            break
        heard.append(Reply(code=CODES[octet % len(CODES)], lines=(TEXTS[octet // len(CODES) % len(TEXTS)],)))
        if len(heard) == step.hear or heard[-1].closes_connection:
            break
    return tuple(heard)


def _resume(dialogue, heard, *, lost, all_said):
    from django_smtp_pool.core.smtp.steps import Heard

    if not lost:
        return dialogue.send(Heard(replies=heard, all_said=all_said))
    error = ConnectionLost("lost")
    error.heard, error.all_said, error.stage = heard, all_said, Stage.MAIL
    return dialogue.throw(error)
