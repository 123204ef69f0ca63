"""Which exceptions are interrupts: those that somebody's signal handler raised into whatever was running."""

from __future__ import annotations

import functools
import signal
from types import CodeType


def is_interrupt(error: BaseException) -> bool:
    """Tell whether an exception has to reach the caller, wherever it struck.

    Every BaseException that is no Exception, and what a registered signal handler raised: a task queue's time limit,
    or the TimeoutError of an alarm. Its traceback leads through the handler.
    """
    if not isinstance(error, Exception):
        return True
    handlers = _handlers()
    trace = error.__traceback__
    while trace is not None and handlers:
        if trace.tb_frame.f_code in handlers:
            return True
        trace = trace.tb_next
    return False


def _handlers() -> set[CodeType]:
    found = set()
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        if callable(handler) and handler is not signal.default_int_handler and (code := _code_of(handler)) is not None:
            found.add(code)
    return found


def _code_of(handler: object) -> CodeType | None:
    while isinstance(handler, functools.partial):
        handler = handler.func
    function = getattr(handler, "__func__", handler)
    if not hasattr(function, "__code__"):
        function = getattr(type(handler).__call__, "__func__", type(handler).__call__)
    code = getattr(function, "__code__", None)
    return code if isinstance(code, CodeType) else None
