"""Header fields that are written directly: the same octets as by Python's email package and our corrections."""

import django
import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_smtp_pool.message import fields

pytestmark = pytest.mark.skipif(django.VERSION < (6, 0), reason="Django 5.2 folds in another way")

SCRIPTS = ["abc", "ABC 9", "äöü", "é", "日本語", "Ж", "🎉", "ß1", "x.y", "(a)", ",;:", '"q"', "-_/", "[<@>]\\"]
LETTERS = st.sampled_from(SCRIPTS)
WORDS = st.tuples(LETTERS, st.sampled_from([1, 2, 3, 5, 8, 20, 40, 75, 76, 77, 78, 79])).map(
    lambda how: "".join(how[0][number % len(how[0])] for number in range(how[1])).strip() or "x"
)
VALUES = st.lists(WORDS, min_size=1, max_size=20).map(" ".join)
NAMES = st.lists(st.text(st.sampled_from("abXY19äößé日"), min_size=1, max_size=9), min_size=1, max_size=4).map(" ".join)


def by_python(name, value):
    """Return the field as it was written before: by Python, and corrected where Python is wrong."""
    written = fields._by_django(name, value, "utf-8")
    return written if fields._means(name, written, value) else fields._ours(name, value)


def test_this_python_writes_the_samples_in_the_same_way():
    assert fields._python_agrees()


@given(
    st.sampled_from(["Subject", "Comments", "List-Unsubscribe", "X", "References", "X-Long-Name-Of-A-Header"]), VALUES
)
def test_any_words(name, value):
    assert fields.header_field(name, value, "utf-8") == by_python(name, value)


@pytest.mark.parametrize("size", range(60, 80))
@pytest.mark.parametrize("name", ["Subject", "List-Unsubscribe"])
def test_a_value_that_nearly_fits(name, size):
    for value in ("x" * size, "x" * (size - 4) + " yyy", "x" * (size - 30) + " ä" + "y" * 10):
        assert fields.header_field(name, value, "utf-8") == by_python(name, value)


@given(st.sampled_from(["From", "To", "Cc", "Reply-To", "Sender", "Resent-To"]), NAMES)
def test_any_name_of_letters(name, person):
    value = f"{person} <first.last@mail.example.com>"
    assert fields.header_field(name, value, "utf-8") == by_python(name, value)


def test_a_python_that_writes_something_else_is_asked(monkeypatch):
    monkeypatch.setattr(fields, "_python_agrees", lambda: False)
    monkeypatch.setattr(fields, "_written", None)
    assert fields._made("Subject", "word " * 30 + "end", "utf-8") == by_python("Subject", "word " * 30 + "end")
