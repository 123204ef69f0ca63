"""Decorators for what the pool does after a message has its outcome: nothing here may make that message fail."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from ..events import records
from ..interrupts import is_defect
from .slots import Slot

if TYPE_CHECKING:
    from .shared_state import SharedState

logger = logging.getLogger("django_smtp_pool.pool")

MethodT = TypeVar("MethodT", bound=Callable[..., Any])


def harmless(method: MethodT) -> MethodT:
    """Log defects in a method instead of raising them, so they cannot make a message fail; interrupts are raised.

    The method then returns None.
    """

    @wraps(method)
    def shielded(*arguments: Any, **keywords: Any) -> Any:
        try:
            return method(*arguments, **keywords)
        except Exception as error:
            if not is_defect(error):
                raise
            report(method.__name__)
            return None

    return shielded  # type: ignore[return-value]


def surely(method: MethodT) -> MethodT:
    """Do what `harmless` does, and call the method again after an exception; it must be idempotent."""

    @wraps(method)
    def shielded(*arguments: Any, **keywords: Any) -> None:
        try:
            method(*arguments, **keywords)
        except BaseException as error:
            harmless(method)(*arguments, **keywords)
            if not is_defect(error):
                raise
            report(method.__name__)

    return shielded  # type: ignore[return-value]


def ends_lease(method: MethodT) -> MethodT:
    """Do what `harmless` does, and give up the slot after an exception, so its borrower does not keep it."""

    @wraps(method)
    def shielded(self: SharedState, slot: Slot, *arguments: Any, **keywords: Any) -> None:
        lent = slot.borrower
        try:
            method(self, slot, *arguments, **keywords)
        except BaseException as error:
            self.give_up(slot, lent)
            if not is_defect(error):
                raise
            report(method.__name__)

    return shielded  # type: ignore[return-value]


def report(what: str) -> None:
    """Log an exception that is not raised."""
    records.write(logger, logging.WARNING, "A defect in the pool: %s failed", what, exc_info=True)
