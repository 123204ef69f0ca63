"""Time that only passes when a test says so."""

import threading


class ManualClock:
    """A clock that stands still until `advance`; whoever waits on it wakes by what he waits for, or by its time.

    Waits poll in slices of a few milliseconds of real time, since a socket cannot be told of fake time: a test
    that passes waits no longer than its server takes to answer.
    """

    SLICE = 0.005

    def __init__(self, *, monotonic=1000.0, wall=1_700_000_000.0):
        self._lock = threading.Lock()
        self._monotonic = monotonic
        self._wall = wall
        self.waits = []  # the time-outs that were asked for

    def monotonic(self):
        """Return the time that `advance` has made."""
        with self._lock:
            return self._monotonic

    def wall(self):
        """Return the wall clock, which `jump` can set apart."""
        with self._lock:
            return self._wall

    def advance(self, seconds):
        """Let time pass."""
        with self._lock:
            self._monotonic += seconds
            self._wall += seconds

    def jump(self, seconds):
        """Step the wall clock alone, as suspending a machine does."""
        with self._lock:
            self._wall += seconds

    def wait(self, block, timeout):
        """Wait for `block`, or until `advance` has made the time-out pass."""
        self.waits.append(timeout)
        limit = None if timeout is None else self.monotonic() + timeout
        while not (answer := block(self.SLICE)):
            if limit is not None and self.monotonic() >= limit:
                return block(0)
        return answer


class LeapingClock(ManualClock):
    """A clock that leaps over every wait in which nothing happens within a moment: nobody advances it by hand."""

    PATIENCE = 0.3  # real seconds in which something may still happen, on a busy machine too

    def wait(self, block, timeout):
        """Give what is awaited a moment, then let the whole time-out pass at once."""
        self.waits.append(timeout)
        answer = block(self.PATIENCE)
        if not answer and timeout is not None:
            self.advance(timeout)
            answer = block(0)
        return answer


class ServersClock(ManualClock):
    """A clock for clients of a fault server: time passes when the server has fallen silent for ever.

    Each time a session hangs, whoever waits loses all his patience at once; of a server that drips, every
    octet costs a second. Nothing depends on how fast the machine is.
    """

    MANY = 200  # slices, about a second
    PAUSE = 2.0  # seconds: the longest back-off; no patience of a test is as short

    def __init__(self, server):
        super().__init__()
        self._server = server
        self._hangs_seen = 0

    def wait(self, block, timeout):
        """Wait for an answer, or for the server to hang."""
        self.waits.append(timeout)
        slices = 0
        while not (answer := block(self.SLICE)):
            slices += 1
            # The second condition: the kernel's buffers took some more after the server had stopped reading.
            if self._server.hung > self._hangs_seen or (self._server.hung and slices > self.MANY):
                self._hangs_seen = self._server.hung
                self.advance(timeout)
                return block(0)
            if timeout is not None and timeout <= self.PAUSE:  # a back-off: nobody is to answer
                self.advance(timeout)
                return block(0)
        if any(struck.name == "drip" for struck in self._server.struck):
            self.advance(1)
        return answer
