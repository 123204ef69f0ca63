"""Call a function in the parent as soon as `os.fork()` has returned, and not before.

From Python 3.12 on, `os.fork()` counts the threads of the process after it has run the hooks, and warns if there are
more than one. So a hook must not restart a thread that was stopped for the fork. The interpreter has a queue for this:
"pending calls" run before the next step of Python code in the main thread. The hook that fills the queue must not be
Python code, since its own next step would run the call; and it must be the last hook.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Any


class AfterFork:
    """Calls functions in the parent after each fork.

    Arguments:
        allow: called by a hook, in the thread that forks. It must not be Python code: hooks swallow interrupts. The
            main thread may wait for a lock for a long time, so the other threads depend on it.
        call: called by the main thread.
    """

    def __init__(self, allow: Callable[[], object], call: Callable[[], None]) -> None:
        self._allow = allow
        self._call = call
        self._hook: Any = None

    def prepare(self) -> None:
        """Register the hook, so that the call follows the fork that is about to happen; called by a hook before it."""
        if self._hook is not None:
            return
        os.register_at_fork(after_in_parent=self._allow)
        try:
            import ctypes

            # Not a ctypes callback: that swallows an exception, and then returns an undefined value.
            add, call = ctypes.pythonapi.Py_AddPendingCall, ctypes.pythonapi.PyObject_IsTrue
        except (ImportError, AttributeError):  # another interpreter: the call waits for the next use
            self._hook = False
        else:
            self._hook = _Pending(self._call)
            os.register_at_fork(after_in_parent=partial(add, call, ctypes.py_object(self._hook)))


class _Pending:
    """Makes a call when the interpreter tests its truth, and raises what the call raises, such as an alarm."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call

    def __bool__(self) -> bool:
        self._call()
        return False  # anything else is an error to the interpreter


class NewWorld:
    """Lets one thread start over in a child whose fork ran no hooks, while the others wait for it."""

    def __init__(self) -> None:
        self._locks: dict[tuple[int, type], Any] = {}  # a lock of the parent's may be held by a thread that is no more

    def start_over(self, is_foreign: Callable[[], bool], start_over: Callable[[], None]) -> None:
        """Start over if it is still to be done; it has to make `is_foreign` false, and that last."""
        lock = threading.RLock()
        with self._locks.setdefault((os.getpid(), type(lock)), lock):
            if is_foreign():
                start_over()
