"""Signal handlers of a test: real ones, run by the interpreter."""

import contextlib
import signal

SIGNAL = signal.SIGUSR1


@contextlib.contextmanager
def handling(handler, number=SIGNAL):
    """Register a handler for a while."""
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def ring():
    """Let the handler run here."""
    signal.raise_signal(SIGNAL)
