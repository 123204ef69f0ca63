"""The fault server: SMTP on a loopback socket, with planned faults and a record of what really happened."""

import contextlib
import select
import socket
import sys
import threading

from . import faults
from .options import Options
from .plan import POINTS, Plan
from .record import Gate, Record
from .session import Session
from .smtp import Conversation

# Names for close_idle(): the ways in which servers and networks end an idle connection.
WAYS = {
    "fin": faults.vanish,
    "rst": faults.reset,
    "421": faults.code_421,
    "silent": faults.hang,
    "notify": faults.notify,
}
PATIENCE = 30  # seconds; reached only if a test fails


class FaultServer(Options):
    """Run an SMTP server while the `with` block lasts; for the other keywords see Options.

    It listens on `port`, 0 for a free one, or on the unix socket at `path`.
    """

    host = "127.0.0.1"

    def __init__(self, *, fault=None, path=None, port=0, **options):
        super().__init__(**options)
        self._path = path
        self.port = port
        self.fault = fault
        self.record = Record()
        self.gate = Gate(self.record)
        self.sessions = []  # guarded by: record.changed
        self.crashes = []
        self._threads = []

    def __enter__(self):
        self._waker, self._alarm = socket.socketpair()
        self._held = None  # keeps our port from everybody else while we do not listen
        self._listener = self._listen(self.port or self._free_port())
        self.host, self.port = (f"unix:{self._path}", 25) if self._path else self._listener.getsockname()
        self._acceptor = threading.Thread(target=self._accept_all, name="fault-server", daemon=True)
        self._acceptor.start()
        return self

    def __exit__(self, kind, *_):
        self.close()
        if self.crashes and kind is None:
            raise self.crashes[0]

    def close(self):
        """Close every connection; return when all threads have ended and all sockets are closed."""
        self.record.stop()
        self._waker.send(b"!")
        self._join(self._acceptor)
        with self.record.changed:
            for session in self.sessions:
                session.wire.wake()
        for thread in self._threads:
            self._join(thread)
        for each in filter(None, (self._listener, self._held, self._waker, self._alarm)):
            each.close()

    # Faults

    @property
    def fault(self):
        """Return the value that was set: None, a Fault, RandomFaults, or a list; setting it restarts the counts."""
        return self._fault

    @fault.setter
    def fault(self, fault):
        """Set the faults that occur from now on."""
        self._fault, self.plan = fault, Plan(fault)

    def hold(self, *points):
        """Make every session stop when it reaches one of these points of a conversation."""
        if unknown := {point.lower() for point in points}.difference(POINTS):
            raise ValueError(f"unknown point: {', '.join(sorted(unknown))}")
        self.gate.hold(*points)

    def release(self, count=None):
        """Open the gate, or let `count` sessions pass in the order in which they arrived."""
        self.gate.release(count)

    def tick(self, count=1):
        """Let every session that drips by ticks send `count` more octets."""
        self.record.tick(count)

    def refuse(self):
        """Stop listening: the kernel refuses new connections; open connections remain."""
        with self.record.changed:
            with contextlib.suppress(OSError):  # close() alone has no effect while the acceptor polls the socket
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        self._waker.send(b"!")

    def listen(self):
        """Listen again, on the same port, after refuse()."""
        with self.record.changed:
            self._listener = self._listen(self.port)
        self._waker.send(b"!")

    def close_idle(self, how="fin"):
        """End every connection that waits for its next command; return how many, after they have ended.

        `how` is one of WAYS or a misbehaviour. This first waits for sessions that are still answering, since their
        client may already have the last reply.
        """
        order = WAYS[how] if isinstance(how, str) else how
        with self.record.changed:
            self._await(lambda: all(session.state != "answering" for session in self.sessions))
            idle = [session for session in self.sessions if session.state == "command"]
            for session in idle:
                session.order = order
                session.wire.wake()
            self._await(lambda: all(session.order is None for session in idle))
        self._join_ended()
        return len(idle)

    def settle(self):
        """Return when every session waits for its client or has ended, so that nothing changes without the client."""
        self._await(lambda: all(session.state != "answering" for session in self.sessions))
        self._join_ended()

    # What really happened

    def wait_for(self, predicate, timeout=PATIENCE):
        """Return whether `predicate` became true in time; it is called after every event."""
        return self.record.wait_for(predicate, timeout)

    def commands(self, verb=""):
        """Return (connection, line) for every command, or for those with this verb."""
        with self.record.changed:
            return [each for each in self.record.commands if not verb or each[1].split(" ")[0].upper() == verb.upper()]

    @property
    def accepted(self):
        """Return the messages that the server has accepted so far."""
        return self._copy("accepted")

    @property
    def log(self):
        """Return the transcript so far."""
        return self._copy("log")

    @property
    def struck(self):
        """Return the faults that have occurred so far."""
        return self._copy("struck")

    @property
    def connections(self):
        """Return how many connections have been accepted so far."""
        return self.record.connections

    @property
    def most_open(self):
        """Return the largest number of connections open at once, without those that the client had closed."""
        return self.record.most_open

    @property
    def open_now(self):
        """Return how many connections are open."""
        return len(self.sessions)

    @property
    def idle_now(self):
        """Return how many connections wait for their next command."""
        with self.record.changed:
            return sum(session.state == "command" for session in self.sessions)

    @property
    def is_at_rest(self):
        """Return whether every session waits for its next command, and neither octets nor clients wait for us."""
        with self.record.changed:
            sessions = list(self.sessions)
            if any(session.state != "command" or session.wire.has_unread() for session in sessions):
                return False
            return not select.select([self._listener], [], [], 0)[0]

    @property
    def held(self):
        """Return how many sessions wait at a gate."""
        return self.gate.standing

    @property
    def hung(self):
        """Return how many sessions have stopped answering for good."""
        return self.record.hung

    # Internals

    def converse(self, session):
        """Run the conversation of a session; it ends with SessionEndedError."""
        session.disturb("connect", "220 not yet")
        if self.implicit_tls is not None:
            session.secure(self.implicit_tls)
        if session.crowded:
            session.say("421 4.7.0 fault.test Error: too many connections")
            session.finish(polite=True)
        session.answer("banner", proper="220 fault.test ESMTP")
        conversation = Conversation(session, tls=self.implicit_tls is not None)
        while True:
            line = session.read_line("command")
            self.record.command(session.number, line)
            conversation.handle(line)

    def _free_port(self):
        """Take a port, where two sockets may share one as long as only one of them listens; else leave the choice."""
        if self._path or sys.platform != "linux":
            return 0
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind((FaultServer.host, 0))
        return self._held.getsockname()[1]

    def _listen(self, port):
        if self._path:
            listener = socket.socket(socket.AF_UNIX)
            self._path.unlink(missing_ok=True)
            listener.bind(str(self._path))
            listener.listen(512)
        else:
            listener = socket.create_server((FaultServer.host, port), backlog=512)
        listener.setblocking(False)
        return listener

    def _accept_all(self):
        while not self.record.stopping:
            try:
                sock, _ = self._listener.accept()
            except OSError:  # no client, or not listening now
                self._await_client()
            else:
                self._admit(sock)

    def _await_client(self):
        poll = select.poll()
        poll.register(self._alarm, select.POLLIN)
        with self.record.changed:  # refuse() may close the listener in between otherwise
            if self._listener.fileno() >= 0:
                poll.register(self._listener, select.POLLIN)
        if any(descriptor == self._alarm.fileno() for descriptor, _ in poll.poll()):
            self._alarm.recv(4096)

    def _admit(self, sock):
        if self.receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        with self.record.changed:
            self.record.connections += 1
            session = Session(self, sock, self.record.connections)
            present = 1 + sum(not each.wire.peer_gone() for each in self.sessions)
            session.crowded = self.max_connections is not None and present > self.max_connections
            self.sessions.append(session)
            self.record.most_open = max(self.record.most_open, present)
            self.record.changed.notify_all()
        self._threads = [thread for thread in self._threads if thread.is_alive()] + [session.thread]
        session.thread.start()

    def _copy(self, name):
        with self.record.changed:
            return list(getattr(self.record, name))

    def _join_ended(self):
        """Wait for sessions that have been removed from the list but may not have closed their sockets yet."""
        with self.record.changed:
            staying = {session.thread for session in self.sessions}
        for thread in self._threads:
            if thread not in staying:
                self._join(thread)

    def _await(self, predicate):
        if not self.wait_for(predicate):
            raise TimeoutError("the sessions of the fault server did not finish in time")

    @staticmethod
    def _join(thread):
        thread.join(PATIENCE)
        if thread.is_alive():
            raise RuntimeError(f"{thread.name} did not end in time")
