"""The one place where these tests wait for another process to have done something."""

import time
from collections.abc import Callable
from typing import TypeVar

_Found = TypeVar("_Found")
_PAUSE = 0.02


def eventually(look: Callable[[], _Found], *, otherwise: Callable[[], str], within: float = 20) -> _Found:
    """Return what `look` sees as soon as it is true; fail with `otherwise()` after `within` seconds."""
    deadline = time.monotonic() + within
    while not (found := look()):
        # Another process owes us no event to wait on, so this polls: here and nowhere else.
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {otherwise()}")
        time.sleep(_PAUSE)
    return found
