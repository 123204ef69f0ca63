"""One socket to a server and the dialogues held over it, one after the other.

A dialogue (`smtp/`) says what to say; `Channel.hold` says it, reads the replies and resumes the dialogue with them. It
writes and reads at the same time, so a long group of commands cannot dead-lock. It yields whenever it has to wait
for the socket, and looks once more before it takes anything for overdue: whoever resumes it may have been late.

The channel knows whether the fate of a message is with the server (`in_doubt`): the last octet of its content may have
left, and nobody has read the verdict yet. That begins in one line of `Transport` and ends with the next command.
"""

from __future__ import annotations

import selectors
import ssl
from collections import deque
from collections.abc import Callable, Mapping

from ..clock import Clock
from ..errors import ConnectionLost, ProtocolError, ReplyTimeout, Stage
from ..interrupts import as_failure
from ..needs import Life, T, Wait
from ..net.connect import Dial
from ..net.tls import explained
from ..net.transport import Transport
from ..net.trouble import PeerClosed, Trouble
from ..replies import MalformedReply, Reply, ReplyParser
from ..smtp.masking import in_order, masked_error, masked_reply
from ..smtp.steps import Connect, Dialogue, Heard, Patience, Say, SecureChannel, Step

Trace = Callable[[bool, str], None]  # (whether we said it, the line)

SLOWEST_WRITE = 1000.0  # octets a second; a server slower than that does not get the rest
STUCK = 1.0  # seconds without an octet taken, after which the server does not wait for us, but we for it

_READ, _BOTH = selectors.EVENT_READ, selectors.EVENT_READ | selectors.EVENT_WRITE


class Channel:
    """A socket, what has been read from it, and what is being said.

    Arguments:
        patience: seconds for each kind of wait.
        trace: called with each line said (True) and heard (False), secrets masked.
    """

    def __init__(self, patience: Mapping[Patience, float], trace: Trace | None = None) -> None:
        self.transport: Transport | None = None
        self.is_closed = False
        self._patience = patience
        self._trace = trace
        self._parser = ReplyParser()
        self._inbox: deque[Reply] = deque()
        self._has_heard = False
        self._saying: Say | None = None  # whose octets are with the transport
        self._hidden: tuple[bytes, ...] = ()  # what was said in secret: a server may repeat it
        self.exchanges = 0  # since `begin_message`

    # -- what is known ---------------------------------------------------------------------------------

    @property
    def in_step(self) -> bool:
        """Whether there may be a next command: not closed, and every reply read so far was asked for."""
        return not self.is_closed and self._parser.is_empty and not self._inbox

    @property
    def is_quiet(self) -> bool:
        """Whether the server is still there and has said nothing that nobody asked for."""
        return self.transport is not None and self.in_step and self.transport.is_quiet()

    @property
    def in_doubt(self) -> bool:
        """Whether the last octet of a message may have left since `begin_message`."""
        saying = self._saying
        return saying is not None and saying.patience is Patience.VERDICT and self._wire.all_left

    def begin_message(self) -> None:
        """Forget the message before: from now on, doubt is about the next one."""
        self._saying = None
        self.exchanges = 0

    @property
    def _wire(self) -> Transport:
        if self.transport is None:
            raise AssertionError("a dialogue connects first")
        return self.transport

    # -- holding a dialogue ----------------------------------------------------------------------------

    def hold(
        self,
        dialogue: Dialogue[T],
        clock: Clock,
        *,
        deadline: float | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Life[T]:
        """Hold a dialogue to its end and return its result, or raise what it raises.

        Arguments:
            deadline: instant that ends every wait but the one for the verdict; None for none.
            tls: the context for a dialogue that asks for TLS.
        """
        try:
            step = next(dialogue)
            while True:
                try:
                    heard = yield from self._carry_out(step, clock, deadline, tls)
                except _Wrong as wrong:
                    step = dialogue.throw(wrong.error)
                else:
                    step = dialogue.send(heard)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            dialogue.close()

    def _carry_out(self, step: Step, clock: Clock, deadline: float | None, tls: ssl.SSLContext | None) -> Life[Heard]:
        if isinstance(step, Say):
            return self._say(step, clock, deadline)
        if isinstance(step, Connect):
            return self._connect(step, clock, deadline)
        return self._secure(step, clock, deadline, tls)

    def _say(self, step: Say, clock: Clock, deadline: float | None) -> Life[Heard]:
        wire = self._wire
        size = self._begin_saying(step) if step.pieces else 0
        began = progress = clock.monotonic()
        replies: list[Reply] = []
        may_answer = not step.pieces  # no answer can have come before somebody has waited
        while True:
            count, failure = self._write(wire) if wire.wants_write else (0, None)
            if may_answer or failure is not None:
                count += self._listen(step, replies, failure)
                if _is_enough(step, replies):
                    return Heard(replies=tuple(replies), all_said=wire.all_left)
                if failure is not None:
                    raise self._lost(failure, step, replies)
            now = clock.monotonic()
            if count:
                progress = now
            until = self._until(step, size, began, progress, deadline, is_said=wire.all_left)
            if may_answer and now >= until:
                raise self._overdue(step, now - began, replies)
            may_answer = True
            yield Wait(((wire, _BOTH),), until, progress + STUCK) if wire.wants_write else Wait(((wire, _READ),), until)

    def _begin_saying(self, step: Say) -> int:
        """Queue what is to be said, and return how many octets that is."""
        self._check_nothing_unasked(step)
        if self._trace is not None:
            self._trace(True, step.masked or _readable(step))
        if step.hidden:
            self._hidden = in_order((*self._hidden, *step.hidden))
        self.exchanges += 1
        size = self._wire.put(step.pieces)
        self._saying = step
        return size

    def _write(self, wire: Transport) -> tuple[int, Trouble | None]:
        """Hand over what the kernel takes; return how much that was, and the error where it takes nothing any more."""
        try:
            return wire.flush(), None
        except Trouble as error:  # the server may have said why before it hung up: that is read first
            return 0, error

    def _until(
        self, step: Say, size: int, began: float, progress: float, deadline: float | None, *, is_said: bool
    ) -> float:
        """Return the instant at which this has taken too long."""
        patience = self._patience
        if not is_said:
            slow = patience[Patience.COMMAND]
            until = min(progress + slow, began + slow + size / SLOWEST_WRITE)
        elif step.patience is Patience.VERDICT:
            return progress + patience[Patience.VERDICT]
        else:
            until = progress + patience[step.patience]
        return until if deadline is None or until < deadline else deadline

    def _listen(self, step: Say, replies: list[Reply], failure: Trouble | None) -> int:
        """Take replies until there are as many as were asked for, or nothing more has arrived; return how many."""
        before = len(replies)
        while not _is_enough(step, replies):
            if self._inbox:
                reply = self._inbox.popleft()
                # No local variable holds the secrets: a debug page prints those of each frame.
                shown = masked_reply(reply, self._hidden) if self._hidden else reply
                # What a login goes on with is left as it is: a challenge, and the proof of the server.
                replies.append(reply if reply.code < 300 or reply.code == 334 else shown)
                self._has_heard = True
                if self._trace is not None:
                    self._trace(False, str(shown))
            elif not self._read(step, replies, failure):
                break
        return len(replies) - before

    def _read(self, step: Step, replies: list[Reply], failure: Trouble | None) -> bool:
        """Move what has arrived into the inbox; return False where nothing had."""
        try:
            data = self._wire.receive()
        except Trouble as error:
            if failure is not None:
                return False
            raise self._lost(error, step, replies) from None
        try:
            self._inbox.extend(self._parser.feed(data))
        except MalformedReply as error:
            raise self._marked(ProtocolError(masked_error(error, self._hidden)), step, replies) from None
        return bool(data)

    def _check_nothing_unasked(self, step: Step) -> None:
        """Raise for what has come before we speak: it would be taken for the answer (RFC 3207 §5 for TLS)."""
        self._read(step, [], None)
        if not self.in_step:
            unasked = masked_reply(self._inbox[0], self._hidden) if self._inbox else None
            why = ProtocolError(f"the server sent something that nobody asked for: {unasked or 'half a line'}")
            why.reply = unasked
            raise self._marked(why, step, [])

    def _connect(self, step: Connect, clock: Clock, deadline: float | None) -> Life[Heard]:
        began = clock.monotonic()
        try:
            dial = Dial(step.target)
        except Trouble as trouble:
            raise _failed_to_connect(trouble) from None
        until = began + self._patience[Patience.CONNECT]
        if deadline is not None:
            until = min(until, deadline)
        try:
            while True:
                try:
                    self.transport = dial.advance(clock.monotonic())
                except Trouble as trouble:
                    raise _failed_to_connect(trouble) from None
                if self.transport is not None:
                    return Heard()
                if clock.monotonic() >= until:
                    late = TimeoutError(f"timed out after {clock.monotonic() - began:.1f} s {dial.progress}")
                    raise _failed_to_connect(Trouble(late))
                yield Wait(dial.watched, min(until, dial.wake_at))
        finally:
            if self.transport is None:
                dial.close()

    def _secure(
        self, step: SecureChannel, clock: Clock, deadline: float | None, tls: ssl.SSLContext | None
    ) -> Life[Heard]:
        if tls is None:
            raise AssertionError("a dialogue that asks for TLS is given a context")
        wire = self._wire
        if self._has_heard:
            # An attacker may have put octets in clear behind the 220, to be read as the server's.
            self._check_nothing_unasked(step)
        wire.begin_tls(tls, step.server_hostname)
        began = clock.monotonic()
        until = began + self._patience[step.patience]
        if deadline is not None:
            until = min(until, deadline)
        while True:
            try:
                if wire.shake_hands():
                    return Heard()
            except Trouble as trouble:
                if not isinstance(trouble.error, ssl.SSLError):
                    raise self._lost(trouble, step, []) from None
                clear = as_failure(explained(trouble.error, step.server_hostname))
                clear.stage = step.stage  # type: ignore[attr-defined]
                raise _Wrong(clear) from None
            if clock.monotonic() >= until:
                raise self._overdue(step, clock.monotonic() - began, [])
            yield Wait(((wire, _BOTH if wire.wants_write else _READ),), until)

    # -- what goes wrong -------------------------------------------------------------------------------

    def _lost(self, trouble: Trouble, step: Step, replies: list[Reply]) -> _Wrong:
        is_end = isinstance(trouble, PeerClosed)
        text = "the server closed the connection" if is_end else f"the connection was lost: {trouble.error}"
        return self._marked(ConnectionLost(text), step, replies)

    def _overdue(self, step: Step, waited: float, replies: list[Reply]) -> _Wrong:
        error = ReplyTimeout(f"timed out after {waited:.1f} s waiting for {step.stage.value}")
        return self._marked(error, step, replies)

    def _marked(self, error: ConnectionLost, step: Step, replies: list[Reply]) -> _Wrong:
        """Give an error what the dialogue needs to judge it."""
        error.stage = error.stage or step.stage
        error.heard = tuple(replies)
        error.all_said = self._saying is step and self._wire.all_left
        if isinstance(step, Say) and not step.pieces:  # listening on, to the next verdict of LMTP
            error.all_said = self._wire.all_left
        return _Wrong(error)

    def close(self) -> None:
        """Close the socket at once: no dot and no QUIT, so that the server drops a message that is half-way."""
        self.is_closed = True
        if self.transport is not None:
            self.transport.close()


def _failed_to_connect(trouble: Trouble) -> _Wrong:
    """Failing to connect keeps its type (ConnectionRefusedError, gaierror): callers know those."""
    error = as_failure(trouble.error)
    error.stage = Stage.CONNECT  # type: ignore[attr-defined]
    return _Wrong(error)


class _Wrong(Exception):
    """What the network or the server did, on its way into the dialogue."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def _is_enough(step: Say, replies: list[Reply]) -> bool:
    # Nothing follows a 421: waiting for the replies to the rest of a group would be in vain.
    return len(replies) == step.hear or (bool(replies) and replies[-1].code == 421)


def _readable(step: Say) -> str:
    """Return what a log may show of a step: its commands, and of content its size."""
    commands, content = (b"", step.pieces) if step.stage is Stage.CONTENT else (step.pieces[0], step.pieces[1:])
    shown = commands.decode("utf-8", "backslashreplace").splitlines()
    return " | ".join([*shown, f"<{sum(map(len, content))} octets>"] if content else shown)
