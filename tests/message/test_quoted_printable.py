"""Texts with long lines: encoding and octets are those that Python's email package chooses."""

from email import policy
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_smtp_pool.message.transfer import encoded_text


def by_python(text):
    """Return the encoding and the octets, with CRLF line ends."""
    made = EmailMessage(policy=policy.SMTP)
    made.set_content(text)
    lines = made.get_payload().replace("\r\n", "\n").replace("\r", "\n")
    return made["Content-Transfer-Encoding"], lines.replace("\n", "\r\n").encode("ascii")


LETTERS = st.sampled_from(["a", "=", " ", "ab= \t", "abc<> ", "äöü a", "日本", "\0\x0b\x0c\x1c\x7f\x85\u2028", "."])
SIZES = st.sampled_from([0, 1, 60, *range(74, 82), 90, *range(150, 160), 230, 500])


@st.composite
def lines(draw):
    letters = draw(LETTERS)
    line = "".join(letters[number % len(letters)] for number in range(draw(SIZES)))
    return line + draw(st.sampled_from(["", "", " ", "\t", "=", " \t"]))


@given(st.lists(lines(), max_size=14), lines(), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
def test_any_text_with_a_long_line(before, last, end, ends):
    text = end.join([*before, "x" * 79, last]) + (end if ends else "")
    assert encoded_text(text.encode()) == by_python(text)


@pytest.mark.parametrize("size", [77, 78, 79, 154, 155, 156, 157])
@pytest.mark.parametrize("blank", [" ", "\t"])
def test_a_blank_at_the_end_of_a_full_line(size, blank):
    text = f"{'y' * 100}\n{'x' * (size - 1)}{blank}\n"
    assert encoded_text(text.encode()) == by_python(text)


@pytest.mark.parametrize("count", [9, 10, 11, 12])
@pytest.mark.parametrize("word", ["word ", "日本"])
def test_the_first_ten_lines_decide(count, word):
    text = f"{word * 20}\n" * count + "日本" * 40
    assert encoded_text(text.encode()) == by_python(text)
