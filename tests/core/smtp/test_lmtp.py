"""LMTP as transcripts (RFC 2033): LHLO, and after the data a verdict for each recipient, one by one."""

import pytest

from django_smtp_pool.core.errors import (
    ConnectionLost,
    DataRefused,
    DeliveryUnknown,
    EhloRefused,
    Failure,
    Outcome,
    ProtocolError,
    RecipientsRefused,
    Stage,
)
from django_smtp_pool.core.options.options import ServerOptions
from django_smtp_pool.core.smtp.content import Content
from django_smtp_pool.core.smtp.delivery import deliver
from django_smtp_pool.core.smtp.envelope import Envelope
from django_smtp_pool.core.smtp.extensions import Extensions, fit
from django_smtp_pool.core.smtp.session import Greeter, open_session
from django_smtp_pool.core.smtp.steps import Patience
from django_smtp_pool.core.smtp.transaction import Session
from tests.core.transcript import answered, play, resumed

THREE = ("b@x", "c@x", "d@x")
COMMANDS = "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@x>\nC: RCPT TO:<c@x>\nC: RCPT TO:<d@x>\nC: DATA\n"
GO_ON = "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\n"
CONTENT = "C: hi\nC: .\n"
NEXT = "C: <listens>\n"


def sent(transcript, *, to=THREE, pipelining=True, chunking=False):
    """Play one delivery by LMTP."""
    envelope = Envelope(sender="a@x", recipients=to, content=Content.of(b"hi\r\n"), message_id="<1@x>")
    extensions = Extensions(pipelining=pipelining, chunking=chunking)
    session = Session(extensions=extensions, pipelining=pipelining, lmtp=True)
    return play(deliver(session, envelope, fit(extensions, envelope)), transcript)


def failure(kind, transcript, **how):
    with pytest.raises(Failure) as caught:
        sent(transcript, **how)
    assert type(caught.value) is kind
    return caught.value


def verdicts(*replies):
    """Return the end of a transcript: the content, and one reply after the other."""
    first, *others = replies
    return COMMANDS + GO_ON + CONTENT + f"S: {first}\n" + "".join(f"{NEXT}S: {reply}\n" for reply in others)


def codes(replies):
    return {address: reply.code for address, reply in replies.items()}


# Opening a session


def opened(transcript, **options):
    server = ServerOptions(host="mail.example", port=24, lmtp=True, **options)
    return play(open_session(Greeter(server=server, local_hostname=lambda: "client.example")), transcript)


def test_lhlo_takes_the_place_of_ehlo():
    extensions = opened("""
        * connect mail.example:24
        S: 220 mail.example LMTP
        C: LHLO client.example
        S: 250-mail.example
        S: 250-PIPELINING
        S: 250 8BITMIME
        """)
    assert (extensions.pipelining, extensions.eight_bit_mime) == (True, True)


def test_lhlo_is_said_again_under_tls():
    opened(
        """
        * connect mail.example:24
        S: 220 hi
        C: LHLO client.example
        S: 250-hi
        S: 250 STARTTLS
        C: STARTTLS
        S: 220 go
        * TLS mail.example
        C: LHLO client.example
        S: 250 hi
        """,
        use_tls=True,
    )


@pytest.mark.parametrize("reply", ["500 what?", "502 no", "421 busy"])
def test_there_is_no_falling_back_to_helo(reply):
    with pytest.raises(EhloRefused) as caught:
        opened(f"* connect mail.example:24\nS: 220 hi\nC: LHLO client.example\nS: {reply}")
    assert (caught.value.stage, caught.value.outcome) == (Stage.EHLO, Outcome.NOT_SENT)


# Every recipient has an answer


def test_accepted_by_each():
    receipt = sent(verdicts("250 2.0.0 <b@x> Saved", "250 2.0.0 <c@x> Saved", "251 2.0.0 <d@x> Saved"))
    assert receipt.accepted == THREE
    assert receipt.refused == {}
    assert str(receipt.reply) == "250 2.0.0 <b@x> Saved"
    assert {address: str(reply) for address, reply in receipt.replies.items()} == {
        "b@x": "250 2.0.0 <b@x> Saved",
        "c@x": "250 2.0.0 <c@x> Saved",
        "d@x": "251 2.0.0 <d@x> Saved",
    }
    assert receipt.session_survives


def test_one_by_one_without_pipelining():
    receipt = sent(
        """
        C: MAIL FROM:<a@x>
        S: 250 ok
        C: RCPT TO:<b@x>
        S: 250 ok
        C: RCPT TO:<c@x>
        S: 250 ok
        C: DATA
        S: 354 go
        C: hi
        C: .
        S: 250 one
        C: <listens>
        S: 250 two
        """,
        to=("b@x", "c@x"),
        pipelining=False,
    )
    assert codes(receipt.replies) == {"b@x": 250, "c@x": 250}


def test_as_many_replies_as_rcpt_accepted():
    transcript = COMMANDS + "S: 250 ok\nS: 250 ok\nS: 550 5.1.1 no\nS: 250 ok\nS: 354 go\n" + CONTENT
    receipt = sent(transcript + f"S: 250 b\n{NEXT}S: 250 d\n")
    assert str(receipt.replies["d@x"]) == "250 d"
    assert (receipt.accepted, codes(receipt.refused)) == (("b@x", "d@x"), {"c@x": 550})


def test_some_refused_after_the_data():
    transcript = COMMANDS + "S: 250 ok\nS: 550 5.1.1 no\nS: 250 ok\nS: 250 ok\nS: 354 go\n" + CONTENT
    receipt = sent(transcript + f"S: 552 5.2.2 full\n{NEXT}S: 250 d\n")
    assert receipt.accepted == ("d@x",)
    assert codes(receipt.refused) == {"b@x": 550, "c@x": 552}
    assert str(receipt.reply) == "250 d"


def test_all_refused_after_the_data():
    error = failure(RecipientsRefused, verdicts("552 5.2.2 full", "452 later", "550 no"))
    assert (error.outcome, error.stage, error.session_survives) == (Outcome.REFUSED, Stage.CONTENT, True)
    assert error.recipients == {"b@x": (552, b"5.2.2 full"), "c@x": (452, b"later"), "d@x": (550, b"no")}
    assert codes(error.refused) == {"b@x": 552, "c@x": 452, "d@x": 550}
    assert error.reply.code == 552


def test_all_refused_some_by_rcpt_and_some_after_the_data():
    transcript = COMMANDS + "S: 250 ok\nS: 550 5.1.1 no\nS: 250 ok\nS: 250 ok\nS: 354 go\n" + CONTENT
    error = failure(RecipientsRefused, transcript + f"S: 552 full\n{NEXT}S: 552 full\n")
    assert (error.outcome, codes(error.refused)) == (Outcome.REFUSED, {"b@x": 550, "c@x": 552, "d@x": 552})
    assert set(error.recipients) == set(THREE)


def test_a_421_is_an_answer_where_it_is_the_last():
    receipt = sent(verdicts("250 b", "250 c", "421 bye"))
    assert (receipt.accepted, codes(receipt.refused)) == (("b@x", "c@x"), {"d@x": 421})
    assert not receipt.session_survives


def test_a_432_is_an_answer_that_ends_nothing():
    receipt = sent(verdicts("432 busy", "250 c", "250 d"))
    assert (receipt.accepted, codes(receipt.refused)) == (("c@x", "d@x"), {"b@x": 432})
    assert receipt.session_survives


@pytest.mark.parametrize("replies", [("550 no", "552 full", "421 bye"), ("432 busy", "550 no", "550 no")])
def test_where_nobody_has_it_and_the_connection_is_at_fault_it_was_not_sent(replies):
    error = failure(DataRefused, verdicts(*replies))
    assert (error.outcome, error.stage, error.session_survives) == (Outcome.NOT_SENT, Stage.CONTENT, False)
    assert error.reply.is_about_connection


@pytest.mark.parametrize("reply", ["421 bye", "432 busy"])
def test_the_only_recipient_told_of_the_connection_is_not_sent_to(reply):
    transcript = f"C: MAIL FROM:<a@x>\nC: RCPT TO:<b@x>\nC: DATA\nS: 250\nS: 250\nS: 354\n{CONTENT}S: {reply}"
    assert failure(DataRefused, transcript, to=("b@x",)).outcome is Outcome.NOT_SENT


def test_the_same_address_twice_has_it_once():
    transcript = (
        "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@x>\nC: RCPT TO:<b@x>\nC: DATA\nS: 250\nS: 250\nS: 250\nS: 354\n"
        f"{CONTENT}S: 452 twice?\n{NEXT}S: 250 saved"
    )
    receipt = sent(transcript, to=("b@x", "b@x"))
    assert (receipt.accepted, receipt.refused, receipt.reply.code) == (("b@x",), {}, 250)


# Some have an answer, some have none: never sent again, and each is told apart


@pytest.mark.parametrize("end", ["<gone>", "354 what"])
def test_no_verdict_at_all(end):
    error = failure(DeliveryUnknown, COMMANDS + GO_ON + CONTENT + f"S: {end}\n")
    assert (error.recipients, error.accepted, error.refused) == (THREE, {}, {})


@pytest.mark.parametrize("end", ["<gone>", "354 what", "334"])
def test_lost_in_the_middle_of_the_verdicts(end):
    error = failure(DeliveryUnknown, verdicts("250 b", "552 5.2.2 full", end))
    assert (error.outcome, error.in_doubt, error.session_survives) == (Outcome.UNKNOWN, True, False)
    assert error.recipients == ("d@x",)
    assert (codes(error.accepted), codes(error.refused)) == ({"b@x": 250}, {"c@x": 552})
    assert (error.stage, error.message_id) == (Stage.CONTENT, "<1@x>")


@pytest.mark.parametrize("before", [["250 b"], ["552 full"], []])
def test_who_comes_after_a_421_has_no_answer(before):
    error = failure(DeliveryUnknown, verdicts(*before, "421 bye"))
    assert error.recipients == THREE[len(before) + 1 :]
    assert codes(error.refused)[THREE[len(before)]] == 421
    assert "421 bye" in str(error)


def test_those_refused_by_rcpt_have_their_answer_too():
    transcript = COMMANDS + "S: 250 ok\nS: 550 5.1.1 no\nS: 250 ok\nS: 250 ok\nS: 354 go\n" + CONTENT
    error = failure(DeliveryUnknown, transcript + f"S: 250 c\n{NEXT}S: <gone>")
    assert (error.recipients, codes(error.accepted), codes(error.refused)) == (("d@x",), {"c@x": 250}, {"b@x": 550})


def test_the_same_address_twice_and_one_answer():
    transcript = (
        "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@x>\nC: RCPT TO:<b@x>\nC: DATA\nS: 250\nS: 250\nS: 250\nS: 354\n"
        f"{CONTENT}S: 452 twice?\n{NEXT}S: <gone>"
    )
    error = failure(DeliveryUnknown, transcript, to=("b@x", "b@x"))
    assert (error.recipients, error.refused) == (("b@x",), {})


def test_a_connection_that_still_owes_a_verdict_is_not_used_again():
    transcript = (
        "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@x>\nC: RCPT TO:<b@x>\nC: DATA\nS: 250\nS: 250\nS: 250\nS: 354\n"
        f"{CONTENT}S: 250 saved\n{NEXT}S: <gone>"
    )
    receipt = sent(transcript, to=("b@x", "b@x"))
    assert (receipt.accepted, receipt.session_survives) == (("b@x",), False)


# Before the verdicts


def test_lost_before_the_dot_has_left_is_not_sent():
    assert failure(ConnectionLost, COMMANDS + GO_ON + CONTENT + "S: <gone early>").outcome is Outcome.NOT_SENT


@pytest.mark.parametrize(("reply", "kind"), [("552 too much", DataRefused), ("250 ok", ProtocolError)])
def test_a_reply_in_the_middle_of_the_content_is_not_sent_and_no_verdict(reply, kind):
    error = failure(kind, COMMANDS + GO_ON + CONTENT + f"S: <early> {reply}")
    assert (error.outcome, error.session_survives) == (Outcome.NOT_SENT, False)


def test_every_recipient_refused_by_rcpt():
    error = failure(RecipientsRefused, COMMANDS + "S: 250\nS: 550 b\nS: 550 c\nS: 450 d\nS: 503 5.5.1 no recipients")
    assert (error.outcome, error.stage, error.session_survives) == (Outcome.REFUSED, Stage.RCPT, True)


def test_354_though_nobody_is_left_drops_the_connection():
    """A lone dot would have no reply at all, so nobody could tell when the server waits for the next command."""
    error = failure(RecipientsRefused, COMMANDS + "S: 250\nS: 550 b\nS: 550 c\nS: 450 d\nS: 354 go")
    assert (error.outcome, error.session_survives) == (Outcome.REFUSED, False)


def test_each_verdict_has_the_whole_of_the_patience():
    envelope = Envelope(sender="a@x", recipients=("b@x", "c@x"), content=Content.of(b"hi\r\n"))
    dialogue = deliver(Session(extensions=Extensions(pipelining=True), lmtp=True), envelope, envelope.content)
    step = resumed(lambda: next(dialogue))
    step = answered(dialogue, step, ["S: 250", "S: 250", "S: 250", "S: 354"])
    patience = [step.patience]
    step = answered(dialogue, step, ["S: 250"])
    assert (step.pieces, step.hear, step.stage) == ((), 1, Stage.CONTENT)
    assert [*patience, step.patience] == [Patience.VERDICT, Patience.VERDICT]
