"""The dialogue of one message: every outcome of DESIGN §2.1, by what was said and heard."""

import pytest

from django_smtp_pool.core.errors import (
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
)
from django_smtp_pool.core.smtp.content import Content
from django_smtp_pool.core.smtp.delivery import Session, deliver
from django_smtp_pool.core.smtp.envelope import Envelope
from django_smtp_pool.core.smtp.extensions import Extensions, fit
from tests.core.transcript import play

GROUP = "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@x>\nC: DATA\n"
GROUP_OF_TWO = "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@x>\nC: RCPT TO:<c@x>\nC: DATA\n"
GO_ON = "S: 250 ok\nS: 250 ok\nS: 354 go\n"
CONTENT = "C: Subject: x\nC:\nC: hi\nC: .\n"


def sent(transcript, *, to=("b@x",), content=b"Subject: x\r\n\r\nhi\r\n", carried=False, needs_reset=False, **offered):
    """Play one delivery; PIPELINING is offered unless said otherwise."""
    smtputf8 = offered.get("smtputf8", False)
    envelope = Envelope(sender="a@x", recipients=to, content=Content.of(content), smtputf8=smtputf8, message_id="<1@x>")
    extensions = Extensions(**{"pipelining": True, **offered})
    session = Session(extensions=extensions, carried=carried, needs_reset=needs_reset)
    return play(deliver(session, envelope, fit(extensions, envelope)), transcript)


def refused(kind, transcript, **how):
    with pytest.raises(Failure) as caught:
        sent(transcript, **how)
    assert type(caught.value) is kind
    return caught.value


# What goes well


def test_two_round_trips_with_pipelining():
    receipt = sent(GROUP + GO_ON + CONTENT + "S: 250 2.0.0 queued as 1")
    assert (receipt.accepted, receipt.refused, str(receipt.reply)) == (("b@x",), {}, "250 2.0.0 queued as 1")


def test_a_round_trip_each_without():
    sent(
        """
        C: MAIL FROM:<a@x>
        S: 250 ok
        C: RCPT TO:<b@x>
        S: 250 ok
        C: DATA
        S: 354 go
        C: Subject: x
        C:
        C: hi
        C: .
        S: 250 queued
        """,
        pipelining=False,
    )


def test_pipelining_can_be_switched_off():
    envelope = Envelope(sender="a@x", recipients=("b@x",), content=Content.of(b"hi\r\n"))
    session = Session(extensions=Extensions(pipelining=True), pipelining=False)
    dialogue = deliver(session, envelope, envelope.content)
    play(dialogue, "C: MAIL FROM:<a@x>\nS: 250\nC: RCPT TO:<b@x>\nS: 250\nC: DATA\nS: 354\nC: hi\nC: .\nS: 250")


def test_there_is_no_rset_and_no_noop_on_a_reused_connection():
    sent(GROUP + GO_ON + CONTENT + "S: 250 queued", carried=True)


def test_any_2xx_accepts():
    assert sent(GROUP + "S: 200 ok\nS: 251 will forward\nS: 354 go\n" + CONTENT + "S: 252 fine").accepted == ("b@x",)


def test_a_lone_dot_in_the_content_is_stuffed():
    sent(GROUP + GO_ON + "C: a\nC: ..\nC: ..b\nC: .\nS: 250 queued", content=b"a\r\n.\r\n.b\r\n")


def test_the_null_sender():
    envelope = Envelope(sender="", recipients=("b@x",), content=Content.of(b"hi\r\n"))
    session = Session(extensions=Extensions(pipelining=True))
    play(
        deliver(session, envelope, envelope.content),
        f"C: MAIL FROM:<>\nC: RCPT TO:<b@x>\nC: DATA\n{GO_ON}C: hi\nC: .\nS: 250",
    )


# RSET


def test_after_a_refusal_rset_leads_the_next_group():
    sent("C: RSET\n" + GROUP + "S: 250 flushed\n" + GO_ON + CONTENT + "S: 250 queued", needs_reset=True)


def test_after_a_refusal_rset_comes_first_without_pipelining():
    sent(
        "C: RSET\nS: 250\nC: MAIL FROM:<a@x>\nS: 250\nC: RCPT TO:<b@x>\nS: 250\nC: DATA\nS: 354\n" + CONTENT + "S: 250",
        needs_reset=True,
        pipelining=False,
    )


def test_a_refused_rset_drops_the_connection_and_not_the_message():
    error = refused(ProtocolError, "C: RSET\n" + GROUP + "S: 502 no\n" + GO_ON, needs_reset=True, carried=True)
    assert_not_sent(error, Stage.RSET)


def test_a_421_to_rset_is_about_the_connection():
    error = refused(SenderRefused, "C: RSET\n" + GROUP + "S: 421 4.4.2 timeout", needs_reset=True, carried=True)
    assert_not_sent(error, Stage.RSET)


def assert_not_sent(error, stage):
    assert (error.outcome, error.stage, error.session_survives) == (Outcome.NOT_SENT, stage, False)


def assert_refused(error, stage, code, *, survives=True):
    assert (error.outcome, error.stage, error.reply.code) == (Outcome.REFUSED, stage, code)
    assert error.session_survives is survives


# Refusals: each is about this message, and the connection lives on


@pytest.mark.parametrize("code", [450, 451, 452, 550, 552, 553, 554])
def test_a_refused_sender(code):
    error = refused(SenderRefused, GROUP + f"S: {code} no\nS: 503 bad\nS: 503 bad")
    assert_refused(error, Stage.MAIL, code)
    assert (error.smtp_code, error.smtp_error, error.sender) == (code, b"no", "a@x")


def test_after_a_refused_sender_nothing_more_is_said():
    assert_refused(refused(SenderRefused, "C: MAIL FROM:<a@x>\nS: 550 no", pipelining=False), Stage.MAIL, 550)


def test_a_refused_sender_on_a_server_that_takes_the_rest():
    error = refused(SenderRefused, GROUP + "S: 550 no\nS: 250 ok\nS: 354 go")
    assert_refused(error, Stage.MAIL, 550, survives=False)


@pytest.mark.parametrize("code", [450, 451, 550, 552, 553])
def test_the_only_recipient_refused(code):
    error = refused(RecipientsRefused, GROUP + f"S: 250 ok\nS: {code} 5.1.1 no\nS: 503 no valid recipients")
    assert_refused(error, Stage.RCPT, code)
    assert error.recipients == {"b@x": (code, b"5.1.1 no")}
    assert error.refused["b@x"].enhanced == (5, 1, 1)


def test_without_pipelining_data_is_not_said_when_nobody_is_left():
    transcript = "C: MAIL FROM:<a@x>\nS: 250\nC: RCPT TO:<b@x>\nS: 550 no\nC: RCPT TO:<c@x>\nS: 450 later"
    error = refused(RecipientsRefused, transcript, to=("b@x", "c@x"), pipelining=False)
    assert_refused(error, Stage.RCPT, 550)
    assert {address: reply.code for address, reply in error.refused.items()} == {"b@x": 550, "c@x": 450}


@pytest.mark.parametrize("answer", ["250 queued", "554 no valid recipients", "451 hm"])
def test_354_though_nobody_is_left_takes_a_lone_dot(answer):
    """RFC 2920 §3.1."""
    error = refused(RecipientsRefused, GROUP + f"S: 250 ok\nS: 550 no\nS: 354 go\nC: .\nS: {answer}")
    assert_refused(error, Stage.RCPT, 550)


@pytest.mark.parametrize("answer", ["421 bye", "<gone>", "<gone early>"])
def test_a_lone_dot_that_ends_the_session_changes_nothing_of_the_refusal(answer):
    error = refused(RecipientsRefused, GROUP + f"S: 250 ok\nS: 550 no\nS: 354 go\nC: .\nS: {answer}")
    assert_refused(error, Stage.RCPT, 550, survives=False)


def test_some_recipients_refused_the_rest_gets_it():
    receipt = sent(
        GROUP_OF_TWO + "S: 250 ok\nS: 550 5.1.1 no\nS: 250 ok\nS: 354 go\n" + CONTENT + "S: 250 queued",
        to=("b@x", "c@x"),
    )
    assert receipt.accepted == ("c@x",)
    assert receipt.refused["b@x"].enhanced == (5, 1, 1)


def test_the_same_address_twice_is_not_refused_where_it_was_accepted_once():
    group = GROUP_OF_TWO.replace("c@x", "b@x") + "S: 250 ok\nS: 250 ok\nS: 452 twice?\nS: 354 go\n"
    receipt = sent(group + CONTENT + "S: 250 queued", to=("b@x", "b@x"))
    assert (receipt.accepted, receipt.refused) == (("b@x",), {})
    error = refused(DeliveryUnknown, group + CONTENT + "S: <gone>", to=("b@x", "b@x"))
    assert (error.recipients, error.refused) == (("b@x",), {})


@pytest.mark.parametrize("code", [451, 452, 503, 550, 554])
def test_data_refused(code):
    error = refused(DataRefused, GROUP + f"S: 250 ok\nS: 250 ok\nS: {code} no")
    assert_refused(error, Stage.DATA, code)


@pytest.mark.parametrize("code", [450, 451, 452, 550, 552, 554])
def test_the_end_of_data_refused(code):
    error = refused(DataRefused, GROUP + GO_ON + CONTENT + f"S: {code} 5.7.1 spam")
    assert_refused(error, Stage.CONTENT, code)


@pytest.mark.parametrize("carried", [True, False])
def test_451_4_4_2_to_the_end_of_data_is_about_the_session_and_worth_one_try(carried):
    error = refused(DataRefused, GROUP + GO_ON + CONTENT + "S: 451 4.4.2 Timeout", carried=carried)
    assert_not_sent(error, Stage.CONTENT)
    assert error.try_fresh
    assert error.is_last_resort


# Refusals that end the session after they were final


def test_a_421_behind_a_refused_sender_takes_nothing_back():
    """Postfix under stress: one error, and it hangs up. Trying again would be refused again."""
    assert_refused(refused(SenderRefused, GROUP + "S: 550 no\nS: 421 too many errors"), Stage.MAIL, 550, survives=False)


def test_a_421_behind_the_last_refused_recipient_takes_nothing_back():
    error = refused(RecipientsRefused, GROUP + "S: 250 ok\nS: 550 no\nS: 421 too many errors")
    assert_refused(error, Stage.RCPT, 550, survives=False)


def test_a_421_before_every_recipient_has_an_answer_is_about_the_connection():
    error = refused(RecipientsRefused, GROUP_OF_TWO + "S: 250 ok\nS: 550 no\nS: 421 bye", to=("b@x", "c@x"))
    assert_not_sent(error, Stage.RCPT)


@pytest.mark.parametrize("heard", ["S: 550 no", "S: 550 no\nS: 503 bad"])
def test_an_end_behind_a_refused_sender_takes_nothing_back(heard):
    error = refused(SenderRefused, GROUP + heard + "\nS: <gone>")
    assert_refused(error, Stage.MAIL, 550, survives=False)


def test_an_end_behind_the_last_refused_recipient_takes_nothing_back():
    error = refused(RecipientsRefused, GROUP + "S: 250 ok\nS: 550 no\nS: <gone>")
    assert_refused(error, Stage.RCPT, 550, survives=False)


# What is about the connection: not sent


@pytest.mark.parametrize("reply", ["421 4.3.2 bye", "432 4.3.2 Concurrent connections limit exceeded"])
@pytest.mark.parametrize("carried", [True, False])
def test_421_and_432_are_about_the_connection_wherever_they_come(reply, carried):
    stops = reply.startswith("421")
    rest = "" if stops else "\nS: 503 bad\nS: 503 bad"
    assert_not_sent(refused(SenderRefused, GROUP + f"S: {reply}{rest}", carried=carried), Stage.MAIL)
    rest = "" if stops else "\nS: 503 bad"
    assert_not_sent(refused(RecipientsRefused, GROUP + f"S: 250 ok\nS: {reply}{rest}", carried=carried), Stage.RCPT)
    assert_not_sent(refused(DataRefused, GROUP + f"S: 250 ok\nS: 250 ok\nS: {reply}", carried=carried), Stage.DATA)
    assert_not_sent(refused(DataRefused, GROUP + GO_ON + CONTENT + f"S: {reply}", carried=carried), Stage.CONTENT)


def test_421_ends_a_conversation_without_pipelining_at_once():
    error = refused(SenderRefused, "C: MAIL FROM:<a@x>\nS: 421 bye", pipelining=False)
    assert_not_sent(error, Stage.MAIL)
    error = refused(
        RecipientsRefused, "C: MAIL FROM:<a@x>\nS: 250\nC: RCPT TO:<b@x>\nS: 421", to=("b@x", "c@x"), pipelining=False
    )
    assert_not_sent(error, Stage.RCPT)


@pytest.mark.parametrize("carried", [True, False])
def test_451_4_4_2_is_about_the_session_wherever_it_comes(carried):
    gone = "S: 451 4.4.2 Timeout waiting for data from client\n"
    assert_not_sent(refused(SenderRefused, GROUP + gone + "S: 503 bad\nS: 503 bad", carried=carried), Stage.MAIL)
    rcpt = GROUP + "S: 250 ok\n" + gone + "S: 503 bad"
    assert_not_sent(refused(RecipientsRefused, rcpt, carried=carried), Stage.RCPT)
    data = GROUP + "S: 250 ok\nS: 250 ok\n" + gone
    assert_not_sent(refused(DataRefused, data, carried=carried), Stage.DATA)
    reset = "C: RSET\n" + GROUP + gone + "S: 503 bad\n" * 3
    assert_not_sent(refused(SenderRefused, reset, needs_reset=True, carried=carried), Stage.RSET)


@pytest.mark.parametrize("code", [503, 530])
def test_503_and_530_are_about_a_session_that_has_carried_a_message(code):
    rest = f"S: {code} 5.5.1 what\n"
    for transcript, kind, stage in [
        (GROUP + rest * 3, SenderRefused, Stage.MAIL),
        (GROUP + "S: 250 ok\n" + rest * 2, RecipientsRefused, Stage.RCPT),
        (GROUP + "S: 250 ok\nS: 250 ok\n" + rest, DataRefused, Stage.DATA),
        (GROUP + GO_ON + CONTENT + rest, DataRefused, Stage.CONTENT),
    ]:
        error = refused(kind, transcript, carried=True)
        assert_not_sent(error, stage)
        assert error.try_fresh
        error = refused(kind, transcript)
        assert_refused(error, stage, code)
        assert not error.try_fresh


@pytest.mark.parametrize("reply", ["451 4.4.2 timeout", "503 what", "530 what", "421 bye"])
def test_what_follows_a_refusal_does_not_change_it(reply):
    error = refused(
        SenderRefused, GROUP + f"S: 550 no\nS: {reply}" + "\nS: 503 bad" * ("421" not in reply), carried=True
    )
    assert (error.outcome, error.stage, error.reply.code) == (Outcome.REFUSED, Stage.MAIL, 550)
    error = refused(RecipientsRefused, GROUP + f"S: 250 ok\nS: 550 no\nS: {reply}", carried=True)
    assert (error.outcome, error.stage, error.reply.code) == (Outcome.REFUSED, Stage.RCPT, 550)


def test_a_451_with_another_status_is_about_the_message():
    error = refused(SenderRefused, GROUP + "S: 451 4.3.0 later\nS: 503\nS: 503", carried=True)
    assert_refused(error, Stage.MAIL, 451)


@pytest.mark.parametrize("end", ["<gone>", "<gone early>"])
@pytest.mark.parametrize("heard", ["", "S: 250 ok\n", "S: 250 ok\nS: 250 ok\n"])
def test_a_connection_lost_before_the_content_leaves_nothing_in_doubt(end, heard):
    error = refused(ConnectionLost, GROUP + heard + f"S: {end}", carried=True)
    assert error.outcome is Outcome.NOT_SENT


@pytest.mark.parametrize(
    ("transcript", "stage"),
    [
        (GROUP + "S: 354 what\nS: 250 ok\nS: 354 go", Stage.MAIL),
        (GROUP + "S: 250 ok\nS: 354 what\nS: 354 go", Stage.RCPT),
        (GROUP + "S: 250 ok\nS: 250 ok\nS: 250 what", Stage.DATA),
        (GROUP + "S: 250 ok\nS: 250 ok\nS: 334 what", Stage.DATA),
    ],
)
def test_a_positive_reply_of_the_wrong_kind_is_out_of_step(transcript, stage):
    assert_not_sent(refused(ProtocolError, transcript), stage)


# In the middle of the content, and behind it


def test_lost_before_the_dot_has_left_is_not_sent():
    error = refused(ConnectionLost, GROUP + GO_ON + CONTENT + "S: <gone early>")
    assert_not_sent(error, Stage.CONTENT)


def test_lost_behind_the_dot_is_unknown():
    error = refused(DeliveryUnknown, GROUP + GO_ON + CONTENT + "S: <gone>")
    assert (error.outcome, error.in_doubt, error.session_survives) == (Outcome.UNKNOWN, True, False)
    assert (error.recipients, error.message_id, error.stage) == (("b@x",), "<1@x>", Stage.CONTENT)
    assert "<1@x>" in str(error)


def test_the_recipients_in_doubt_are_those_that_the_server_took():
    transcript = GROUP_OF_TWO + "S: 250 ok\nS: 250 ok\nS: 550 no\nS: 354 go\n" + CONTENT + "S: <gone>"
    assert refused(DeliveryUnknown, transcript, to=("b@x", "c@x")).recipients == ("b@x",)


@pytest.mark.parametrize("reply", ["354 go on", "334", "399 x"])
def test_a_3xx_to_the_end_of_data_is_unknown(reply):
    assert refused(DeliveryUnknown, GROUP + GO_ON + CONTENT + f"S: {reply}").outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("reply", ["552 too much", "451 later", "421 bye"])
def test_a_refusal_in_the_middle_of_the_content_is_not_sent(reply):
    assert_not_sent(refused(DataRefused, GROUP + GO_ON + CONTENT + f"S: <early> {reply}"), Stage.CONTENT)


@pytest.mark.parametrize("reply", ["250 ok", "354 go"])
def test_an_acceptance_in_the_middle_of_the_content_is_none(reply):
    assert_not_sent(refused(ProtocolError, GROUP + GO_ON + CONTENT + f"S: <early> {reply}"), Stage.CONTENT)


# Parameters of MAIL


def parameters(content=b"hi\r\n", *, to="b@x", **offered):
    smtputf8 = not to.isascii()
    envelope = Envelope(
        sender="a@x", recipients=(to,), content=Content.of(content), smtputf8=smtputf8, seven_bit=lambda: b"7\r\n"
    )
    extensions = Extensions(pipelining=True, **offered)
    step = next(deliver(Session(extensions=extensions), envelope, fit(extensions, envelope)))
    return b"".join(step.pieces).split(b"\r\n")[0].removeprefix(b"MAIL FROM:<a@x>").strip().decode()


@pytest.mark.parametrize(("size", "said"), [(None, ""), (0, "SIZE=4"), (100, "SIZE=4")])
def test_the_size_is_told_where_it_is_asked_for(size, said):
    assert parameters(size=size) == said


def test_the_size_counts_line_ends_made_right_and_no_stuffing():
    assert parameters(b".a\n.b", size=0) == "SIZE=8"


def test_8bitmime_is_said_of_eight_bit_content_only():
    assert parameters(b"hi\r\n", eight_bit_mime=True) == ""
    assert parameters("hé\r\n".encode(), eight_bit_mime=True) == "BODY=8BITMIME"
    assert parameters("hé\r\n".encode()) == ""


def test_smtputf8_is_said_of_addresses_that_need_it_only():
    assert parameters(smtputf8=True) == ""
    assert parameters(to="é@x", smtputf8=True) == "SMTPUTF8"


def test_all_parameters_together():
    assert parameters("hé\r\n".encode(), to="é@x", size=9, eight_bit_mime=True, smtputf8=True) == (
        "SIZE=5 BODY=8BITMIME SMTPUTF8"
    )


def test_a_server_without_8bitmime_gets_the_seven_bit_form():
    envelope = Envelope(
        sender="a@x", recipients=("b@x",), content=Content.of("é".encode()), seven_bit=lambda: b"=C3=A9"
    )
    assert bytes(fit(Extensions(), envelope)) == b"=C3=A9\r\n"
    assert bytes(fit(Extensions(eight_bit_mime=True), envelope)) == "é\r\n".encode()


def test_an_address_that_needs_smtputf8_is_not_sent_without():
    envelope = Envelope(sender="a@x", recipients=("é@x",), content=Content.of(b""), smtputf8=True)
    with pytest.raises(NotOffered, match=r"SMTPUTF8") as caught:
        fit(Extensions(), envelope)
    assert caught.value.session_survives
    assert caught.value.is_final


def test_a_message_larger_than_announced_is_not_offered():
    envelope = Envelope(sender="a@x", recipients=("b@x",), content=Content.of(b"x" * 100))
    with pytest.raises(SenderRefused, match=r"102 octets, but the server accepts at most 101") as caught:
        fit(Extensions(size=101), envelope)
    assert (caught.value.smtp_code, caught.value.session_survives, caught.value.is_final) == (552, True, True)
    assert fit(Extensions(size=102), envelope)
    assert fit(Extensions(size=0), envelope)
