"""A message by BDAT (RFC 3030), as transcripts: after its commands, or with them in one shot."""

import pytest

from django_smtp_pool.core.errors import (
    ConnectionLost,
    DataRefused,
    DeliveryUnknown,
    Failure,
    Outcome,
    ProtocolError,
    RecipientsRefused,
    SenderRefused,
)
from django_smtp_pool.core.smtp.content import Content
from django_smtp_pool.core.smtp.delivery import deliver
from django_smtp_pool.core.smtp.envelope import Envelope
from django_smtp_pool.core.smtp.extensions import Extensions, fit
from django_smtp_pool.core.smtp.transaction import Session
from tests.core.transcript import play

COMMANDS = "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@x>\n"
TO_TWO = "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@x>\nC: RCPT TO:<c@x>\n"
CHUNK = "C: BDAT 19 LAST\nC: Subject: x\nC:\nC: .hi\n"


def sent(transcript, *, to=("b@x",), one_shot=True):
    """Play one delivery to a server that offers PIPELINING and CHUNKING."""
    envelope = Envelope(
        sender="a@x", recipients=to, content=Content.of(b"Subject: x\r\n\r\n.hi\r\n"), message_id="<1@x>"
    )
    extensions = Extensions(pipelining=True, chunking=True)
    session = Session(extensions=extensions, chunking=True, one_shot=one_shot, carried=True)
    return play(deliver(session, envelope, fit(extensions, envelope)), transcript)


def failure(kind, transcript, **how):
    with pytest.raises(Failure) as caught:
        sent(transcript, **how)
    assert type(caught.value) is kind
    return caught.value


def test_one_round_trip_in_one_shot():
    receipt = sent(COMMANDS + CHUNK + "S: 250 ok\nS: 250 ok\nS: 250 2.0.0 queued as 1\n")
    assert (receipt.accepted, str(receipt.reply)) == (("b@x",), "250 2.0.0 queued as 1")


def test_two_round_trips_otherwise():
    receipt = sent(COMMANDS + "S: 250 ok\nS: 250 ok\n" + CHUNK + "S: 250 queued\n", one_shot=False)
    assert receipt.accepted == ("b@x",)


def test_no_chunk_goes_to_nobody():
    error = failure(RecipientsRefused, COMMANDS + "S: 250 ok\nS: 550 5.1.1 no\n", one_shot=False)
    assert (error.outcome, error.session_survives) == (Outcome.REFUSED, True)


@pytest.mark.parametrize("one_shot", [False, True])
def test_a_refused_chunk_ends_the_session(one_shot):
    replies = "S: 250 ok\nS: 250 ok\n"
    commands = COMMANDS + CHUNK + replies if one_shot else COMMANDS + replies + CHUNK
    error = failure(DataRefused, commands + "S: 554 5.7.1 no\n", one_shot=one_shot)
    assert (error.outcome, error.session_survives) == (Outcome.REFUSED, False)


@pytest.mark.parametrize("code", [500, 502])
def test_a_server_that_does_not_know_bdat_has_not_taken_the_message(code):
    error = failure(DataRefused, COMMANDS + CHUNK + f"S: 250 ok\nS: 250 ok\nS: {code} what?\n")
    assert (error.outcome, error.session_survives) == (Outcome.NOT_SENT, False)


@pytest.mark.parametrize(
    ("replies", "kind", "outcome"),
    [
        ("S: 550 no\nS: 503 no\nS: 503 no\n", SenderRefused, Outcome.REFUSED),
        ("S: 550 no\nS: <gone>\n", SenderRefused, Outcome.REFUSED),
        ("S: 421 4.4.2 timeout\nS: <gone>\n", SenderRefused, Outcome.NOT_SENT),
        ("S: 451 4.4.2 timeout\nS: 503 no\nS: 503 no\n", SenderRefused, Outcome.NOT_SENT),
        ("S: 250 ok\nS: 550 no\nS: <gone>\n", RecipientsRefused, Outcome.REFUSED),
        ("S: 250 ok\nS: 250 ok\nS: 421 4.3.0 no\n", DataRefused, Outcome.NOT_SENT),
        ("S: <gone early>\n", ConnectionLost, Outcome.NOT_SENT),
        ("S: <early> 250 ok\nS: <early> 250 ok\nS: <early> 250 ok\n", ProtocolError, Outcome.NOT_SENT),
        ("S: <early> 250 ok\nS: <early> 250 ok\nS: <early> 552 no\n", DataRefused, Outcome.NOT_SENT),
        ("S: <gone>\n", DeliveryUnknown, Outcome.UNKNOWN),
        ("S: 250 ok\nS: <gone>\n", DeliveryUnknown, Outcome.UNKNOWN),
        ("S: 250 ok\nS: 250 ok\nS: <gone>\n", DeliveryUnknown, Outcome.UNKNOWN),
        ("S: 250 ok\nS: 250 ok\nS: 354 go\n", DeliveryUnknown, Outcome.UNKNOWN),
        ("S: 250 2.1.0 ok\nS: 250 2.1.0 ok\nS: 250 2.1.5 ok\n", DeliveryUnknown, Outcome.UNKNOWN),
    ],
)
def test_the_outcome_in_one_shot(replies, kind, outcome):
    assert failure(kind, COMMANDS + CHUNK + replies).outcome is outcome


def test_in_one_shot_one_refused_recipient_of_two_is_no_certainty():
    error = failure(DeliveryUnknown, TO_TWO + CHUNK + "S: 250 ok\nS: 550 no\nS: <gone>\n", to=("b@x", "c@x"))
    assert error.outcome is Outcome.UNKNOWN
