"""Whose exception is it: the network's, foreign code's, or an interrupt (DESIGN, promise 3)."""

import errno
import functools
import signal
import socket
import ssl

import pytest

from django_smtp_pool.core.errors import ConnectionLost, is_failure, without_frames
from django_smtp_pool.core.interrupts import as_failure, foreign, from_signal_handler
from django_smtp_pool.core.net.trouble import Trouble, attempt, would_block
from django_smtp_pool.core.smtp import scram
from tests.handlers import handling, ring


class Limits:
    """Handlers of every shape."""

    def __init__(self, error):
        self.error = error

    def method(self, number, frame):
        raise self.error

    def with_more(self, text, number, frame):
        self.method(number, frame)

    def __call__(self, number, frame):
        self.method(number, frame)


def handlers(error):
    limits = Limits(error)

    def function(*_):
        raise error

    return [function, limits.method, functools.partial(limits.with_more, "text"), limits]


def caught(call, *args):
    """Return what a call raises, as those see it who call."""
    try:
        call(*args)
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize("shape", range(4))
@pytest.mark.parametrize("kind", [Exception, TimeoutError, KeyboardInterrupt])
def test_a_handler_of_any_shape_is_known(shape, kind):
    with handling(handlers(kind("mine"))[shape]):
        assert from_signal_handler(caught(ring))


def test_what_no_handler_raised_is_no_interrupt_however_deep_it_comes_from():
    def deep(levels):
        if levels:
            deep(levels - 1)
        raise TimeoutError(errno.ETIMEDOUT, "of the network")

    with handling(handlers(Exception())[0]):
        assert not from_signal_handler(caught(deep, 3))
        assert not from_signal_handler(caught(socket.getaddrinfo, "-", None, 0, 0, 0, socket.AI_NUMERICHOST))


def test_mail_sent_by_a_handler_is_not_interrupted_by_it():
    found = []

    def handler(*_):
        found.append(from_signal_handler(caught(ring_nothing)))

    def ring_nothing():
        raise ConnectionResetError(errno.ECONNRESET, "of the network")

    with handling(handler):
        ring()
    assert found == [False]


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(errno.ECONNRESET, "reset"),
        TimeoutError(errno.ETIMEDOUT, "late"),
        ssl.SSLError("bad record"),
        socket.gaierror(socket.EAI_AGAIN, "later"),
    ],
)
def test_the_networks_errors_are_trouble_unless_a_handler_raised_them(error):
    def fails():
        raise error

    raised = caught(attempt, fails)
    assert isinstance(raised, Trouble)
    assert raised.error is error
    assert not isinstance(raised, OSError)
    with handling(handlers(error.with_traceback(None))[0]):
        assert caught(attempt, ring) is error


@pytest.mark.parametrize(
    "error", [TimeoutError("my own"), OSError(), ConnectionResetError("x"), ValueError(), Exception()]
)
def test_what_carries_no_number_is_nobodys_trouble(error):
    def fails():
        raise error

    assert caught(attempt, fails) is error


@pytest.mark.parametrize("kind", [BlockingIOError, InterruptedError])
def test_what_would_block_is_left_for_later_unless_a_handler_says_so(kind):
    error = kind(errno.EAGAIN, "later")

    def receive(call):
        try:
            call()
        except OSError as caught_error:
            would_block(caught_error)
            return "later"

    def blocked():
        raise error

    assert receive(blocked) == "later"
    with handling(handlers(error.with_traceback(None))[0]):
        assert caught(receive, ring) is error
    own = kind("my own")
    assert caught(receive, functools.partial(attempt, functools.partial(handlers(own)[0]))) is own


def test_foreign_code_answers_for_itself_and_not_for_a_handler():
    def fails():
        raise LookupError("its own")

    assert is_failure(caught(foreign, fails))
    assert not is_failure(caught(functools.partial(foreign, kinds=ValueError), fails))
    limit = Exception("a time limit")
    with handling(handlers(limit)[0]):
        assert caught(foreign, ring) is limit
    assert not is_failure(limit)


def test_only_ours_and_what_was_marked_is_judged():
    assert is_failure(ConnectionLost("gone"))
    assert is_failure(as_failure(OSError(errno.ECONNREFUSED, "no")))
    assert not is_failure(OSError(errno.ECONNREFUSED, "no"))
    assert not is_failure(KeyboardInterrupt())


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_handlers_of_the_system_have_no_code(handler):
    def deep():
        raise ConnectionResetError(errno.ECONNRESET, "of the network")

    with handling(handler):
        assert not from_signal_handler(caught(functools.partial(attempt, deep)))


def strike(number, frame):
    raise TimeLimit


class TimeLimit(Exception):
    """What a signal handler raises."""


class Striking(Exception):
    """An interrupt comes while this is copied."""

    def __reduce_ex__(self, protocol):
        ring()


@pytest.mark.parametrize(
    "call",
    [
        lambda: without_frames(Striking()),
        lambda: scram._tried(ring),
    ],
    ids=["a copy of an error", "the library for SCRAM"],
)
def test_an_interrupt_in_code_whose_errors_end_there_reaches_the_caller(call):
    with handling(strike), pytest.raises(TimeLimit):
        call()
