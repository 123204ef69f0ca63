"""Whose exception is it? What neither the network nor our own code raised is an interrupt: it reaches its caller.

Ctrl-C, a task queue's time limit, a `TimeoutError` out of somebody's SIGALRM handler: each may strike between any two
instructions, be of any type, and must end the call at once. So we never ask what an exception looks like, but where
it comes from.

* The network's: an OSError that left one non-blocking call (`net.trouble`).
* A failure: an error of `core.errors`, or another one that was marked where it arose (`as_failure`): an error of
  dialling, a certificate file that cannot be read, a message that cannot be rendered. Only failures are judged.
* Foreign code's: what a receiver, a log handler or a token generator raises is its own affair, unless a signal handler
  struck there (`from_signal_handler`).
* The pool's own work must not fail a message: there, what looks like a defect is logged (`is_defect`).
* Everything else is an interrupt.
"""

from __future__ import annotations

import errno
import functools
import signal
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any, TypeVar

_OF_OURS = (
    LookupError, AttributeError, TypeError, ValueError, ArithmeticError, RuntimeError, AssertionError, MemoryError,
    BlockingIOError,
)  # fmt: skip
_USED_UP = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOBUFS})

ErrorT = TypeVar("ErrorT", bound=BaseException)
T = TypeVar("T")


def from_signal_handler(error: BaseException) -> bool:
    """Tell whether a frame of the traceback runs the code of a registered signal handler.

    The frames are those below the one that asks: mail that is sent by a signal handler is no interrupt of itself.
    """
    if getattr(error, "is_interrupt", False) is True:
        return True
    trace = error.__traceback__
    trace = trace.tb_next if trace is not None else None
    if trace is None:  # a function written in C raised it: this is what a socket that would block does all day
        return False
    handlers = set(_handlers())
    while trace is not None:
        if trace.tb_frame.f_code in handlers:
            return True
        trace = trace.tb_next
    return False


def _handlers() -> Iterator[CodeType]:
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        while isinstance(handler, functools.partial):
            handler = handler.func
        if not callable(handler):  # SIG_DFL, SIG_IGN, or not installed from Python
            continue
        code = getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)
        if code is not None:
            yield code


def is_defect(error: BaseException) -> bool:
    """Tell whether an exception out of code that is all ours may be a mistake of that code, or a resource used up.

    Nothing else can arise there by itself: a TimeoutError, a plain Exception or another library's type is an
    interrupt, even where no signal handler can be seen.
    """
    may_be = isinstance(error, _OF_OURS) or (isinstance(error, OSError) and error.errno in _USED_UP)
    return may_be and not from_signal_handler(error)


def as_failure(error: ErrorT) -> ErrorT:
    """Mark an error that is not of a type of ours as a failure to be judged, and return it."""
    error.is_failure = True  # type: ignore[attr-defined]
    return error


def keep_origin(error: BaseException) -> None:
    """Mark an error that is about to lose its frames, if a signal handler raised it."""
    if from_signal_handler(error):
        error.is_interrupt = True  # type: ignore[attr-defined]


def is_marked(error: BaseException) -> bool:
    """Tell whether an error was marked as a failure."""
    return getattr(error, "is_failure", False) is True


def foreign(call: Callable[..., T], *args: Any, kinds: type[Exception] = Exception) -> T:
    """Call code that is not ours and return its answer; an Exception of its own, of these kinds, is a failure."""
    try:
        return call(*args)
    except kinds as error:
        if not from_signal_handler(error):
            as_failure(error)
        raise
