"""Headers that are parsed once: the octets are those of Python's own policies, and nobody sees another's headers."""

import copy
import pickle
from email import policy
from email.message import EmailMessage as Message

import pytest
from django.utils.safestring import SafeString
from hypothesis import given
from hypothesis import strategies as st

from django_smtp_pool.message import fields

NAMES = ["Subject", "From", "To", "X-Anything", "Content-Type", "Message-ID", "Date", "MIME-Version"]
PAIRS = [(fields.SMTP, policy.SMTP), (fields.SMTPUTF8, policy.SMTPUTF8)]
VALUES = [
    "Hello",
    "Ann <ann@example.com>",
    "Zoë <zoe@example.com>",
    "text/plain; charset=utf-8",
    "<1@example.com>",
    "é" * 90,
]


def written(rules, name, value):
    """Return a field as it goes on the wire, or the type of what making it raises."""
    try:
        stored = rules.header_store_parse(name, value)
        return stored[0], str(stored[1]), rules.fold_binary(*stored)
    except Exception as error:
        return type(error)


@pytest.mark.parametrize(("ours", "pythons"), PAIRS, ids=["SMTP", "SMTPUTF8"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", VALUES)
def test_the_same_octets_the_first_time_and_the_second(ours, pythons, name, value):
    expected = written(pythons, name, value)
    assert written(ours, name, value) == expected
    assert written(ours, name, value) == expected
    assert written(ours, name.upper(), value) == written(pythons, name.upper(), value)


@given(st.sampled_from(NAMES), st.text(max_size=300))
def test_the_same_octets_whatever_the_value(name, value):
    for ours, pythons in PAIRS:
        expected = written(pythons, name, value)
        assert [written(ours, name, value), written(ours, name, value)] == [expected, expected]


def test_equal_fields_are_one_and_what_is_no_plain_text_is_made_anew():
    make = fields.RememberingRegistry()
    assert make("From", "ann@example.com") is make("From", "ann@example.com")
    assert make("from", "ann@example.com") is not make("From", "ann@example.com")
    for value in (SafeString("Hello"), "x" * (fields.LONGEST_PARSED + 1)):
        first, second = make("Subject", value), make("Subject", value)
        assert first == second
        assert first is not second


@pytest.mark.parametrize("again", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_a_message_rendered_with_it_is_pickled_and_copied(again):
    made = Message(policy=fields.SMTP)
    made["Subject"], made["To"] = "Grüße", "Zoë <zoe@example.com>"
    made.set_content("Hello\n")
    assert again(made).as_bytes() == made.as_bytes()


def test_what_is_remembered_is_bounded():
    make = fields.RememberingRegistry()
    first = make("Subject", "Message 0")
    for number in range(1, fields.MANY_PARSED + 1):
        make("Subject", f"Message {number}")
    assert make("Subject", "Message 0") is not first
