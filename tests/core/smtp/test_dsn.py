"""DSN and REQUIRETLS: how MAIL and RCPT ask for them (RFC 3461, RFC 6533, RFC 8689), and what is refused before."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_smtp_pool.core.errors import NotOffered, Outcome, Stage
from django_smtp_pool.core.smtp.content import Content
from django_smtp_pool.core.smtp.delivery import deliver
from django_smtp_pool.core.smtp.dsn import DSN, Original, events, from_xtext, xtext
from django_smtp_pool.core.smtp.envelope import Envelope
from django_smtp_pool.core.smtp.extensions import Extensions, fit
from django_smtp_pool.core.smtp.transaction import Session
from tests.core.transcript import play, reply_of

TWO = ("b@x", "c@x")


def said(dsn=None, *, to=TWO, smtputf8=False, require_tls=False, one_shot=False, **offered):
    """Return MAIL and each RCPT, as they are said to a server that offers DSN unless said otherwise."""
    envelope = Envelope(
        sender="a@x", recipients=to, content=Content.of(b"hi\r\n"), dsn=dsn, smtputf8=smtputf8, require_tls=require_tls
    )
    usual = {"pipelining": True, "chunking": one_shot, "dsn": True, "require_tls": require_tls, "smtputf8": smtputf8}
    extensions = Extensions(**{**usual, **offered})
    content = fit(extensions, envelope, tls_flaw=None)
    step = next(deliver(Session(extensions=extensions, chunking=one_shot, one_shot=one_shot), envelope, content))
    return b"".join(step.pieces).decode().split("\r\n")[: 1 + len(to)]


# What is said


def test_nothing_is_said_that_was_not_asked_for():
    assert said() == said(DSN()) == ["MAIL FROM:<a@x>", "RCPT TO:<b@x>", "RCPT TO:<c@x>"]


def test_all_of_it():
    dsn = DSN(
        ret="hdrs",
        envid="order 17+1",
        notify={"b@x": ["failure", "success"], "c@x": "never"},
        orcpt={"b@x": "first+b@x"},
    )
    assert said(dsn, size=0, smtputf8=True) == [
        "MAIL FROM:<a@x> SIZE=4 SMTPUTF8 RET=HDRS ENVID=order+2017+2B1",
        "RCPT TO:<b@x> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;first+2Bb@x",
        "RCPT TO:<c@x> NOTIFY=NEVER",
    ]


def test_it_goes_in_one_shot_too():
    dsn = DSN(ret="full", notify={"b@x": "delay"})
    assert said(dsn, one_shot=True) == ["MAIL FROM:<a@x> RET=FULL", "RCPT TO:<b@x> NOTIFY=DELAY", "RCPT TO:<c@x>"]


def test_the_chunk_in_one_shot_is_counted_without_the_parameters():
    dsn = DSN(ret="full", envid="x" * 90, notify={"b@x": "delay"})
    envelope = Envelope(sender="a@x", recipients=("b@x",), content=Content.of(b"hi\r\n"), dsn=dsn)
    session = Session(extensions=Extensions(pipelining=True, chunking=True, dsn=True), chunking=True, one_shot=True)
    receipt = play(
        deliver(session, envelope, envelope.content),
        f"C: MAIL FROM:<a@x> RET=FULL ENVID={'x' * 90}\nC: RCPT TO:<b@x> NOTIFY=DELAY\nC: BDAT 4 LAST\nC: hi\n"
        "S: 250\nS: 250\nS: 250 queued",
    )
    assert receipt.dsn is True


def test_it_is_left_out_where_it_is_not_offered():
    dsn = DSN(ret="full", envid="x", notify={"b@x": "delay"}, orcpt={"b@x": "d@x"})
    envelope = Envelope(sender="a@x", recipients=("b@x",), content=Content.of(b"hi\r\n"), dsn=dsn)
    receipt = play(
        deliver(Session(extensions=Extensions(pipelining=True)), envelope, fit(Extensions(pipelining=True), envelope)),
        "C: MAIL FROM:<a@x>\nC: RCPT TO:<b@x>\nC: DATA\nS: 250\nS: 250\nS: 354\nC: hi\nC: .\nS: 250 queued",
    )
    assert receipt.dsn is False


def test_strictly_it_is_refused_where_it_is_not_offered():
    envelope = Envelope(sender="a@x", recipients=("b@x",), content=Content.of(b""), dsn=DSN(ret="full", strict=True))
    with pytest.raises(NotOffered, match=r"strict.*does not offer DSN") as caught:
        fit(Extensions(), envelope)
    assert (caught.value.outcome, caught.value.stage) == (Outcome.NOT_SENT, Stage.MAIL)
    assert caught.value.is_final
    assert caught.value.session_survives
    assert bytes(fit(Extensions(dsn=True), envelope)) == b""


# The original recipient


@pytest.mark.parametrize(
    ("value", "in_ascii", "in_utf8"),
    [
        ("b@x", "rfc822;b@x", None),
        ("a+b=c@x", "rfc822;a+2Bb+3Dc@x", None),
        ("rfc822;b@x", "rfc822;b@x", None),
        ("RFC822;b@x", "RFC822;b@x", None),
        ("x400;/G=Bob/S=Jones/", "x400;/G+3DBob/S+3DJones/", None),
        ("é@x", r"utf-8;\x{E9}@x", "utf-8;é@x"),
        ("a+é=\\@x", r"utf-8;a\x{2B}\x{E9}\x{3D}\x{5C}@x", r"utf-8;a\x{2B}é\x{3D}\x{5C}@x"),
        ("utf-8;b@x", "utf-8;b@x", None),
        ("😀@x", r"utf-8;\x{1F600}@x", "utf-8;😀@x"),
        ('"a b"@x', 'rfc822;"a+20b"@x', None),
    ],
)
def test_the_original_recipient_is_encoded(value, in_ascii, in_utf8):
    original = Original.of(value)
    assert original.parameter(smtputf8=False) == in_ascii
    assert original.parameter(smtputf8=True) == (in_utf8 or in_ascii)
    for encoded in (in_ascii, in_utf8 or in_ascii):
        assert Original.read(encoded) == original


@pytest.mark.parametrize(("kind", "address"), [("rfc822 x", "a@x"), ("", "a@x"), ("rfc822", "a\r\nDATA"), ("a;b", "c")])
def test_nothing_breaks_out_of_it(kind, address):
    with pytest.raises(ValueError, match=r"^must "):
        Original(kind=kind, address=address)


def test_it_is_utf_8_on_the_wire_only_where_the_transaction_is():
    dsn = DSN(orcpt={"b@x": "é@x"})
    assert said(dsn)[1] == r"RCPT TO:<b@x> ORCPT=utf-8;\x{E9}@x"
    assert said(dsn, to=("b@x", "ü@x"), smtputf8=True)[1] == "RCPT TO:<b@x> ORCPT=utf-8;é@x"


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"])))
def test_xtext_is_read_as_it_was_written(text):
    assert from_xtext(xtext(text)) == text
    assert not set(xtext(text)) & set(" =\r\n\t\x7f")


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20), st.booleans())
def test_addresses_beyond_ascii_are_read_as_they_were_written(text, smtputf8):
    original = Original.of(f"utf-8;{text}")
    encoded = original.parameter(smtputf8=smtputf8)
    assert Original.read(encoded) == original
    assert not set(encoded) & set(" =+\r\n\t")


# What is not taken


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ret", "all"),
        ("ret", ["full"]),
        ("ret", True),
        ("envid", ""),
        ("envid", 17),
        ("envid", "é"),
        ("envid", "a\r\nRCPT TO:<m@x>"),
        ("envid", "x" * 101),
        ("envid", " " * 34),
        ("notify", "success"),
        ("notify", {"b@x": "sucess"}),
        ("notify", {"b@x": []}),
        ("notify", {"b@x": ["never", "failure"]}),
        ("notify", {"b@x": None}),
        ("notify", {"b@x": 1}),
        ("notify", {"b@x": "success\r\nDATA"}),
        ("notify", {1: "success"}),
        ("orcpt", "d@x"),
        ("orcpt", {"b@x": ""}),
        ("orcpt", {"b@x": "rfc822;"}),
        ("orcpt", {"b@x": "rfc822;é@x"}),
        ("orcpt", {"b@x": "d@x\r\nDATA"}),
        ("orcpt", {"b@x": "d" * 500}),
        ("orcpt", {"b@x": b"d@x"}),
        ("strict", "yes"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_by_name(key, value):
    with pytest.raises(ValueError, match=rf"^{key} must "):
        DSN(**{key: value})


@pytest.mark.parametrize("value", ["a=b", "+2", "+2b", "a b", "é", "+GG"])
def test_what_is_no_xtext_is_not_read(value):
    with pytest.raises(ValueError, match="must be xtext"):
        from_xtext(value)


def test_events_are_put_in_order_and_named_once():
    assert events(["Delay", "success", "DELAY"]) == ("SUCCESS", "DELAY")
    assert events({"failure"}) == ("FAILURE",)
    assert events("never") == ("NEVER",)


@pytest.mark.parametrize("key", ["notify", "orcpt"])
def test_a_stranger_is_refused(key):
    with pytest.raises(ValueError, match="names 'd@x', which is not a recipient"):
        Envelope(sender="a@x", recipients=TWO, content=Content.of(b""), dsn=DSN(**{key: {"d@x": "delay"}}))


# REQUIRETLS


def test_requiretls_is_said_where_all_is_well():
    assert said(require_tls=True)[0] == "MAIL FROM:<a@x> REQUIRETLS"


@pytest.mark.parametrize(
    ("offered", "flaw", "text"),
    [
        (False, None, "the server does not offer REQUIRETLS"),
        (True, "the connection is not encrypted", "the connection is not encrypted"),
        (False, "it is in clear", "it is in clear and the server does not offer REQUIRETLS"),
    ],
)
def test_requiretls_is_refused_where_anything_is_missing(offered, flaw, text):
    envelope = Envelope(sender="a@x", recipients=TWO, content=Content.of(b""), require_tls=True)
    with pytest.raises(NotOffered, match=f"require_tls.*, but {text}") as caught:
        fit(Extensions(require_tls=offered), envelope, tls_flaw=flaw)
    assert (caught.value.is_final, caught.value.session_survives) == (True, True)


def test_who_says_nothing_of_tls_has_none():
    envelope = Envelope(sender="a@x", recipients=TWO, content=Content.of(b""), require_tls=True)
    with pytest.raises(NotOffered, match="not encrypted"):
        fit(Extensions(require_tls=True), envelope)


def test_the_offer_is_read():
    extensions = Extensions.from_reply(reply_of("250-x", "250-dsn", "250 RequireTLS"))
    assert (extensions.dsn, extensions.require_tls) == (True, True)
    assert (Extensions().dsn, Extensions().require_tls) == (False, False)
