"""Envelopes: content that a server reads as it was meant, and addresses that stay in their command."""

import base64
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from django_smtp_pool.core.smtp.envelope import Envelope, check_address, dot_stuffed, may_be_chunk, with_crlf

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
    sent = with_crlf(content)
    assert unstuffed(dot_stuffed(sent) + b".\r\n") == sent


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
    wire = dot_stuffed(with_crlf(smuggled)) + b".\r\n"
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
    """Return content of texts and files in turn, and where the files are."""
    content, ranges = b"X: y" + draw(texts), []
    for _ in range(draw(st.integers(0, 3))):
        file = in_lines(draw(files) + draw(ends))
        ranges.append((len(content), len(content) + len(file)))
        content += file + draw(texts)
    return content, ranges


@given(mixed())
def test_where_files_are_is_searched_less_with_the_same_result(given):
    content, ranges = given
    sent = with_crlf(content, ranges)
    assert sent == with_crlf(content)
    if sent is content:
        assert dot_stuffed(content, ranges) == dot_stuffed(content)


@given(mixed())
def test_no_line_of_base64_begins_content_wherever_it_is_entered(given):
    content, ranges = given
    tokens = {re.match(rb"[ \t]*([^\s]*)", content[at:])[1].upper() for at in range(len(content))}
    if not tokens.isdisjoint({b"DATA", b"BDAT", b"BURL"}):
        assert not may_be_chunk(content, ranges)
    if may_be_chunk(content):
        assert may_be_chunk(content, ranges)


def test_a_word_inside_a_line_of_base64_is_no_command():
    file = in_lines(base64.b64decode(b"data/" + b"A" * 71) * 3)
    assert not may_be_chunk(file)
    assert may_be_chunk(file, [(0, len(file))])


def test_proper_content_is_not_copied():
    content = b"Subject: x\r\n\r\nhi\r\n"
    assert with_crlf(content) is content
    assert dot_stuffed(content) is content


@pytest.mark.parametrize(
    "address",
    ["", "a@example.com", '"a b"@example.com', '"<"@example.com', "a@[::1]", "+tag@x", '"a\\" b"@x', "a@[127.0.0.1]"],
)
def test_this_address_may_go_into_a_command(address):
    check_address(address)


@pytest.mark.parametrize(
    "address",
    [
        "a@x>", "<a@x", "a@x> SIZE=1", "a@x\r\nDATA", "a@x\n", "a@x\r", "a@x\0", '"a\r\nDATA"@x', "a b@x", "a@x\t",
        "a\x7f@x", '"a\x7f"@x', '"a" b@x', '"a\\"> b@x', '"> SIZE=9', "é@x", '"é"@x', "a@é", "\udce9@x",
    ],
)  # fmt: skip
def test_this_address_may_not(address):
    with pytest.raises(ValueError, match=r"Invalid address"):
        check_address(address)


def test_smtputf8_lets_letters_in_and_nothing_else():
    check_address("é@é.example", smtputf8=True)
    with pytest.raises(ValueError, match=r"Invalid address"):
        check_address("é@x> SIZE=1", smtputf8=True)


@given(st.text(st.sampled_from('ab.@<>"\\ \t\r\n\0\x7f\u00e9\u2028'), max_size=20))
def test_no_address_breaks_out_of_its_command(address):
    try:
        check_address(address, smtputf8=True)
    except ValueError:
        return
    line = f"RCPT TO:<{address}>"
    assert not re.search(r"[\r\n\0]", line)
    assert end_of_path(line) in {None, len(line) - 1}


def end_of_path(line):
    """Return where a server sees the end of the path, None where an open quote hides it (a syntax error)."""
    outside = re.sub(r'"(?:[^"\\]|\\.)*"', lambda quoted: "q" * len(quoted[0]), line)
    return outside.index(">") if ">" in outside else None


@pytest.mark.parametrize("recipients", [(), ("",), ("a@x", "b@x\r\nRSET")])
def test_an_envelope_checks_its_recipients(recipients):
    with pytest.raises(ValueError, match=r"recipient|address"):
        Envelope(sender="a@x", recipients=recipients, content=b"")


def test_an_envelope_checks_its_sender_which_may_be_empty():
    Envelope(sender="", recipients=("a@x",), content=b"")
    with pytest.raises(ValueError, match=r"address"):
        Envelope(sender="a@x>", recipients=("a@x",), content=b"")


def test_an_envelope_does_not_print_its_content():
    assert "dear diary" not in repr(Envelope(sender="", recipients=("a@x",), content=b"dear diary"))
