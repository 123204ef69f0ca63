"""What disturbs the senders of a soak: alarms, forks, and receivers of signals."""

import faulthandler
import json
import os
import select
import signal
import sys
import threading
import time
import traceback

from tests.handlers import handling

LONGEST_ALARM = 2.0  # seconds
SHORTEST_ALARM = 0.0001


class TimeLimit(Exception):
    """What a task queue raises out of a signal handler."""


class Trouble(Exception):
    """What a receiver raises of its own."""


def moment(draw):
    """Return seconds until an alarm: inside one message as often as inside a pause."""
    return SHORTEST_ALARM * (LONGEST_ALARM / SHORTEST_ALARM) ** draw.random()


def _error(draw):
    return draw.choice([TimeoutError("my own time limit"), TimeLimit()])


class Alarms:
    """Real signals: the handler raises in the main thread, wherever that is."""

    def __init__(self):
        self._error = self.raised = None
        self._unraisable = []

    def __enter__(self):
        self._before = sys.unraisablehook
        sys.unraisablehook = lambda unraised: self._unraisable.append(unraised.exc_value)
        self._handling = handling(self, signal.SIGALRM)
        self._handling.__enter__()
        return self

    def __exit__(self, *_):
        self._handling.__exit__(None, None, None)
        sys.unraisablehook = self._before

    def __call__(self, number, frame):
        self.raised = self._error
        raise self.raised

    def during(self, work, draw):
        """Do some work, with an alarm at a random moment; return what came of it, and what was raised if it struck.

        What struck in a finaliser cannot come out of it.
        """
        self._error, self.raised = _error(draw), None
        try:
            signal.setitimer(signal.ITIMER_REAL, moment(draw))
            try:
                came = work()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except BaseException as error:
            came = error
        raised, self.raised = self.raised, None
        if any(each is raised for each in self._unraisable):
            raised = None
        self._unraisable.clear()
        return came, raised

    def is_mine(self, error):
        """Tell whether an error comes from the alarm that is set in this thread."""
        return error is self.raised

    def heard(self, error):
        """Hear what came out of a receiver: it must come out of the call as well."""


class Timeouts:
    """The time-outs of gevent: they raise in the greenlet that has set them, where it waits."""

    def __enter__(self):
        self._own = threading.local()
        return self

    def __exit__(self, *_):
        pass

    def during(self, work, draw):
        """Do some work, with a time-out after random seconds; return what came of it, and what was raised."""
        import gevent

        self._own.kept, self._own.error = [], (error := _error(draw))
        timeout = gevent.Timeout(moment(draw), error)
        timeout.start()
        try:
            came = work()
        except BaseException as raised:
            came = raised
        finally:
            struck = not timeout.pending
            timeout.close()
        # Only the code of a signal handler can be told from a receiver's own.
        is_theirs = any(each is error for each in self._own.kept)
        return came, error if struck and not is_theirs else None

    def is_mine(self, error):
        """Tell whether an error comes from the alarm that is set in this greenlet."""
        return error is getattr(self._own, "error", None)

    def heard(self, error):
        """Take note of what a receiver may keep to itself."""
        if hasattr(self._own, "kept"):
            self._own.kept.append(error)


def forked(work, patience, forking):
    """Do some work in a child; return what it has returned, by way of JSON, or raise ChildError.

    What it was doing when it did not end in time, or what it has raised, goes to standard error.

    Arguments:
        forking: a file that is there while the child may still have the sockets of its parent.
    """
    ours, theirs = os.pipe()
    forking.touch()
    child = os.fork()
    if child == 0:
        faulthandler.dump_traceback_later(0.9 * patience)
        try:
            forking.unlink()
            os.write(theirs, json.dumps(work()).encode())  # less than the buffer of a pipe
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        finally:
            os._exit(0)
    os.close(theirs)
    try:
        said = _heard(ours, time.monotonic() + patience)
    finally:
        os.close(ours)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if said is None:
        raise ChildError("hung", "did not end")
    if not said:
        raise ChildError("crashed", f"ended with status {os.waitstatus_to_exitcode(status)}")
    return json.loads(said)


def _heard(pipe, until):
    said = b""
    while (left := until - time.monotonic()) > 0 and select.select([pipe], [], [], left)[0]:
        if not (part := os.read(pipe, 65536)):
            return said
        said += part
    return None


class ChildError(Exception):
    """What a child must not do, and how it ended."""


class Receivers:
    """Receivers of the signals: each call raises, sleeps, sends mail, or does nothing."""

    def __init__(self, send, heard, rate=0.05):
        self._send, self._heard, self._rate = send, heard, rate

    def __enter__(self):
        for each in self._signals():
            each.connect(self.hear)
        return self

    def __exit__(self, *_):
        for each in self._signals():
            each.disconnect(self.hear)

    @staticmethod
    def _signals():
        from django_smtp_pool import signals

        return signals.message_sent, signals.message_failed, signals.connection_opened, signals.connection_closed

    def hear(self, signal, **named):
        """Be one of them."""
        try:
            self._send(self._act)
        except BaseException as error:
            self._heard(error)
            raise

    def _act(self, draw, send):
        choice = draw.random() / self._rate
        if choice < 1:
            raise Trouble("a receiver fails")
        if choice < 2:
            time.sleep(0.05 * draw.random())
        elif choice < 3:
            send()
