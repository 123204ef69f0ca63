"""Log records that cannot cause an endless loop, although a handler may send mail, and sending mail may log.

Django's AdminEmailHandler sends a message for each record. If it handles a record of this package, and its message
fails too, that would cause the next record, and so on. Therefore records are at most WARNING. While one is being
handled, nothing is logged, and the backend sends nothing (`are_being_handled`). What a handler raises does not affect
the message that was being sent.
"""

from __future__ import annotations

import logging
import sys
import weakref
from collections.abc import Mapping
from contextvars import ContextVar
from types import FrameType

from ..interrupts import from_signal_handler

PACKAGE = "django_smtp_pool"


class UnderWay:
    """Exists as long as a frame does: if an interrupt ends the frame at any line, the reference to this is gone too."""

    def __init__(self, what: object = None) -> None:
        self.what = what


_handling: ContextVar[weakref.ref[UnderWay] | None] = ContextVar("django_smtp_pool_handling", default=None)


def are_being_handled() -> bool:
    """Return whether this code was called by a handler of a record of this package."""
    handling = _handling.get()
    return handling is not None and handling() is not None


# The `extra` of each record of this package, so that a format may name these; None if one does not apply.
FIELDS = {"server": None, "outcome": None, "attempts": None, "queue_id": None}


def write(
    logger: logging.Logger,
    level: int,
    text: str,
    *args: object,
    exc_info: bool = False,
    extra: Mapping[str, object] | None = None,
) -> None:
    """Log a record; do nothing while a record of this package is being handled. Raises only interrupts.

    Exceptions among the arguments are logged as text: a handler may keep the record, and an exception would keep the
    frames that it came through, with their messages and sockets.

    Arguments:
        extra: values for some of `FIELDS`.
    """
    if are_being_handled() or not logger.isEnabledFor(level):
        return
    if level >= logging.WARNING and _is_sent_by_a_handler():
        level = logging.DEBUG
    handling = UnderWay()
    token = _handling.set(weakref.ref(handling))
    try:
        values = [str(value) if isinstance(value, BaseException) else value for value in args]
        logger.log(level, text, *values, exc_info=exc_info, stacklevel=2, extra={**FIELDS, **(extra or {})})
    except Exception as error:  # the error of a handler cannot be logged, since it may fail again
        if from_signal_handler(error):
            raise
    finally:
        _handling.reset(token)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 recipient" or "2 recipients"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _is_sent_by_a_handler() -> bool:
    """Return whether a handler of one of these records is up the stack; a queue may have moved it to another thread."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        record = frame.f_locals.get("record")
        if isinstance(record, logging.LogRecord) and record.name.startswith(PACKAGE):
            return True
        frame = frame.f_back
    return False
