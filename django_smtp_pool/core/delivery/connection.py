"""One live session with a server: ready for messages from the moment it exists."""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..clock import Clock
from ..drivers import drive
from ..drivers.channel import Channel
from ..drivers.run import Run
from ..errors import AuthRefused, ConnectionLost, DataRefused, Failure, Outcome, RecipientsRefused, SenderRefused, Stage
from ..events.events import Line, Observer
from ..net.tls import context_for, flaw_of
from ..options.options import ServerOptions
from ..replies import Reply
from ..smtp.credentials import Credentials, TokenSource
from ..smtp.delivery import UNKNOWN_COMMAND, Receipt, deliver
from ..smtp.envelope import Envelope, may_be_chunk, names_recipients
from ..smtp.experience import Experience, Suspicion, may_be_limit
from ..smtp.extensions import Extensions, fit
from ..smtp.session import Greeter, noop, open_session, quit_politely
from ..smtp.steps import Dialogue, Patience
from ..smtp.transaction import Session

T = TypeVar("T")

_numbers = itertools.count(1)

ONE_SHOT_SIZE = 65536  # octets of content
ONE_SHOT_AGE = 2.0  # seconds since the server's last good reply on this connection


@dataclass(frozen=True, kw_only=True)
class Connector:
    """Makes connections to one server with one identity.

    Arguments:
        local_hostname: gives the name for EHLO; asked once per connection, since looking it up may be slow.
        tokens: gives access tokens, where that is how we log in.
    """

    server: ServerOptions
    clock: Clock
    observer: Observer
    local_hostname: Callable[[], str]
    experience: Experience = field(default_factory=Experience)
    tokens: TokenSource | None = None

    def connect(self, deadline: float | None = None) -> Connection:
        """Open a connection: TCP, greeting, TLS, login; blocks until it is ready.

        Raises OSError where the server cannot be reached or its certificate is not accepted, and the errors
        of `core.errors` where it refuses us.
        """
        connection = self.begin(deadline)
        try:
            try:
                drive.one(connection.opening(deadline), self.clock)
            except AuthRefused as error:
                if not self.may_begin_again(error):
                    raise
                connection = self.begin_again(connection, error, deadline)
                drive.one(connection.opening(deadline), self.clock)
            return connection  # noqa: TRY300 - an interrupt may come when it is ready already
        except BaseException:
            connection.close()
            raise

    @property
    def place(self) -> str:
        """The server, as logs and errors name it."""
        return self.server.place

    def begin(self, deadline: float | None = None) -> Connection:
        """Return a connection that is not open yet: run its `opening`.

        Raises TokenUnavailable where an access token is needed and cannot be had: nothing is dialled then.
        """
        return Connection(self, self.tokens.current(deadline) if self.tokens is not None else None)

    def may_begin_again(self, error: BaseException) -> bool:
        """Tell whether a newer token may open what the server has refused: by 535, or by saying what is wrong."""
        if self.tokens is None or not isinstance(error, AuthRefused):
            return False
        return error.smtp_code == 535 or bool(error.explanation)

    def begin_again(self, failed: Connection, error: BaseException, deadline: float | None = None) -> Connection:
        """Return another connection, with another token than one that was refused.

        Raises the refusal where there is no better token, and TokenUnavailable.
        """
        if self.tokens is None or failed.credentials is None or not isinstance(error, AuthRefused):
            raise error
        better = self.tokens.renewed(failed.credentials, deadline)
        if better is None:
            raise error
        return Connection(self, better, refused=error)


class Connection:
    """A session, its age and its use. Only its lease-holder touches it."""

    def __init__(
        self, connector: Connector, credentials: Credentials | None = None, *, refused: AuthRefused | None = None
    ) -> None:
        self.number = next(_numbers)
        self.credentials = credentials
        self._refused = refused  # how the server refused the token before this one
        self.server = connector.server
        self.extensions = Extensions()
        self.messages = 0
        self.has_idled = False  # the server may have given the connection up meanwhile
        self._clock = connector.clock
        self._observer = connector.observer
        self._local_hostname = connector.local_hostname
        self._experience = connector.experience
        self._patience = _patience(connector.server)
        self._answered_at = float("-inf")  # instant (monotonic) of the last good reply
        self._channel = Channel()
        self._needs_reset = False
        self._is_broken = False
        self._is_worn_out = False  # the server takes no message on it any more
        self.found_limit: tuple[int, Reply] | None = None  # that another connection ran into, for the pool to learn

    @property
    def is_usable(self) -> bool:
        """Whether another message may go this way: in step, not closed, and the server has said nothing unasked.

        A look at the socket, without waiting and without a round trip.
        """
        return not self._is_broken and self._channel.is_quiet

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS session, where there is or was one."""
        return self._channel.transport.tls if self._channel.transport is not None else None

    @property
    def message_limit(self) -> int | None:
        """How many messages the server takes on this connection, as it has said (RFC 9422) or shown."""
        return self.messages if self._is_worn_out else self.extensions.mail_max

    def wear_out(self) -> None:
        """Let no other message go this way."""
        self._is_worn_out = True

    @property
    def in_step(self) -> bool:
        """Whether the last exchange ended cleanly; says nothing of what the server did since."""
        return not self._is_broken and self._channel.in_step

    def opening(self, deadline: float | None) -> Run[None]:
        """Return the run that makes the session ready."""
        # The context is made first: a certificate file that cannot be read is known before anything is dialled.
        return self._run(self._open(), deadline, tls=context_for(self.server) if self.server.may_encrypt else None)

    def _open(self) -> Dialogue[None]:
        greeter = Greeter(
            server=self.server,
            local_hostname=self._local_hostname,
            credentials=self.credentials,
            refused=self._refused,
            experience=self._experience,
        )
        try:
            self.extensions = yield from open_session(greeter)
            self._answered_at = self._clock.monotonic()
        except BaseException:
            self.close()
            raise

    def delivering(self, envelope: Envelope, deadline: float | None) -> Run[Receipt]:
        """Return the run that delivers one message.

        Raises what `extensions.fit` raises, before anything is said.
        """
        content = fit(self.extensions, envelope, tls_flaw=flaw_of(self.tls))
        session = self._session(envelope.sender, content)
        carried, self.messages = self.messages, self.messages + 1
        dialogue = self._learn(session, envelope.sender, carried, deliver(session, envelope, content))
        return self._run(self._keep_step(dialogue), deadline)

    def _session(self, sender: str, content: bytes) -> Session:
        pipelining = self.server.pipelining and self.extensions.pipelining
        chunking = self._may_chunk and may_be_chunk(content)
        return Session(
            extensions=self.extensions,
            carried=self.messages > 0,
            needs_reset=self._needs_reset,
            pipelining=pipelining,
            chunking=chunking,
            one_shot=chunking and pipelining and self._may_go_in_one_shot(sender, content),
            lmtp=self.server.lmtp,
        )

    @property
    def _may_chunk(self) -> bool:
        # No RFC says how many replies follow a chunk in LMTP that is refused; and its servers are not far away.
        wanted = self.server.chunking and not self.server.lmtp
        return wanted and self.extensions.chunking and self._experience.takes_chunks is not False

    def _may_go_in_one_shot(self, sender: str, content: bytes) -> bool:
        """Tell whether content may go with its commands: only where next to nothing can come in between.

        The window of doubt opens with the last octet of the group, so a connection that died unnoticed would cost
        certainty: it has just been looked at, and has answered a moment ago. A refusal costs the connection, so
        senders that are refused again and again are asked first.
        """
        now, experience = self._clock.monotonic(), self._experience
        return (
            len(content) <= ONE_SHOT_SIZE
            and experience.takes_chunks is True
            and now >= experience.one_shot_from
            and not self._needs_reset
            and now - self._answered_at < ONE_SHOT_AGE
            and not self.extensions.is_last_message(self.messages + 1)
            and not experience.refusal_stands(sender, now)
            and not names_recipients(content)
        )

    def _learn(self, session: Session, sender: str, carried: int, dialogue: Dialogue[Receipt]) -> Dialogue[Receipt]:
        """Wrap a delivery so that the next ones know what it showed."""
        try:
            receipt = yield from dialogue
        except Failure as error:
            self._learn_from(error, session, sender, carried)
            raise
        self._sender_accepted(sender, carried)
        self._answered_at = self._clock.monotonic()
        self._is_broken = self._is_broken or not receipt.session_survives
        if session.chunking:
            self._experience.takes_chunks = True
        return receipt

    def _learn_from(self, error: Failure, session: Session, sender: str, carried: int) -> None:
        now, reply = self._clock.monotonic(), error.reply
        if session.one_shot and (isinstance(error, ConnectionLost) or isinstance(error.__cause__, ConnectionLost)):
            self._experience.lost_under_one_shot(now)
        if reply is None:
            return
        if isinstance(error, SenderRefused) and error.stage is Stage.MAIL and error.outcome is Outcome.REFUSED:
            error.try_fresh = self._may_be_the_connection(reply, sender, carried, now)
        elif isinstance(error, (RecipientsRefused, DataRefused)):
            self._sender_accepted(sender, carried)
            if session.chunking and error.stage is Stage.CONTENT and reply.code in UNKNOWN_COMMAND:
                self._experience.takes_chunks = False

    def _may_be_the_connection(self, reply: Reply, sender: str, carried: int, now: float) -> bool:
        """Tell whether a refusal of MAIL deserves a try on a fresh connection, which knows whose fault it was."""
        if not carried:
            self._experience.refused(sender, now)
        if not carried or self._experience.refusal_stands(sender, now) or not may_be_limit(reply):
            return False
        self._experience.suspect(sender, Suspicion(carried=carried, reply=reply, wear_out=self.wear_out))
        return True

    def _sender_accepted(self, sender: str, carried: int) -> None:
        found = self._experience.accepted(sender, is_fresh=not carried)
        if found is not None:
            found.wear_out()
            self.found_limit = (found.carried, found.reply)

    def deliver(self, envelope: Envelope, deadline: float | None = None) -> Receipt:
        """Deliver one message; blocks. See `delivery.deliver` for what is raised."""
        return drive.one(self.delivering(envelope, deadline), self._clock)

    def noop(self) -> Reply:
        """Say NOOP and return the reply; blocks."""
        return drive.one(self._run(self._keep_step(noop()), None), self._clock)

    def _keep_step(self, dialogue: Dialogue[T]) -> Generator[Any, Any, T]:
        """Wrap a dialogue so that the connection knows whether both sides are still in step after it.

        The outermost of all: an interrupt may come while any of them is resumed, and each hears only of its own.
        """
        try:
            result = yield from dialogue
        except Failure as error:
            self._needs_reset = True
            self._is_broken = not error.session_survives
            raise
        except BaseException:
            self._is_broken = True
            raise
        self._needs_reset = False
        return result

    def leaving(self, patience: float) -> Run[None]:
        """Return the run that says QUIT and waits for the farewell, `patience` seconds at most."""
        return self._run(quit_politely(), self._clock.monotonic() + patience)

    def close(self) -> None:
        """Close the socket at once, without QUIT."""
        self._is_broken = True
        self._channel.close()

    def _run(self, dialogue: Dialogue[T], deadline: float | None, tls: ssl.SSLContext | None = None) -> Run[T]:
        return Run(
            dialogue,
            self._channel,
            clock=self._clock,
            patience=self._patience,
            deadline=deadline,
            tls=tls,
            trace=self._trace if self.server.debug else None,
        )

    def _trace(self, said: bool, text: str) -> None:  # noqa: FBT001 - a Trace
        self._observer.notice(Line(connection=self.number, server=self.server.place, said=said, text=text))


def _patience(server: ServerOptions) -> dict[Patience, float]:
    return {
        Patience.CONNECT: server.connection_timeout,
        Patience.GREETING: server.greeting_timeout,
        Patience.COMMAND: server.timeout,
        Patience.VERDICT: server.end_of_data_timeout,
    }
