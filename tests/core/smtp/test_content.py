"""Content: a server reads what was meant, whatever the pieces are, and files are searched less with the same result."""

import base64
import re
import threading

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from django_smtp_pool.core.smtp import content as content_module
from django_smtp_pool.core.smtp.content import Base64, Content, Shared, with_crlf
from tests.core.fakes import in_thread

lines = st.lists(
    st.sampled_from([b".", b"..", b"a", b"", b"\r", b"\n", b"\r\n", b"\r\r\n", b"\n\r", b".\r\n", b"\x00"])
)
contents = st.one_of(st.binary(max_size=200), lines.map(b"".join))


def unstuffed(wire):
    """Return what a strict server reads up to the lone dot, which must be the last line."""
    heard = wire.split(b"\r\n")
    assert heard[-1] == b""
    assert heard.index(b".") == len(heard) - 2, "the content ends before its end"
    return b"".join(line.removeprefix(b".") + b"\r\n" for line in heard[: heard.index(b".")])


@given(contents)
@example(b"")
@example(b".")
@example(b"a\r\n.\r\nb")
@example(b"a\n.\nb")
@example(b"a\r.\rb")
@example(b"a\r\n.\r\r\nb")
def test_a_server_reads_what_was_meant(content):
    sent = Content.of(content)
    assert unstuffed(b"".join(sent.stuffed()) + b".\r\n") == bytes(sent)


@given(contents)
def test_no_bare_line_end_is_left(content):
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", with_crlf(content))


@given(contents)
def test_line_ends_are_made_right_once(content):
    assert with_crlf(with_crlf(content)) == with_crlf(content)


@given(contents)
def test_nothing_but_line_ends_changes(content):
    assert re.sub(rb"[\r\n]", b"", with_crlf(content)) == re.sub(rb"[\r\n]", b"", content)


@pytest.mark.parametrize("end", [b"\n.\r\n", b"\n.\n", b"\r.\r\n", b"\r.\r", b"\r\n.\r", b"\r\n.\n", b"\r\n\x2e\r\n"])
def test_no_look_alike_ends_the_content(end):
    smuggled = b"Subject: x\r\n\r\nhi" + end + b"MAIL FROM:<evil@example.com>\r\n"
    wire = b"".join(Content.of(smuggled).stuffed()) + b".\r\n"
    assert wire.count(b"\r\n.\r\n") == 1
    assert wire.endswith(b"\r\n.\r\n")


def in_lines(file):
    return base64.encodebytes(file).replace(b"\n", b"\r\n")


def ending_with(word):
    """Return what a line of base64 is made from, so that it ends with a word."""
    return base64.b64decode(word.rjust(76, b"A"))


files = st.lists(
    st.one_of(
        st.binary(min_size=57, max_size=57),
        st.sampled_from([b"DATA", b"dAtA", b"BDAT", b"bUrL", b"DATAx", b"xDATA+aa", b"RCPT", b"aaaa"]).map(ending_with),
    ),
    max_size=6,
).map(b"".join)
ends = st.one_of(
    st.binary(max_size=56), st.sampled_from([base64.b64decode(word) for word in (b"DATA", b"xxDATA==", b"xxxdata=")])
)
texts = lines.map(lambda text: b"".join(text) + b"\r\n")


@st.composite
def mixed(draw):
    """Return texts and files in turn."""
    pieces = [with_crlf(b"X: y" + draw(texts))]
    for _ in range(draw(st.integers(0, 3))):
        pieces += [
            Base64(in_lines(draw(files) + draw(ends))),
            draw(st.sampled_from([bytes, Shared]))(with_crlf(draw(texts))),
        ]
    return pieces


@given(mixed())
def test_content_in_pieces_is_sent_like_one_text(pieces):
    content = Content(*pieces)
    joined = Content.of(bytes(content))
    assert bytes(content) == bytes(joined)
    assert (content.size, content.is_ascii) == (joined.size, joined.is_ascii)
    assert content.names_recipient == joined.names_recipient
    assert b"".join(content.stuffed()) == b"".join(joined.stuffed())


@given(mixed())
def test_no_line_of_base64_begins_content_wherever_it_is_entered(pieces):
    content, joined = Content(*pieces), Content.of(bytes(Content(*pieces)))
    octets = bytes(content)
    tokens = {re.match(rb"[ \t]*([^\s]*)", octets[at:])[1].upper() for at in range(len(octets))}
    if not tokens.isdisjoint({b"DATA", b"BDAT", b"BURL"}):
        assert not content.may_be_chunk
    if joined.may_be_chunk:
        assert content.may_be_chunk


def test_a_word_inside_a_line_of_base64_is_no_command():
    file = in_lines(base64.b64decode(b"data/" + b"A" * 71) * 3)
    assert not Content.of(file).may_be_chunk
    assert Content(Base64(file)).may_be_chunk


def test_proper_content_is_not_copied():
    octets = b"Subject: x\r\n\r\nhi\r\n"
    content = Content.of(octets)
    assert content.octets[0] is content.stuffed()[0] is octets


def test_a_piece_is_searched_once_for_all_messages(monkeypatch):
    searched = []
    search = content_module._begins_content
    monkeypatch.setattr(content_module, "_begins_content", lambda octets: searched.append(octets) or search(octets))
    own, text, file = b"Subject: x\r\n\r\n", Shared(b"In common\r\n"), Base64(in_lines(b"x" * 10))
    for _ in range(3):
        assert Content(own, text, file).may_be_chunk
    assert searched == [own, text.octets, file.octets, own, own]


def test_no_search_waits_for_that_of_another_text(monkeypatch):
    """There is no lock, which a fork in the middle of a search would leave held in the child for ever."""
    long, short, is_searched = Shared(b"long"), Shared(b"short"), threading.Event()

    def search(octets):
        assert octets == b"short" or is_searched.wait(20)
        return False

    monkeypatch.setattr(content_module, "_begins_content", search)
    searching = in_thread(lambda: long.begins_content)
    assert not short.begins_content
    is_searched.set()
    assert not searching.join()


@pytest.mark.parametrize("kind", [bytearray, type("Signed", (bytes,), {})])
def test_octets_of_another_type_are_taken(kind):
    assert bytes(Content.of(kind(b"hi\n"))) == b"hi\r\n"
    assert Content.of(kind(b"hi\r\n")).octets == (b"hi\r\n",)


def test_a_large_text_beside_a_file_is_held_once():
    text, file = b"x" * 76 + b"\r\n", Base64(in_lines(b"x" * 10))
    content = Content(1000 * text, file, b"--end\r\n")
    assert content.size > 78_000
    assert content._own[0] is content.octets[0]
