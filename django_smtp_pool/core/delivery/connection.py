"""One session with a server, from the login to QUIT."""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from weakref import WeakMethod

from ..clock import Clock
from ..errors import (
    AuthRefused,
    ConnectionLost,
    DataRefused,
    Failure,
    Outcome,
    RecipientsRefused,
    SenderRefused,
    Stage,
    is_failure,
)
from ..events.events import Line, Observer
from ..needs import Call, Life
from ..net.tls import context_for, flaw_of
from ..options.options import ServerOptions
from ..replies import Reply
from ..smtp.content import Content
from ..smtp.delivery import UNKNOWN_COMMAND, Receipt, deliver
from ..smtp.envelope import Envelope
from ..smtp.experience import Experience, Suspicion, may_be_limit
from ..smtp.extensions import Extensions, fit
from ..smtp.sasl import Credentials, TokenSource
from ..smtp.session import Greeter, noop, open_session, quit_politely
from ..smtp.steps import Patience
from ..smtp.transaction import Session
from .channel import Channel

_numbers = itertools.count(1)

LARGE = 65536  # octets of content, above which an event loop searches it in a thread
ONE_SHOT_SIZE = 65536  # octets of content, at most
ONE_SHOT_AGE = 2.0  # seconds since the server's last good reply on this connection, at most
JUST_NOW = 0.001  # seconds; what a look at the socket has shown holds for as long, and a second look is not needed


@dataclass(frozen=True, kw_only=True)
class Connector:
    """Makes connections to one server with one identity.

    Arguments:
        local_hostname: returns the name for EHLO. Its argument is the IP address of the local end of the connection, or
            None if it has no IP address. It is called once per connection, since a lookup may be slow.
        tokens: returns access tokens, if the login uses them.
        make: returns a connection that is not open yet.
    """

    server: ServerOptions
    clock: Clock
    observer: Observer
    local_hostname: Callable[[str | None], str]
    experience: Experience = field(default_factory=Experience)
    tokens: TokenSource | None = None
    make: Callable[[Connector, Credentials | None, AuthRefused | None], Connection] = lambda *given: Connection(*given)

    def open(self, clock: Clock, deadline: float | None = None) -> Life[Connection]:
        """Open a connection: token, TCP, greeting, TLS, login; return it when it is ready for messages.

        If the server refuses an access token, the login is tried once more with another token, on a new connection.

        Raises OSError if the server cannot be reached or its certificate is not accepted, TokenUnavailable if there is
        no access token, and the errors of `core.errors` if the server refuses the client.
        """
        tokens = self.tokens
        # The clock of a batch stands still while the caller's code runs, and that of the tokens does not.
        until = None if deadline is None else self.clock.monotonic() + deadline - clock.monotonic()
        credentials = None if tokens is None else (yield Call(lambda: tokens.current(until)))
        try:
            return (yield from self._open_as(credentials, clock, deadline))
        except AuthRefused as error:
            if tokens is None or credentials is None or not (error.smtp_code == 535 or error.explanation):
                raise
            better = yield Call(lambda: tokens.renewed(credentials, until))
            if better is None:
                raise
            refused = error
        return (yield from self._open_as(better, clock, deadline, refused))

    def _open_as(
        self,
        credentials: Credentials | None,
        clock: Clock,
        deadline: float | None,
        refused: AuthRefused | None = None,
    ) -> Life[Connection]:
        connection = self.make(self, credentials, refused)
        try:
            yield from connection.open(clock, deadline)
        except BaseException:
            try:
                connection.close()
            finally:  # an interrupt may have come in between, whose traceback keeps the connection
                connection.close()
            raise
        return connection

    @property
    def place(self) -> str:
        """The name of the server in logs and errors."""
        return self.server.place


class Connection:
    """A session, its age and its use. Only the borrower of its slot uses it."""

    def __init__(
        self, connector: Connector, credentials: Credentials | None = None, refused: AuthRefused | None = None
    ) -> None:
        self.number = next(_numbers)
        self.credentials = credentials
        self._refused = refused  # the server's refusal of the token before this one
        self.server = connector.server
        self.extensions = Extensions()
        self.messages = 0
        # How many messages the server accepts on this connection, if it has announced (RFC 9422) or shown a limit.
        self.message_limit: int | None = None
        self._clock = connector.clock
        self._observer = connector.observer
        self._local_hostname = connector.local_hostname
        self._experience = connector.experience
        self._answered_at = float("-inf")  # instant (monotonic) of the last good reply
        self._looked_at = float("-inf")  # instant of the last look at the socket
        self.channel = Channel(_patience(connector.server), self._trace if connector.server.debug else None)
        self._pipelining = self._may_chunk = False  # known once the session is open
        self._needs_reset = False
        self._is_broken = False
        # A limit that another connection has reached (its messages, the reply), for the pool to learn.
        self.found_limit: tuple[int, Reply] | None = None

    @property
    def is_usable(self) -> bool:
        """Whether this may carry another message: it is open and in step, and the server has sent nothing unrequested.

        This checks the socket without waiting and without a round trip.
        """
        transport = self.channel.transport
        if self._is_broken or not self.channel.in_step or transport is None:
            return False
        self._looked_at = self._clock.monotonic()
        return transport.is_quiet()

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS session, or None if there never was one."""
        return self.channel.transport.tls if self.channel.transport is not None else None

    def wear_out(self) -> None:
        """Allow no further message on this connection."""
        self.message_limit = self.messages

    @property
    def in_step(self) -> bool:
        """Whether the last exchange ended cleanly; what the server has done since is not checked."""
        return not self._is_broken and self.channel.in_step

    def open(self, clock: Clock, deadline: float | None) -> Life[None]:
        """Make the session ready."""
        # The context comes first: an unreadable certificate file then raises before any connection is opened.
        tls = yield Call(self._prepare)
        greeter = Greeter(
            server=self.server,
            local_hostname=self._name,
            credentials=self.credentials,
            refused=self._refused,
            experience=self._experience,
        )
        self.extensions = yield from self.channel.hold(open_session(greeter), clock, deadline=deadline, tls=tls)
        self.message_limit = self.extensions.mail_max
        self._pipelining = self.server.pipelining and self.extensions.pipelining
        # No RFC says how many replies follow a refused chunk in LMTP; and LMTP servers are near, so BDAT saves little.
        self._may_chunk = self.server.chunking and self.extensions.chunking and not self.server.lmtp
        self._answered_at = self._clock.monotonic()

    def _prepare(self) -> ssl.SSLContext | None:
        """Read files and look up names, which may be slow; return the context for TLS."""
        try:
            tls = context_for(self.server) if self.server.may_encrypt else None
        except Exception as error:
            if is_failure(error):
                error.stage, error.is_final = Stage.CONNECT, True  # type: ignore[attr-defined]
            raise
        self._local_hostname(None)  # the name is cached
        return tls

    def _name(self) -> str:
        transport = self.channel.transport
        return self._local_hostname(None if transport is None else transport.local_address)

    def deliver(self, envelope: Envelope, clock: Clock, deadline: float | None = None) -> Life[Receipt]:
        """Deliver one message.

        Raises what `fit` raises, before any command is sent, and what `smtp.delivery.deliver` raises.
        """
        is_large, stuffed = envelope.content.size > LARGE, None
        content, may_chunk = (yield Call(partial(self._fit, envelope))) if is_large else self._fit(envelope)
        now = self._clock.monotonic()
        is_quiet = not is_large and now - self._looked_at < JUST_NOW
        self._looked_at = float("-inf")  # a look holds for one message: the server may close after its reply
        session = self._session(envelope.sender, content, now, chunking=may_chunk)
        if is_large and not session.chunking:
            stuffed = yield Call(content.stuffed)
        carried, self.messages = self.messages, self.messages + 1
        self._is_broken = self._needs_reset = True  # until the dialogue has ended well
        try:
            receipt = yield from self.channel.hold(
                deliver(session, envelope, content, stuffed),
                clock,
                deadline=deadline,
                is_quiet=is_quiet,
            )
        except Failure as error:
            if is_failure(error):
                self._is_broken = not error.session_survives
                self._learn_from(error, session, envelope.sender, carried)
            raise
        self._is_broken, self._needs_reset = not receipt.session_survives, False
        self._sender_accepted(envelope.sender, carried)
        self._answered_at = self._clock.monotonic()
        if session.chunking:
            self._experience.takes_chunks = True
        return receipt

    def _learn_from(self, error: Failure, session: Session, sender: str, carried: int) -> None:
        """Record what a failed delivery has shown, for the next deliveries."""
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
        """Return whether a refusal of MAIL deserves a try on a fresh connection, which shows the cause."""
        if not carried:
            self._experience.refused(sender, now)
        if not carried or self._experience.refusal_stands(sender, now) or not may_be_limit(reply):
            return False
        suspicion = Suspicion(carried=carried, reply=reply, wear_out=WeakMethod(self.wear_out))
        self._experience.suspect(sender, suspicion)
        return True

    def _sender_accepted(self, sender: str, carried: int) -> None:
        found = self._experience.accepted(sender, is_fresh=not carried)
        if found is not None:
            if (wear_out := found.wear_out()) is not None:
                wear_out()
            self.found_limit = (found.carried, found.reply)

    def _fit(self, envelope: Envelope) -> tuple[Content, bool]:
        """Return the content in the form that this server accepts, and whether it may be sent with BDAT."""
        flaw = flaw_of(self.tls) if envelope.require_tls else None
        content = fit(self.extensions, envelope, tls_flaw=flaw)
        may_chunk = self._may_chunk and self._experience.takes_chunks is not False
        return content, may_chunk and content.may_be_chunk

    def _session(self, sender: str, content: Content, now: float, *, chunking: bool) -> Session:
        return Session(
            extensions=self.extensions,
            carried=self.messages > 0,
            needs_reset=self._needs_reset,
            pipelining=self._pipelining,
            chunking=chunking,
            one_shot=chunking and self._pipelining and self._may_go_in_one_shot(sender, content, now),
            lmtp=self.server.lmtp,
        )

    def _may_go_in_one_shot(self, sender: str, content: Content, now: float) -> bool:
        """Return whether the content may be sent in one group with its commands.

        The message is in doubt from the last octet of the group, so a connection that died unnoticed would leave its
        outcome unknown. Therefore the connection must have been checked just now, and must have answered recently.
        A refusal costs the connection, so the sender must not be one that is refused repeatedly.
        """
        experience, limit = self._experience, self.message_limit
        return (
            content.size <= ONE_SHOT_SIZE
            and experience.takes_chunks is True
            and now >= experience.one_shot_from
            and not self._needs_reset
            and now - self._answered_at < ONE_SHOT_AGE
            and (limit is None or self.messages + 1 < limit)
            and not experience.refusal_stands(sender, now)
            and not content.names_recipient
        )

    def noop(self, clock: Clock) -> Life[Reply]:
        """Send NOOP and return the reply."""
        self._is_broken = True  # until it is answered
        reply = yield from self.channel.hold(noop(), clock)
        self._is_broken = False
        return reply

    def leave(self, clock: Clock, deadline: float) -> Life[None]:
        """Send QUIT and wait for the reply, at most until an instant."""
        return self.channel.hold(quit_politely(), clock, deadline=deadline)

    def close(self) -> None:
        """Close the socket at once, without QUIT."""
        self._is_broken = True
        self.channel.close()

    def sever(self) -> None:
        """End the connection at once, from any thread, although another one may be using it."""
        self.channel.sever()

    def _trace(self, said: bool, text: str) -> None:  # noqa: FBT001 - a Trace
        self._observer.tell(Line, connection=self.number, server=self.server.place, said=said, text=text)


def _patience(server: ServerOptions) -> dict[Patience, float]:
    waits = server.waits
    return {
        Patience.CONNECT: waits.connect,
        Patience.GREETING: waits.greeting,
        Patience.COMMAND: waits.reply,
        Patience.VERDICT: waits.end_of_data,
    }
