"""One socket to a server, and the dialogues that run over it, one after the other.

A dialogue (`smtp/`) yields what to say. `Channel.hold` writes it, reads the replies and resumes the dialogue with
them. It writes and reads at the same time, so a long group of commands cannot deadlock. It yields whenever it has to
wait for the socket, and reads once more before it raises a timeout, because it may have been resumed late.

The channel knows whether a message is in doubt (`in_doubt`): the last octet of its content may have left, and the
reply to it has not been read. That state begins in one line of `Transport` and ends with the next command.
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
from ..net.tls import tls_error
from ..net.transport import Transport
from ..net.trouble import PeerClosed, Trouble
from ..replies import MalformedReply, Reply, ReplyParser
from ..smtp.masking import in_order, masked_error, masked_reply
from ..smtp.steps import Connect, Dialogue, Heard, Patience, Say, SecureChannel, Step

Trace = Callable[[bool, str], None]  # (whether the client said it, the line)

SLOWEST_WRITE = 1000.0  # octets a second; writing to a slower server is given up
STUCK = 1.0  # seconds without an octet taken, after which the client waits for the server, and not the reverse

_READ, _BOTH = selectors.EVENT_READ, selectors.EVENT_READ | selectors.EVENT_WRITE


class Channel:
    """A socket, the replies read from it, and the commands that are being written.

    Arguments:
        patience: seconds for each kind of wait.
        trace: called with each line written (True) and read (False), with secrets masked.
    """

    def __init__(self, patience: Mapping[Patience, float], trace: Trace | None = None) -> None:
        self.transport: Transport | None = None
        self._wire: Transport  # the same, from the first step of the first dialogue on
        self.is_closed = False
        self.in_step = True  # a next command is possible: each command so far has its reply, and nothing else was read
        self._patience = patience
        self._trace = trace
        self._parser = ReplyParser()
        self._inbox: deque[Reply] = deque()
        self._has_heard = False
        self._saying: Say | None = None  # the step whose octets the transport has
        self._hidden: tuple[bytes, ...] = ()  # the secrets that were sent: a server may repeat them
        self.exchanges = 0  # since `begin_message`
        self._is_quiet = False  # see `hold`; until the next command

    # -- what is known ---------------------------------------------------------------------------------

    @property
    def in_doubt(self) -> bool:
        """Whether the last octet of a message may have left since `begin_message`."""
        saying = self._saying
        return saying is not None and saying.patience is Patience.VERDICT and self._wire.all_left

    def begin_message(self) -> None:
        """Forget the message before: from now on, `in_doubt` is about the next one."""
        self._saying = None
        self.exchanges = 0

    # -- holding a dialogue ----------------------------------------------------------------------------

    def hold(
        self,
        dialogue: Dialogue[T],
        clock: Clock,
        *,
        deadline: float | None = None,
        tls: ssl.SSLContext | None = None,
        is_quiet: bool = False,
    ) -> Life[T]:
        """Run a dialogue to its end and return its result, or raise what it raises.

        Arguments:
            deadline: instant that ends every wait except the one for the reply to the content; None for no deadline.
            tls: the context for a dialogue that starts TLS.
            is_quiet: a look at the socket has just shown that the server has sent nothing unrequested.
        """
        self._is_quiet = is_quiet
        try:
            step = next(dialogue)
            while True:
                try:
                    if isinstance(step, Say):
                        heard = yield from self._say(step, clock, deadline)
                    elif isinstance(step, Connect):
                        heard = yield from self._connect(step, clock, deadline)
                    else:
                        heard = yield from self._secure(step, clock, deadline, tls)
                except _Wrong as wrong:
                    step = dialogue.throw(wrong.error)
                else:
                    step = dialogue.send(heard)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            dialogue.close()

    def _say(self, step: Say, clock: Clock, deadline: float | None) -> Life[Heard]:
        wire = self._wire
        size = self._begin_saying(step) if step.pieces else 0
        began = progress = clock.monotonic()
        replies: list[Reply] = []
        wants_write = bool(step.pieces)
        may_answer = not step.pieces  # no reply can have arrived before the first wait
        while True:
            count, failure = 0, None
            if wants_write:
                try:
                    count = wire.flush()
                except Trouble as error:  # the server may have sent the reason before it hung up: that is read first
                    failure = error
            if may_answer or failure is not None:
                before = len(replies)
                if self._hears_enough(step, replies, failure):
                    self.in_step = self._parser.is_empty and not (self._inbox or self.is_closed)
                    return Heard(tuple(replies), wire.all_left)
                if failure is not None:
                    raise self._lost(failure, step, replies)
                count += len(replies) - before
            now = clock.monotonic()
            if count:
                progress = now
            until = self._until(step, size, began, progress, deadline, is_said=wire.all_left)
            if may_answer and now >= until:
                raise self._overdue(step, now - began, replies)
            may_answer = True
            wants_write = wire.wants_write
            yield Wait(((wire, _BOTH),), until, progress + STUCK) if wants_write else Wait(((wire, _READ),), until)

    def _begin_saying(self, step: Say) -> int:
        """Queue the commands of a step, and return how many octets they have."""
        is_quiet, self._is_quiet = self._is_quiet, False
        if (not is_quiet and self._read(step, [], None)) or not self.in_step:
            raise self._unasked(step)
        if self._trace is not None:
            self._trace(True, step.masked or _readable(step))
        if step.hidden:
            self._hidden = in_order((*self._hidden, *step.hidden))
        self.exchanges += 1
        self.in_step = False  # until it is answered
        size = self._wire.put(step.pieces)
        self._saying = step
        return size

    def _until(
        self, step: Say, size: int, began: float, progress: float, deadline: float | None, *, is_said: bool
    ) -> float:
        """Return the instant at which a step has taken too long."""
        patience = self._patience
        if not is_said:
            slow = patience[Patience.COMMAND]
            until = min(progress + slow, began + slow + size / SLOWEST_WRITE)
        elif step.patience is Patience.VERDICT:
            return progress + patience[Patience.VERDICT]
        else:
            until = progress + patience[step.patience]
        return until if deadline is None or until < deadline else deadline

    def _hears_enough(self, step: Say, replies: list[Reply], failure: Trouble | None) -> bool:
        """Take the replies that have arrived; return whether there are as many as the step expects."""
        while self._inbox or self._read(step, replies, failure):
            while self._inbox:
                reply = self._inbox.popleft()
                # Replies that a login continues with are not masked: a challenge, and the proof of the server.
                is_needed = reply.code < 300 or reply.code == 334
                # No local variable holds the secrets: a debug page prints the variables of each frame.
                masks = bool(self._hidden) and (self._trace is not None or not is_needed)
                shown = masked_reply(reply, self._hidden) if masks else reply
                replies.append(reply if is_needed else shown)
                self._has_heard = True
                if self._trace is not None:
                    self._trace(False, str(shown))
                # Nothing follows a 421: the replies to the rest of a group never arrive.
                if len(replies) == step.hear or reply.code == 421:
                    return True
        return False

    def _read(self, step: Step, replies: list[Reply], failure: Trouble | None) -> bool:
        """Move what has arrived into the inbox; return False if nothing has."""
        try:
            data = self._wire.receive()
        except Trouble as error:
            if failure is not None:
                return False
            raise self._lost(error, step, replies) from None
        if not data and self._parser.is_empty:
            return False
        try:
            self._inbox.extend(self._parser.feed(data))
        except MalformedReply as error:
            raise self._marked(ProtocolError(masked_error(error, self._hidden)), step, replies) from None
        return bool(data)

    def _unasked(self, step: Step) -> _Wrong:
        """Return the error for what arrived before a command: it would be taken for its reply (RFC 3207 §5)."""
        self.in_step = False
        unasked = masked_reply(self._inbox[0], self._hidden) if self._inbox else None
        why = ProtocolError(f"the server sent something unrequested: {unasked or 'half a line'}")
        why.reply = unasked
        return self._marked(why, step, [])

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
                    self._wire = self.transport
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
            raise AssertionError("a dialogue that starts TLS needs a context")
        wire = self._wire
        # An attacker may have added unencrypted octets after the 220, so that they are read as the server's.
        if self._has_heard and (self._read(step, [], None) or not self.in_step):
            raise self._unasked(step)
        began = clock.monotonic()
        until = began + self._patience[step.patience]
        if deadline is not None:
            until = min(until, deadline)
        while True:
            try:
                if wire.shake_hands(tls, step.server_hostname):
                    return Heard()
            except Trouble as trouble:
                if not isinstance(trouble.error, ssl.SSLError):
                    raise self._lost(trouble, step, []) from None
                clear = as_failure(tls_error(trouble.error, step.server_hostname))
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
        """Add to an error what the dialogue needs to judge it."""
        error.stage = error.stage or step.stage
        error.heard = tuple(replies)
        error.all_said = self._saying is step and self._wire.all_left
        if isinstance(step, Say) and not step.pieces:  # waiting for the next of the replies to an LMTP message
            error.all_said = self._wire.all_left
        return _Wrong(error)

    def close(self) -> None:
        """Close the socket at once: without the final dot and QUIT, so the server drops an incomplete message."""
        self.is_closed, self.in_step = True, False
        if self.transport is not None:
            self.transport.close()

    def sever(self) -> None:
        """End the connection at once, from any thread; the thread that uses it closes it."""
        if self.transport is not None:
            self.transport.sever()


def _failed_to_connect(trouble: Trouble) -> _Wrong:
    """Keep the type of the error (ConnectionRefusedError, gaierror): callers expect it."""
    error = as_failure(trouble.error)
    error.stage = Stage.CONNECT  # type: ignore[attr-defined]
    return _Wrong(error)


class _Wrong(Exception):
    """Carries an error of the network or the server, which is then raised in the dialogue."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def _readable(step: Say) -> str:
    """Return what a log may show of a step: its commands, and only the size of content."""
    commands, content = (b"", step.pieces) if step.stage is Stage.CONTENT else (step.pieces[0], step.pieces[1:])
    shown = commands.decode("utf-8", "backslashreplace").splitlines()
    return " | ".join([*shown, f"<{sum(map(len, content))} octets>"] if content else shown)
