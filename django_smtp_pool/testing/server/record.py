"""Records what the server saw, sent and decided, before the client can know it."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """A message that the server accepted, whether or not the client knows."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes  # dot-unstuffed, otherwise as received
    parameters: tuple[str, ...]  # of MAIL, as received
    rcpt_parameters: Mapping[str, tuple[str, ...]]  # of each RCPT, as received
    connection: int
    tls: bool
    user: str | None
    queue_id: str


@dataclass(frozen=True, kw_only=True)
class Struck:
    """A fault that occurred."""

    connection: int
    point: str
    name: str


class Record:
    """The data that tests may read; one condition variable announces every change."""

    def __init__(self):
        self.changed = threading.Condition()  # on an RLock, because a predicate may use the server's properties
        self.stopping = False  # guarded by: changed, as are all fields below
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
        """Record a command of the client."""
        with self.changed:
            self.commands.append((connection, line))
            self.note(f"C{connection}> {line}")

    def strike(self, connection, point, name):
        """Record that a fault occurs."""
        with self.changed:
            self.struck.append(Struck(connection=connection, point=point, name=name))
            self.note(f"F{connection}> {point}: {name}")

    def accept(self, message):
        """Record that the server accepts a message."""
        self._append(self.accepted, message)

    def hang(self):
        """Count a session that never answers again."""
        with self.changed:
            self.hung += 1
            self.changed.notify_all()

    def tick(self, count):
        """Let every dripping session send `count` more octets."""
        with self.changed:
            self.ticks += count
            self.changed.notify_all()

    def queue_id(self):
        """Return a fresh queue identifier."""
        with self.changed:
            self._queued += 1
            return f"Q{self._queued:06X}"

    def wait_for(self, predicate: Callable[[], object], timeout: float | None):
        """Return whether `predicate` became true in time; it is called after every event, under the lock."""
        with self.changed:
            return bool(self.changed.wait_for(predicate, timeout))

    def stop(self):
        """Notify all waiting threads that the server stops."""
        with self.changed:
            self.stopping = True
            self.changed.notify_all()

    def _append(self, to, item):
        with self.changed:
            to.append(item)
            self.changed.notify_all()


class Gate:
    """Points at which sessions wait until they are released, in the order of their arrival."""

    def __init__(self, record):
        self._record = record
        self._points = set()  # guarded by: record.changed, as are all fields below
        self._issued = 0  # tickets
        self._served = 0  # every ticket below this one may pass
        self.standing = 0

    def hold(self, *points):
        """Stop every session that reaches one of these points from now on."""
        with self._record.changed:
            self._points.update(point.lower() for point in points)
            self._served = min(self._served, self._issued)

    def release(self, count):
        """Let `count` more sessions pass and keep the gate; None opens it."""
        with self._record.changed:
            if count is None:
                self._points.clear()
                self._served = self._issued
            else:
                self._served += count
            self._record.changed.notify_all()

    def is_shut(self, points):
        """Return whether one of `points` is held."""
        with self._record.changed:
            return not self._points.isdisjoint(points)

    def enter(self, points):
        """Wait here while one of `points` is held."""
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
