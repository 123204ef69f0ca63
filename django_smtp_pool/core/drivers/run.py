"""One dialogue under way on one channel, advanced by whoever watches its descriptor (`drive`)."""

from __future__ import annotations

import selectors
import ssl
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from ..clock import Clock
from ..errors import ConnectionLost, Failure, Outcome, ProtocolError, ReplyTimeout, Stage, outcome_of
from ..net.connect import Dial
from ..net.outlook import Outlook
from ..net.tls import explained
from ..net.transport import Transport
from ..replies import MalformedReply, Reply
from ..smtp.masking import masked_reply, masked_text
from ..smtp.steps import Connect, Dialogue, Heard, Patience, Say, SecureChannel, Step
from .channel import Channel

T = TypeVar("T")
Trace = Callable[[bool, str], None]  # (whether we said it, the line)

SLOWEST_WRITE = 1000.0  # octets a second; a server slower than that does not get the rest
STUCK = 1.0  # seconds without an octet taken, after which a server does not wait for us, but we for it


class Run(Generic[T]):
    """One dialogue on one channel.

    Arguments:
        patience: seconds for each kind of wait.
        deadline: instant (of `clock.monotonic`) that ends every wait but the one for the verdict; None = none.
        tls: the context for a dialogue that asks for TLS.
        trace: called with each line said (True) and heard (False), secrets masked.
    """

    def __init__(
        self,
        dialogue: Dialogue[T],
        channel: Channel,
        *,
        clock: Clock,
        patience: Mapping[Patience, float],
        deadline: float | None = None,
        tls: ssl.SSLContext | None = None,
        trace: Trace | None = None,
    ) -> None:
        self._dialogue = dialogue
        self._channel = channel
        self._clock = clock
        self._patience = patience
        self._last_call = deadline
        self._tls = tls
        self._trace = trace
        self._dial: Dial | None = None
        self._step: Step | None = None
        self._replies: list[Reply] = []
        self._size = 0
        self._has_spoken = False  # this step's octets are with the transport
        self._has_just_spoken = False  # and nobody has waited since
        self._since = self._progress_at = clock.monotonic()
        self._result: T | None = None
        self._error: BaseException | None = None
        self._outlook: Outlook | None = None  # None: to be made, since something has changed
        self.done = False
        self.left_in_doubt = False  # abandoned while the verdict on a whole message was due

    # -- for those who watch ---------------------------------------------------------------------------

    @property
    def outlook(self) -> Outlook:
        """What to wait for until the run goes on: asked for at every turn of a batch, and remembered."""
        if self._outlook is None:
            self._outlook = self._look_out()
        return self._outlook

    @property
    def waits_for_verdict(self) -> bool:
        """Whether all of a message has left, and its fate is with the server."""
        step = self._step
        return isinstance(step, Say) and step.patience is Patience.VERDICT and self._all_said

    @property
    def fate(self) -> Outcome:
        """What is known of the message that the run delivers, wherever it has been broken off."""
        if self.left_in_doubt:
            return Outcome.UNKNOWN
        if self._error is not None:
            return outcome_of(self._error)
        return Outcome.NOT_SENT if self._result is None else Outcome.ACCEPTED

    def result(self) -> T:
        """Return what the dialogue returned, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]

    # -- moving on -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin the dialogue."""
        self._resume(lambda: next(self._dialogue))
        self.advance()

    def advance(self) -> None:
        """Do what can be done without waiting."""
        self._outlook = None
        while not self.done:
            try:
                answer = self._proceed()
            except (OSError, EOFError, MalformedReply) as error:
                self._throw(self._explain(error))
            else:
                if answer is None:
                    return
                self._resume(lambda answer=answer: self._dialogue.send(answer))  # type: ignore[misc]

    def look(self) -> None:
        """Do what can be done without waiting; what is overdue after that has really timed out."""
        self.advance()
        if not self.done and self._clock.monotonic() >= self.outlook.deadline:
            self.expire()

    def expire(self) -> None:
        """Tell the dialogue that its wait took too long; only after a fresh look found nothing."""
        waited = self._clock.monotonic() - self._since
        doing = self._dial.progress if self._dial else f"waiting for {self._stage.value}"
        error = ReplyTimeout(f"timed out after {waited:.1f} s {doing}")
        self._throw(TimeoutError(f"timed out after {waited:.1f} s {doing}") if self._dial else error)

    def postpone(self, seconds: float) -> None:
        """Move the deadline: for so long nobody looked.

        One exchange needs no more than a fresh look; connecting, TLS and writing take several, and get the time back.
        """
        self._outlook = None
        if self._last_call is not None:
            self._last_call += seconds
        if isinstance(self._step, (Connect, SecureChannel)):
            self._since += seconds
            self._progress_at += seconds
        elif not self._all_said:  # a look hands over what the kernel takes, which may be far from all
            self._since += seconds

    def abandon(self) -> None:
        """Stop half-way and close the socket at once: no dot, no QUIT, so the server drops the message."""
        self.left_in_doubt = self.left_in_doubt or (not self.done and self.waits_for_verdict)
        self.done = True
        if self._dial is not None:
            self._dial.close()
        self._channel.close()
        self._dialogue.close()

    # -- inside ----------------------------------------------------------------------------------------

    @property
    def _transport(self) -> Transport:
        if self._channel.transport is None:
            raise AssertionError("the dialogue connects first")
        return self._channel.transport

    @property
    def _stage(self) -> Stage:
        return self._step.stage if self._step else Stage.CONNECT

    @property
    def _all_said(self) -> bool:
        return self._has_spoken and self._transport.all_left

    def _look_out(self) -> Outlook:
        deadline = self._step_deadline()
        if self._last_call is not None and not self.waits_for_verdict:
            deadline = min(deadline, self._last_call)
        if self._dial is not None:
            return Outlook(self._dial.watched, deadline, min(deadline, self._dial.wake_at), -float("inf"))
        if not self._transport.wants_write:
            return Outlook(((self._transport, selectors.EVENT_READ),), deadline, deadline, -float("inf"))
        both = selectors.EVENT_READ | selectors.EVENT_WRITE
        return Outlook(((self._transport, both),), deadline, deadline, self._progress_at + STUCK)

    def _step_deadline(self) -> float:
        step = self._step
        if step is None:
            return self._since
        if isinstance(step, Say) and not self._all_said:
            stalled = self._progress_at + self._patience[Patience.COMMAND]
            crawling = self._since + self._patience[Patience.COMMAND] + self._size / SLOWEST_WRITE
            return min(stalled, crawling)
        return self._progress_at + self._patience[step.patience]

    def _resume(self, go_on: Callable[[], Step]) -> None:
        """Let the dialogue go on to its next step, or to its end."""
        was_due, self._outlook = self.waits_for_verdict, None
        try:
            step = go_on()
        except StopIteration as stop:
            self._finish(result=stop.value)
        except BaseException as error:  # noqa: BLE001 - handed to whoever asks for the result
            # An interrupt may fall between the verdict and its reading.
            self.left_in_doubt = was_due and not isinstance(error, Failure)
            self._dialogue.close()  # where it never heard of it: it is in the middle of something
            self._finish(error=error)
        else:
            self._begin(step)

    def _finish(self, *, result: T | None = None, error: BaseException | None = None) -> None:
        self._result, self._error, self._step = result, error, None
        self.done = True

    def _begin(self, step: Step) -> None:
        if not (isinstance(step, Say) and not step.pieces):
            # One who only listens on, to the next verdict of LMTP, stays in doubt, should an interrupt come here.
            self._has_spoken = False
        self._step = step
        self._since = self._progress_at = self._clock.monotonic()
        self._replies = []
        self._size = 0
        try:
            if isinstance(step, Connect):
                self._dial = Dial(step)
            elif isinstance(step, SecureChannel):
                self._begin_tls(step)
            else:
                self._begin_saying(step)
        except (OSError, EOFError, MalformedReply) as error:
            self._throw(self._explain(error))

    def _begin_saying(self, step: Say) -> None:
        if step.pieces:
            # Look before speaking: what has come unasked would be taken for the answer.
            self._look_for_unasked()
            if self._trace is not None:
                self._trace(True, step.masked or _readable(step))
        self._size = self._transport.put(step.pieces)
        self._has_spoken = True
        self._has_just_spoken = bool(step.pieces)

    def _begin_tls(self, step: SecureChannel) -> None:
        if self._tls is None:
            raise AssertionError("a run whose dialogue asks for TLS is given a context")
        # RFC 3207: an attacker may have put octets in clear behind the 220, to be read as the server's.
        self._look_for_unasked()
        self._transport.begin_tls(self._tls, step.server_hostname)

    def _look_for_unasked(self) -> None:
        self._channel.read()
        if not self._channel.in_step:
            unasked = self._channel.inbox[0] if self._channel.inbox else None
            error = ProtocolError(f"the server sent something that nobody asked for: {unasked or 'half a line'}")
            error.reply = unasked
            raise error

    def _proceed(self) -> Heard | None:
        """Go on with the current step and return the answer to it, None while there is more to wait for."""
        step = self._step
        if isinstance(step, Connect) and self._dial is not None:
            transport = self._dial.advance(self._clock.monotonic())
            if transport is None:
                return None
            self._channel.transport, self._dial = transport, None
            return Heard()
        if isinstance(step, SecureChannel):
            return Heard() if self._transport.shake_hands() else None
        if isinstance(step, Say):
            return self._converse(step)
        raise AssertionError(f"no step to go on with: {step}")

    def _converse(self, step: Say) -> Heard | None:
        """Write and read at the same time, so that a long group of commands cannot dead-lock."""
        failure = self._write()
        if self._has_just_spoken and failure is None:
            self._has_just_spoken = False  # no answer can have come yet: whoever watches will see it
            return None
        self._listen(step, failure)
        if self._has_heard_enough(step):
            return Heard(replies=tuple(self._replies), all_said=self._transport.all_left)
        if failure is not None:
            raise failure
        return None

    def _write(self) -> OSError | None:
        """Hand over what the kernel takes; return the error where it takes nothing any more."""
        try:
            if self._transport.flush():
                self._progress_at = self._clock.monotonic()
        except OSError as error:
            # The server may have said why before it hung up: that is read first.
            return error
        return None

    def _listen(self, step: Say, failure: OSError | None) -> None:
        """Read replies until there are as many as were asked for, or nothing more has arrived."""
        while not self._has_heard_enough(step):
            if self._channel.inbox:
                self._take(self._channel.inbox.popleft())
            elif not self._read(failure):
                return

    def _has_heard_enough(self, step: Say) -> bool:
        # Nothing follows a 421: waiting for the replies to the rest of a group would be in vain.
        return len(self._replies) == step.hear or (bool(self._replies) and self._replies[-1].closes_connection)

    def _read(self, failure: OSError | None) -> bool:
        try:
            return self._channel.read()
        except (OSError, EOFError):
            if failure is not None:
                return False
            raise

    def _take(self, reply: Reply) -> None:
        self._progress_at = self._clock.monotonic()
        self._replies.append(masked_reply(reply, self._step))
        if self._trace is not None:
            self._trace(False, str(self._replies[-1]))

    def _explain(self, error: OSError | EOFError | MalformedReply) -> Exception:
        """Return the error that callers know, for what went wrong below."""
        if isinstance(error, ConnectionLost):
            return error
        if isinstance(error, MalformedReply):
            return ProtocolError(masked_text(str(error), self._step))
        if isinstance(error, EOFError):
            return ConnectionLost("the server closed the connection")
        if isinstance(self._step, Connect):
            # Failing to connect keeps its type (ConnectionRefusedError, gaierror): callers know those.
            return error
        if isinstance(error, ssl.SSLError) and isinstance(self._step, SecureChannel):
            return explained(error, self._step.server_hostname)
        return ConnectionLost(f"the connection was lost: {error}")

    def _throw(self, error: Exception) -> None:
        """Throw an error into the dialogue, with what it needs to judge it."""
        if isinstance(error, ConnectionLost):
            error.stage = error.stage or self._stage
            error.heard = tuple(self._replies)
            error.all_said = self._all_said
        elif isinstance(error, OSError):
            error.stage = self._stage  # type: ignore[attr-defined]
        if self._dial is not None:
            self._dial.close()
            self._dial = None
        self._resume(lambda: self._dialogue.throw(error))


def _readable(step: Say) -> str:
    if step.stage is Stage.CONTENT:
        return f"<{sum(map(len, step.pieces))} octets>"
    return b"".join(step.pieces).decode("utf-8", "backslashreplace").rstrip().replace("\r\n", " | ")
