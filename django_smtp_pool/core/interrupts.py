"""Classify exceptions: one that neither the network nor our own code raised is an interrupt, and reaches the caller.

Ctrl-C, the time limit of a task queue, or a `TimeoutError` from a SIGALRM handler can occur between any two
instructions and have any type, and must end the call at once. So the type of an exception does not matter here, only
its origin.

* The network: an OSError from a single non-blocking call (`net.trouble`).
* A failure: an error of `core.errors`, or another error that was marked where it occurred (`as_failure`), such as a
  failed connection, an unreadable certificate file, or a message that cannot be rendered. Only failures may be
  retried.
* Foreign code: an exception of a receiver, a log handler or a token generator belongs to that code, unless it came from
  a signal handler (`from_signal_handler`).
* The pool's own work after a message must not make it fail: a defect there is logged (`is_defect`).
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

_SIGNALS = tuple(map(int, signal.valid_signals()))

ErrorT = TypeVar("ErrorT", bound=BaseException)
T = TypeVar("T")


def from_signal_handler(error: BaseException) -> bool:
    """Return whether a frame of the traceback runs the code of a registered signal handler.

    Only frames below the calling one count: mail that a signal handler sends does not interrupt itself.
    """
    if getattr(error, "is_interrupt", False) is True:
        return True
    trace = error.__traceback__
    trace = trace.tb_next if trace is not None else None
    if trace is None:  # raised by a C function, as by a socket that would block, all the time
        return False
    handlers = set(_handlers())
    while trace is not None:
        if trace.tb_frame.f_code in handlers:
            return True
        trace = trace.tb_next
    return False


def _handlers() -> Iterator[CodeType]:
    for number in _SIGNALS:
        handler: Any = signal.getsignal(number)
        while isinstance(handler, functools.partial):
            handler = handler.func
        if not callable(handler):  # SIG_DFL, SIG_IGN, or not installed from Python
            continue
        code = getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)
        if code is not None:
            yield code


class ignoring:  # noqa: N801 - a context manager, like `contextlib.suppress`
    """Suppress exceptions of these kinds, but not one that a signal handler has raised."""

    def __init__(self, *kinds: type[Exception]) -> None:
        self._kinds = kinds

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, traceback: object) -> bool:
        return isinstance(error, self._kinds) and not from_signal_handler(error)


def is_defect(error: BaseException) -> bool:
    """Return whether an exception from code that is only ours may be a bug in it, or an exhausted resource.

    No other exception can occur there by itself: a TimeoutError, a plain Exception or an exception of another library
    is an interrupt, even if no signal handler can be found.
    """
    may_be = isinstance(error, _OF_OURS) or (isinstance(error, OSError) and error.errno in _USED_UP)
    return may_be and not from_signal_handler(error)


def as_failure(error: ErrorT) -> ErrorT:
    """Mark an error of a foreign type as a failure that may be retried, and return it."""
    error.is_failure = True  # type: ignore[attr-defined]
    return error


def keep_origin(error: BaseException) -> None:
    """Mark an error that is about to lose its frames, if a signal handler raised it."""
    if from_signal_handler(error):
        error.is_interrupt = True  # type: ignore[attr-defined]


def is_marked(error: BaseException) -> bool:
    """Return whether an error was marked as a failure."""
    return getattr(error, "is_failure", False) is True


def foreign(call: Callable[..., T], *args: Any, kinds: type[Exception] = Exception) -> T:
    """Call foreign code and return its result; mark an Exception of these kinds as a failure, if it is its own."""
    try:
        return call(*args)
    except kinds as error:
        if not from_signal_handler(error):
            as_failure(error)
        raise
