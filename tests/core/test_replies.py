"""Replies: whatever pieces they come in, and whatever else comes."""

import itertools
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_smtp_pool.core import replies
from django_smtp_pool.core.replies import MalformedReply, Reply, ReplyParser
from tests.core.transcript import reply_of

STREAM = (
    b"220 mail.example ESMTP\r\n250-mail.example\r\n250-SIZE 1000\r\n250 AUTH PLAIN\r\n334\r\n354 go\r\n"
    b"550-5.1.1 No such\r\n550 5.1.1 user\r\n250\r\n421 4.4.2 bye\r\n"
)
PARTS = [b"250", b"550", b"-", b" ", b"\r", b"\n", b"\r\n", b"ok", b"5.1.1", b"\x00", b"\xff"]


def parsed(*pieces):
    parser = ReplyParser()
    return [reply for piece in pieces for reply in parser.feed(piece)]


def test_a_stream_becomes_replies():
    assert [reply.code for reply in parsed(STREAM)] == [220, 250, 334, 354, 550, 250, 421]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_pieces_make_no_difference(cuts):
    bounds = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[start:end] for start, end in itertools.pairwise(bounds)]
    assert parsed(*pieces) == parsed(STREAM)


def test_octet_by_octet_makes_no_difference():
    assert parsed(*(STREAM[i : i + 1] for i in range(len(STREAM)))) == parsed(STREAM)


@given(st.lists(st.binary(max_size=80)))
def test_random_octets_raise_nothing_but_malformed_reply(pieces):
    parser = ReplyParser()
    try:
        for piece in pieces:
            for reply in parser.feed(piece):
                assert 200 <= reply.code < 600
                str(reply), reply.enhanced, reply.message
    except MalformedReply:
        pass


@given(st.lists(st.sampled_from(PARTS)))
def test_almost_replies_raise_nothing_but_malformed_reply(parts):
    try:
        replies_heard = parsed(b"".join(parts))
    except MalformedReply:
        return
    assert all(reply.lines for reply in replies_heard)


@pytest.mark.parametrize(
    "line",
    [
        b" 25", b"+25", b"-25", b"2_5", b"25", b"2500 ok", b"250ok", b"250_ok", b"150 hm", b"650 hm",
        b"099 hm", b"", b"ok", b"\xb250 ok", b"2\x0050 ok", "\uff12\uff15\uff10 ok".encode(),
        b" 250 ok", b"HTTP/1.1 400 Bad",
    ],
)  # fmt: skip
def test_this_is_no_reply(line):
    with pytest.raises(MalformedReply):
        parsed(line + b"\r\n")


@pytest.mark.parametrize("line", [b"334\r\n", b"334 \r\n", b"334\n"])
def test_a_code_alone_is_a_reply(line):
    assert parsed(line) == [Reply(code=334, lines=(b"",))]


@pytest.mark.parametrize("octets", [b"250", b"250 ok", b"250-ok\r\n", b"250-a\r\n250 b", b"250 ok\r", b"2", b""])
def test_a_truncated_reply_is_no_reply(octets):
    parser = ReplyParser()
    assert parser.feed(octets) == []
    assert parser.is_empty == (not octets)


def test_a_parser_is_empty_between_replies():
    parser = ReplyParser()
    parser.feed(b"250-a\r\n250 b\r\n")
    assert parser.is_empty


@pytest.mark.parametrize("octets", [b"250-a\r\n550 b\r\n", b"550-a\r\n250 b\r\n", b"250-a\r\n251-b\r\n250 c\r\n"])
def test_differing_codes_are_malformed(octets):
    with pytest.raises(MalformedReply, match=r"two codes"):
        parsed(octets)


def test_an_empty_line_inside_a_reply_is_malformed():
    with pytest.raises(MalformedReply):
        parsed(b"250-a\r\n\r\n250 b\r\n")


@pytest.mark.parametrize(
    "octets",
    [
        b"250 " + b"x" * replies.MAX_LINE + b"\r\n",
        b"250-x\r\n" * (replies.MAX_LINES + 1),
        (b"250-" + b"x" * 4000 + b"\r\n") * 17,
        b"x" * (replies.MAX_LINE + 1),
    ],
    ids=["line", "lines", "octets", "no line end"],
)
def test_a_reply_too_large_is_malformed(octets):
    with pytest.raises(MalformedReply, match=r"more than"):
        parsed(octets)


def test_a_reply_as_large_as_may_be_is_heard():
    assert len(parsed(b"250-x\r\n" * (replies.MAX_LINES - 1) + b"250 x\r\n")[0].lines) == replies.MAX_LINES


def fed(parser, piece, *, times):
    return [reply for _ in range(times) for reply in parser.feed(piece)]


def test_a_flood_costs_little_and_ends():
    """64 MB of a reply without end, as the transport would hand them over."""
    parser, block = ReplyParser(), b"250-x\r\n" * 9000
    tracemalloc.start()
    try:
        with pytest.raises(MalformedReply):
            fed(parser, block, times=2**26 // len(block))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_drip_without_a_line_end_ends():
    parser = ReplyParser()
    with pytest.raises(MalformedReply):
        fed(parser, b"2", times=replies.MAX_LINE + 1)


@pytest.mark.parametrize(
    ("line", "enhanced"),
    [
        ("250 2.0.0 ok", (2, 0, 0)),
        ("451 4.4.2 Timeout", (4, 4, 2)),
        ("451 4.7.500 Server busy", (4, 7, 500)),
        ("452 5.5.3 Too many recipients", (5, 5, 3)),
        ("550 5.1.1", (5, 1, 1)),
        ("250 2.0 ok", None),
        ("250 3.0.0 ok", None),
        ("250 2.0.0.1 ok", None),
        ("250 2.0.0x", None),
        ("250 2.0.1000 ok", None),
        ("250", None),
        ("250 see 2.0.0", None),
    ],
)
def test_enhanced_codes(line, enhanced):
    assert reply_of(line).enhanced == enhanced


@pytest.mark.parametrize("code", [200, 250, 334, 354, 400, 421, 450, 499, 500, 554, 599])
def test_a_code_is_of_exactly_one_class(code):
    reply = Reply(code=code)
    classes = (reply.is_positive, reply.is_intermediate, reply.is_transient, reply.is_permanent)
    assert sum(classes) == 1
    assert reply.is_refusal == (reply.is_transient or reply.is_permanent)


def test_the_basic_code_decides_and_not_the_enhanced_one():
    assert reply_of("452 5.5.3 Too many recipients").is_transient


@pytest.mark.parametrize(
    ("line", "closes", "about_connection", "about_session", "about_used_session"),
    [
        ("421 4.3.0 bye", True, True, True, True),
        ("432 4.3.2 Concurrent connections limit exceeded", False, True, True, True),
        ("432 4.7.12 A password transition is needed", False, False, False, False),
        ("451 4.4.2 Timeout waiting for data from client", False, False, True, True),
        ("451 Timeout waiting for data from client", False, False, False, False),
        ("450 4.4.2 x", False, False, False, False),
        ("503 5.5.1 sender already specified", False, False, False, True),
        ("530 5.7.0 authentication required", False, False, False, True),
        ("550 4.4.2 x", False, False, False, False),
    ],
)
def test_what_a_reply_speaks_of(line, closes, about_connection, about_session, about_used_session):
    reply = reply_of(line)
    assert (reply.closes_connection, reply.is_about_connection) == (closes, about_connection)
    assert reply.is_about_session(carried=False) is about_session
    assert reply.is_about_session(carried=True) is about_used_session


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=5))
def test_text_forges_no_log_line(lines):
    assert all(char.isprintable() for char in Reply(code=250, lines=tuple(lines)).text)


@pytest.mark.parametrize("evil", ["\r", "\x1b[2J", "\x00", "\x85", "\u2028", "\u202e", "\x7f"])
def test_text_escapes(evil):
    text = Reply(code=550, lines=(f"no{evil}INFO all is well".encode(),)).text
    assert evil not in text
    assert "\\" in text


def test_text_is_short():
    assert len(Reply(code=550, lines=(b"x" * 4000,) * 16).text) <= 500


def test_octets_that_are_no_utf_8_are_shown():
    assert Reply(code=250, lines=(b"Bon app\xe9tit",)).text == "Bon app\\xe9tit"


def test_a_reply_says_its_code_and_text():
    assert str(reply_of("550-5.1.1 No", "550 such user")) == "550 5.1.1 No such user"
    assert str(reply_of("334")) == "334"


def test_a_parser_that_has_met_something_malformed_is_not_empty():
    """Else the connection would count as in step."""
    parser = ReplyParser()
    for _ in range(2):
        with pytest.raises(MalformedReply):
            parser.feed(b"hello\r\n")
        assert not parser.is_empty
