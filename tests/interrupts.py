"""Interrupts at chosen lines of the package: what Ctrl-C, a time limit or a killed thread does, and always alike.

A real one comes between two steps of the interpreter; here it comes where a function or a line begins. Not where a
`with` ends: there the interpreter itself lets no interrupt in between.
"""

import errno
import inspect
import linecache
import signal
import sys
from pathlib import Path

import django_smtp_pool
from tests.handlers import SIGNAL, ring

# Before Python 3.12, what a tracer raises where a generator is resumed passes by the generator's own handlers.
RESUMES_OUTSIDE = sys.version_info < (3, 12)
PACKAGE = str(Path(django_smtp_pool.__file__).parent)

# What Python calls when an object is no more: no exception comes out of it, an interrupt neither.
FINALISERS = {"__del__", "no_more"}


def is_in_finaliser(frame):
    """Tell whether a frame runs on behalf of a finaliser."""
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        if frame.f_code.co_name in FINALISERS:
            return True
        frame = frame.f_back
    return False


class Limit(Exception):
    """A task queue's time limit."""


# An error with a number looks like the network's: only where it comes from tells.
KINDS = {
    "interrupt": KeyboardInterrupt,
    "time-limit": Limit,
    "timeout": lambda: TimeoutError("my own time limit"),
    "numbered-timeout": lambda: TimeoutError(errno.ETIMEDOUT, "my own time limit"),
    "os-error": lambda: OSError(errno.EIO, "mine"),
    "reset": lambda: ConnectionResetError(errno.ECONNRESET, "mine"),
    "would-block": lambda: BlockingIOError(errno.EAGAIN, "mine"),
}


def by_handler(error):
    """Return what raises an error out of a registered signal handler: only so can it look like the network's."""

    def handler(number, frame):
        raise error

    def strike():
        signal.signal(SIGNAL, handler)  # and it stays so: whoever catches the error asks who is registered
        ring()

    return strike


class Tracer:
    """Looks at every line of the package that one call runs in its thread."""

    def run(self, function, *arguments):
        """Call a function, and return what it returns.

        It runs in a generator, which has an exception state of its own. Python leaves the exception that is being
        handled behind if a tracer raises on the very step that ends an `except` block. No later test shall see it.
        """

        def calling():
            before = sys.gettrace()  # what measures coverage traces too
            sys.settrace(self._enter)
            try:
                result = function(*arguments)
            finally:
                sys.settrace(before)
            yield result

        return next(calling())

    def _enter(self, frame, event, argument):
        if not frame.f_code.co_filename.startswith(PACKAGE) or is_in_finaliser(frame):
            return None
        if not (RESUMES_OUTSIDE and frame.f_code.co_flags & inspect.CO_GENERATOR):
            self.look(frame, event)
        return self._inside

    def _inside(self, frame, event, argument):
        if event == "line" and not linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith(
            "with "
        ):
            self.look(frame, event)
        return self._inside


class Route(Tracer):
    """Notes the way through the package: for each line, at which step it was come to first."""

    def __init__(self):
        self._steps = 0
        self.first = {}

    def look(self, frame, event):
        """Note a line."""
        self.first.setdefault((frame.f_code.co_filename, frame.f_lineno, event), self._steps)
        self._steps += 1


class Interrupting(Tracer):
    """Raises at one step: `strike` is an exception, or a function that raises one."""

    def __init__(self, step, strike):
        self._left = step
        self._strike = strike
        self.where = None

    def look(self, frame, event):
        """Count, and raise when it is time."""
        self._left -= 1
        if self._left < 0:
            sys.settrace(None)
            self.where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} ({event})"
            if isinstance(self._strike, BaseException):
                raise self._strike
            self._strike()
