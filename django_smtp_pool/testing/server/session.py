"""The thread of one connection: it reads, answers or misbehaves, waits at gates, and carries out orders."""

import ssl
import threading

from .misbehaviour import code_of
from .plan import Moment
from .wire import SessionEndedError, Wire

LONGEST_LINE = 65536
# States: only "answering" ends by itself; in "command", "answer" (to a challenge), "content", "handshake",
# "held" (at a gate), "hung", "lingering" (FIN was sent) and "dripping" the session waits for the client or the test.


class Session:
    """The server's end of one connection; faults act on this object."""

    def __init__(self, server, sock, number):
        self.server = server
        self.record = server.record
        self.number = number
        self.delivered = 0
        self.state = "answering"  # guarded by: record.changed, as is the order
        self.order = None
        self.crowded = False  # more connections than the server allows
        self.wire = Wire(sock, self._woken)
        self.buffer = bytearray()
        self._steps = 0
        self._ticks = None
        self.thread = threading.Thread(target=self._run, name=f"fault-session-{number}", daemon=True)

    # For the conversation

    def answer(self, *points, proper, decide=None):
        """Answer a command, or misbehave; return the code by which the server acts.

        `decide` is called before anything is sent, unless the misbehaviour drops the message.
        """
        misbehaviour = self._choose(points)
        if decide and (misbehaviour is None or misbehaviour.accepts):
            decide()
        if misbehaviour is not None:
            return misbehaviour(self, proper) or 0
        self.say(proper)
        return code_of(proper)

    def disturb(self, point, proper):
        """Run a fault without a command, if one is due; return whether it was."""
        misbehaviour = self._choose((point,))
        if misbehaviour is not None:
            misbehaviour(self, proper)
        return misbehaviour is not None

    def read_line(self, state):
        """Return the client's next line without its CRLF."""
        searched = 0
        while (end := self.buffer.find(b"\r\n", searched)) < 0:
            if len(self.buffer) > LONGEST_LINE:
                self.say("500 5.5.2 line too long")
                self.finish(polite=True)
            searched = max(0, len(self.buffer) - 1)
            self.buffer += self.receive(state)
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 2]
        return line.decode("utf-8", "surrogateescape")

    def receive(self, state, size=65536):
        """Return at least one octet; until then the session is in `state`."""
        self.enter(state)
        data = self.wire.receive(size)
        self.enter("answering")
        self._obey()  # an order that arrived together with the octets has priority
        if not data:
            raise SessionEndedError("the client has closed")
        return data

    def secure(self, context):
        """Do the TLS handshake; the caller discards what was received before."""
        self.disturb("tls", "220 not TLS")
        self.enter("handshake")
        try:
            self.wire.secure(context)
        except ssl.SSLError as error:
            self.record.note(f"S{self.number}> <handshake failed: {error}>")
            raise SessionEndedError("no handshake") from error
        self.enter("answering")

    # For the faults

    def say(self, reply):
        """Send a reply, of one line or several."""
        for line in reply.split("\r\n"):
            self.record.note(f"S{self.number}> {line}")
        self.wire.send(reply.encode("utf-8", "surrogateescape") + b"\r\n")

    def send(self, data):
        """Send octets unchanged."""
        self.record.note(f"S{self.number}> <{len(data)} octets: {bytes(data[:60])!r}>")
        self.wire.send(data)

    def trickle(self, octets, *, pause=None):
        """Send octet by octet, each after `pause` seconds, or after a tick of the server if it is None."""
        self.record.note(f"S{self.number}> <dripping>")
        self._ticks = self.record.ticks
        self.enter("dripping")
        for octet in octets:
            self._await_tick() if pause is None else self.wire.pause(pause)
            self.wire.send(bytes([octet]))
        self.enter("answering")

    def hang(self):
        """Read and discard everything, and send nothing, until the client closes."""
        self._hang()
        while True:
            self._swallow()

    def stall(self):
        """Read and send nothing until the client closes."""
        self._hang()
        self.wire.await_departure()
        raise SessionEndedError("the client has closed")

    def finish(self, *, polite):
        """Send FIN, then read and discard everything until the client closes too."""
        self.record.note(f"S{self.number}> <fin>")
        self.wire.half_close(polite=polite)
        self.enter("lingering")
        while True:
            self._swallow()

    def close(self, *, reset=False):
        """Close the socket at once."""
        self.record.note(f"S{self.number}> <{'reset' if reset else 'closed'}>")
        self.leave(reset=reset)
        raise SessionEndedError("closed by the server")

    # For the server

    def enter(self, state):
        """Change the state and notify waiting threads."""
        with self.record.changed:
            self.state = state
            if state in ("hung", "lingering", "closed", "dripping"):
                self.order = None  # carried out as far as possible
            self.record.changed.notify_all()

    def leave(self, *, reset=False):
        """Remove the session from the list, then close: a client that sees the end is not counted any more."""
        with self.record.changed:
            if self.state == "closed":
                return
            self.server.sessions.remove(self)
            self.enter("closed")
        self.wire.close(reset=reset)

    # Internals

    def _run(self):
        try:
            self.server.converse(self)
        except SessionEndedError:
            pass
        except Exception as error:
            self.server.crashes.append(error)  # raised when the server is closed
        finally:
            self.leave()

    def _choose(self, points):
        self._stand_at_gate(points)
        moment = Moment(points=points, connection=self.number, step=self._steps, reused=self.delivered > 0)
        self._steps += 1
        misbehaviour = self.server.plan.pick(moment)
        if misbehaviour is not None:
            self.record.strike(self.number, moment.name, misbehaviour.name)
        return misbehaviour

    def _stand_at_gate(self, points):
        if self.server.gate.is_shut(points):
            self.enter("held")
            self.server.gate.enter(points)
            self.enter("answering")
            self._woken()

    def _woken(self):
        if self.record.stopping:
            raise SessionEndedError("the server stops")
        if self.state == "command":
            self._obey()

    def _obey(self):
        """Carry out an order to misbehave; most orders do not return."""
        with self.record.changed:
            order, before = self.order, self.state
            if order is None:
                return
            self.state = "answering"
        self.record.strike(self.number, "idle", order.name)
        order(self, "421 4.4.2 fault.test Error: timeout exceeded")
        with self.record.changed:
            self.order = None
            self.enter(before)

    def _hang(self):
        self.enter("hung")
        self.record.hang()

    def _swallow(self):
        if not self.wire.discard():
            raise SessionEndedError("the client has closed")

    def _await_tick(self):
        self.record.wait_for(lambda: self.record.stopping or self.record.ticks > self._ticks, None)
        self._ticks += 1
        if self.record.stopping:
            raise SessionEndedError("the server stops")
