"""Kinds of option values: what each takes, in which form it keeps it, and how it says no."""

import copy
import math
import pickle
from pathlib import Path

import pytest

from django_smtp_pool.core.options import fields as kinds
from django_smtp_pool.core.options.fields import Secret

TAKEN = [
    (kinds.text, "x", "x"),
    (kinds.text, "", ""),
    (kinds.text, "Grüße", "Grüße"),
    (kinds.nonempty_text, "x", "x"),
    (kinds.path, "a/b.pem", "a/b.pem"),
    (kinds.path, Path("a/b.pem"), str(Path("a/b.pem"))),
    (kinds.flag, True, True),
    (kinds.flag, False, False),
    (kinds.flag, 1, True),
    (kinds.flag, 0, False),
    (kinds.whole(), 0, 0),
    (kinds.whole(), "587", 587),
    (kinds.whole(), " 587 ", 587),
    (kinds.whole(minimum=1, maximum=65535), 65535, 65535),
    (kinds.seconds(), 5, 5.0),
    (kinds.seconds(), 0.5, 0.5),
    (kinds.seconds(), "30", 30.0),
    (kinds.seconds(zero="never"), 0, 0.0),
    (kinds.choice("a", "b"), "a", "a"),
    (kinds.choice("PLAIN", upper=True), "plain", "PLAIN"),
    (kinds.source_address, "127.0.0.1", ("127.0.0.1", 0)),
    (kinds.source_address, ("127.0.0.1", 2525), ("127.0.0.1", 2525)),
    (kinds.source_address, ["::1", "2525"], ("::1", 2525)),
]

REFUSED = [
    *((kinds.text, value) for value in (None, 1, b"x", "a\nb", "a\rb", "a\0b", "a\x7fb", "a\tb", "\udce9")),
    *((kinds.nonempty_text, value) for value in ("", None, "\n")),
    *((kinds.path, value) for value in ("", None, 1, "a\nb", Path("a\nb"))),
    *((kinds.secret, value) for value in (None, 1, b"x", "a\0b", "\udce9")),
    *((kinds.flag, value) for value in (None, "", "False", "true", 2, -1, [], {})),
    *(
        (kinds.whole(minimum=1, maximum=10), value)
        for value in (0, 11, -1, True, 5.0, "5.0", "", "x", "-5", "\uff15", "²")
    ),
    *((kinds.whole(), value) for value in (None, [], "9" * 5000, b"5")),
    *((kinds.seconds(), value) for value in (0, -1, True, None, "x", "", [], b"5", 10**400)),
    *((kinds.seconds(zero="never"), value) for value in (math.nan, math.inf, -math.inf, -0.1, "nan", "inf", "1e999")),
    *((kinds.choice("a", "b"), value) for value in ("", "c", "A", None, 1, ["a"], {})),
    *((kinds.source_address, value) for value in ("", None, 1, (), ("::1",), ("::1", 65536), ("::1", 1, 2), (1, 1))),
]


@pytest.mark.parametrize(("kind", "value", "canonical"), TAKEN)
def test_a_good_value_becomes_canonical(kind, value, canonical):
    taken = kind(value)
    assert taken == canonical
    assert type(taken) is type(canonical)


@pytest.mark.parametrize(("kind", "value"), REFUSED)
def test_a_bad_value_is_a_value_error(kind, value):
    with pytest.raises(ValueError, match=r"must"):
        kind(value)


def test_a_complaint_says_the_range_and_the_value():
    with pytest.raises(ValueError, match=r"from 1 to 65535, not 70000"):
        kinds.whole(minimum=1, maximum=65535)(70000)
    with pytest.raises(ValueError, match=r"above 0, or 0 for never, not -1"):
        kinds.seconds(zero="never")(-1)
    with pytest.raises(ValueError, match=r"one of 'a', 'b', not 'c'"):
        kinds.choice("a", "b")("c")


# Secrets


def test_a_secret_shows_itself_only_to_who_asks_by_name():
    secret = kinds.secret("hunter2")
    assert secret.reveal() == "hunter2"
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret!r:>20}", repr([secret]), "%s" % secret):  # noqa: UP031
        assert "hunter2" not in shown


def test_a_secret_has_no_dict_to_print():
    assert not hasattr(kinds.secret("hunter2"), "__dict__")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_is_not_pickled(protocol):
    with pytest.raises(TypeError, match=r"cannot be pickled") as caught:
        pickle.dumps(kinds.secret("hunter2"), protocol)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_secret_is_not_copied_by_the_pickle_protocol(duplicate):
    with pytest.raises(TypeError):
        duplicate(kinds.secret("hunter2"))


def test_secrets_compare_by_value_and_with_nothing_else():
    assert Secret("a") == Secret("a")
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert hash(Secret("a")) != hash("a")
    assert Secret("é") == Secret("é")


def test_an_empty_secret_is_none_at_all():
    assert not Secret("")
    assert Secret("x")


def test_a_secret_may_hold_any_text_but_a_nul():
    assert kinds.secret("a\r\n\t é").reveal() == "a\r\n\t é"


@pytest.mark.parametrize("bad", [b"hunter2", "hunter2\0", "hunter2\udce9", ["hunter2"]])
def test_a_bad_secret_is_not_shown(bad):
    with pytest.raises(ValueError, match=r"must") as caught:
        kinds.secret(bad)
    assert "hunter2" not in repr(caught.value)
    assert caught.value.__cause__ is None
