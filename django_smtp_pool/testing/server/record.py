"""The ground truth: what the server saw, said and decided, written down before the client can know of it."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """A message for which the server took responsibility, whether or not the client ever heard of it."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes  # dot-unstuffed, as it came otherwise
    parameters: tuple[str, ...]  # of MAIL, as it came
    rcpt_parameters: Mapping[str, tuple[str, ...]]  # of each RCPT, as it came
    connection: int
    tls: bool
    user: str | None
    queue_id: str


@dataclass(frozen=True, kw_only=True)
class Struck:
    """One fault that hit."""

    connection: int
    point: str
    name: str


class Record:
    """Everything that tests may ask about; one condition variable announces every change."""

    def __init__(self):
        self.changed = threading.Condition()  # on an RLock: a predicate may use the server's properties
        self.stopping = False  # all of these are guarded by: changed
        self.accepted = []
        self.log = []
        self.commands = []
        self.struck = []
        self.connections = 0
        self.most_open = 0
        self.hung = 0
        self.ticks = 0
        self._queued = 0

    def note(self, line):
        """Add a line to the transcript."""
        self._append(self.log, line)

    def command(self, connection, line):
        """Write down a command of the client's."""
        with self.changed:
            self.commands.append((connection, line))
            self.note(f"C{connection}> {line}")

    def strike(self, connection, point, name):
        """Write down that a fault hits."""
        with self.changed:
            self.struck.append(Struck(connection=connection, point=point, name=name))
            self.note(f"F{connection}> {point}: {name}")

    def accept(self, message):
        """Take responsibility for a message."""
        self._append(self.accepted, message)

    def hang(self):
        """Count a session that will never answer again."""
        with self.changed:
            self.hung += 1
            self.changed.notify_all()

    def tick(self, count):
        """Let every dripping session say `count` more octets."""
        with self.changed:
            self.ticks += count
            self.changed.notify_all()

    def queue_id(self):
        """Return a fresh queue identifier."""
        with self.changed:
            self._queued += 1
            return f"Q{self._queued:06X}"

    def wait_for(self, predicate: Callable[[], object], timeout: float | None):
        """Return whether `predicate` came true in time; it is asked after every event, under the lock."""
        with self.changed:
            return bool(self.changed.wait_for(predicate, timeout))

    def stop(self):
        """Tell all waiting threads that the server stops."""
        with self.changed:
            self.stopping = True
            self.changed.notify_all()

    def _append(self, to, item):
        with self.changed:
            to.append(item)
            self.changed.notify_all()


class Gate:
    """Points at which sessions stand still until they are released, the longest waiting first."""

    def __init__(self, record):
        self._record = record
        self._points = set()  # all of these are guarded by: record.changed
        self._issued = 0  # tickets
        self._served = 0  # every ticket below this one may pass
        self.standing = 0

    def hold(self, *points):
        """Stop every session that comes to one of these points from now on."""
        with self._record.changed:
            self._points.update(point.lower() for point in points)
            self._served = min(self._served, self._issued)

    def release(self, count):
        """Let `count` more sessions pass and keep the gate; None: open it."""
        with self._record.changed:
            if count is None:
                self._points.clear()
                self._served = self._issued
            else:
                self._served += count
            self._record.changed.notify_all()

    def is_shut(self, points):
        """Tell whether one of `points` is held."""
        with self._record.changed:
            return not self._points.isdisjoint(points)

    def enter(self, points):
        """Stand here while the gate is shut for one of `points`."""
        with self._record.changed:
            if self._points.isdisjoint(points):
                return
            ticket, self._issued = self._issued, self._issued + 1
            self._stand(lambda: self._record.stopping or ticket < self._served)

    def _stand(self, may_pass):
        self.standing += 1
        self._record.changed.notify_all()
        self._record.changed.wait_for(may_pass)
        self.standing -= 1
        self._record.changed.notify_all()
