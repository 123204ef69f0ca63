"""An attribute that is computed when it is first read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class once(Generic[T]):  # noqa: N801 - a decorator
    """Make a method without arguments an attribute, and keep its value.

    Unlike `functools.cached_property` up to Python 3.11, this takes no lock: one that another thread holds during a
    fork is never released in the child. Two threads may compute the value at once; both get the same.
    """

    def __init__(self, function: Callable[[Any], T]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    def __get__(self, instance: Any, _owner: type) -> T:
        value = instance.__dict__[self._function.__name__] = self._function(instance)
        return value
