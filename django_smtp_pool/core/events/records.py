"""Log records that cannot start a circle: a handler may send mail, and sending mail may log.

Django's AdminEmailHandler sends a mail for each record. Where it is given ours, and its mail fails too, that
would cause the next record, and so on. So nothing here is above WARNING; while one of our records is being
handled, nothing is logged, and the backend sends nothing (`are_being_handled`); and what a handler raises is
not the business of the message that was being sent.
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
    """Something that a frame has under way; an interrupt that ends the frame anywhere ends this with it."""

    def __init__(self, what: object = None) -> None:
        self.what = what


_handling: ContextVar[weakref.ref[UnderWay] | None] = ContextVar("django_smtp_pool_handling", default=None)


def are_being_handled() -> bool:
    """Tell whether this code runs on behalf of a handler that has been given one of our records."""
    handling = _handling.get()
    return handling is not None and handling() is not None


# What each record of ours carries as `extra`, so that a format may name it; None where it does not apply.
FIELDS = {"server": None, "outcome": None, "attempts": None, "queue_id": None}


def write(
    logger: logging.Logger,
    level: int,
    text: str,
    *args: object,
    exc_info: bool = False,
    extra: Mapping[str, object] | None = None,
) -> None:
    """Log a record; raises nothing but an interrupt, and does nothing where one of our records is being handled.

    Arguments:
        extra: what is known of `FIELDS`.
    """
    if are_being_handled() or not logger.isEnabledFor(level):
        return
    if level >= logging.WARNING and _is_sent_by_a_handler():
        level = logging.DEBUG
    handling = UnderWay()
    token = _handling.set(weakref.ref(handling))
    try:
        logger.log(level, text, *args, exc_info=exc_info, stacklevel=2, extra={**FIELDS, **(extra or {})})
    except Exception as error:  # a handler that fails has nowhere left to say so
        if from_signal_handler(error):
            raise
    finally:
        _handling.reset(token)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 recipient" or "2 recipients"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _is_sent_by_a_handler() -> bool:
    """Tell whether a handler of our records is further up: a queue may have brought it one in another thread."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        record = frame.f_locals.get("record")
        if isinstance(record, logging.LogRecord) and record.name.startswith(PACKAGE):
            return True
        frame = frame.f_back
    return False
