"""Envelopes: addresses that stay in their command."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_smtp_pool.core.smtp.content import Content
from django_smtp_pool.core.smtp.envelope import Envelope, check_address


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
        Envelope(sender="a@x", recipients=recipients, content=Content.of(b""))


def test_an_envelope_checks_its_sender_which_may_be_empty():
    Envelope(sender="", recipients=("a@x",), content=Content.of(b""))
    with pytest.raises(ValueError, match=r"address"):
        Envelope(sender="a@x>", recipients=("a@x",), content=Content.of(b""))


def test_an_envelope_does_not_print_its_content():
    assert "dear diary" not in repr(Envelope(sender="", recipients=("a@x",), content=Content.of(b"dear diary")))
