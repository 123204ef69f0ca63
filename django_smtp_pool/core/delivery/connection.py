"""One live session with a server: ready for messages from the moment it exists."""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from ..clock import Clock
from ..errors import AuthRefused, DataRefused, Failure, Stage
from ..events.events import Line, Observer
from ..needs import Call, Life, T
from ..net.tls import context_for, flaw_of
from ..options.options import ServerOptions
from ..replies import Reply
from ..smtp.credentials import Credentials, TokenSource
from ..smtp.delivery import UNKNOWN_COMMAND, Receipt, deliver
from ..smtp.envelope import Envelope, dot_stuffed
from ..smtp.extensions import Offer
from ..smtp.fitting import fit
from ..smtp.session import Experience, Greeter, noop, open_session, quit_politely
from ..smtp.steps import Dialogue, Patience
from ..smtp.transaction import Session
from .channel import Channel

_numbers = itertools.count(1)

LARGE = 65536  # octets of content that an event loop does not look through by itself
ONE_SHOT_SIZE = 65536  # octets of content
ONE_SHOT_AGE = 2.0  # seconds since the server's last good reply on this connection


@dataclass(frozen=True, kw_only=True)
class Connector:
    """Makes connections to one server with one identity.

    Arguments:
        local_hostname: gives the name for EHLO, by the IP address of our end of the connection, None where it has none;
            asked once per connection, since looking it up may be slow.
        tokens: gives access tokens, where that is how we log in.
        make: makes a connection that is not open yet.
    """

    server: ServerOptions
    clock: Clock
    observer: Observer
    local_hostname: Callable[[str | None], str]
    experience: Experience = field(default_factory=Experience)
    tokens: TokenSource | None = None
    make: Callable[[Connector, Credentials | None], Connection] = lambda *given: Connection(*given)

    def open(self, clock: Clock, deadline: float | None = None) -> Life[Connection]:
        """Open a connection: token, TCP, greeting, TLS, login; return it when it is ready for messages.

        Where the server refuses an access token, it is tried once more with another one, on a new connection.

        Raises OSError where the server cannot be reached or its certificate is not accepted, TokenUnavailable where
        no access token can be had, and the errors of `core.errors` where the server refuses us.
        """
        tokens = self.tokens
        credentials = None if tokens is None else (yield Call(lambda: tokens.current(deadline)))
        try:
            return (yield from self._open_as(credentials, clock, deadline))
        except AuthRefused as error:
            if tokens is None or credentials is None or not (error.smtp_code == 535 or error.explanation):
                raise
            better = yield Call(lambda: tokens.renewed(credentials, deadline))
            if better is None:
                raise
        return (yield from self._open_as(better, clock, deadline))

    def _open_as(self, credentials: Credentials | None, clock: Clock, deadline: float | None) -> Life[Connection]:
        connection = self.make(self, credentials)
        try:
            yield from connection.open(clock, deadline)
        except BaseException:
            connection.close()
            raise
        return connection

    @property
    def place(self) -> str:
        """The server, as logs and errors name it."""
        return self.server.place


class Connection:
    """A session, its age and its use. Only its lease-holder touches it."""

    def __init__(self, connector: Connector, credentials: Credentials | None = None) -> None:
        self.number = next(_numbers)
        self.credentials = credentials
        self.server = connector.server
        self.offer = Offer()
        self.messages = 0
        self.has_idled = False  # the server may have given the connection up meanwhile
        self._clock = connector.clock
        self._observer = connector.observer
        self._local_hostname = connector.local_hostname
        self._experience = connector.experience
        self._answered_at = float("-inf")  # instant (monotonic) of the last good reply
        self.channel = Channel(_patience(connector.server), self._trace if connector.server.debug else None)
        self._needs_reset = False
        self._is_broken = False

    @property
    def is_usable(self) -> bool:
        """Whether another message may go this way: in step, not closed, and the server has said nothing unasked.

        A look at the socket, without waiting and without a round trip.
        """
        return not self._is_broken and self.channel.is_quiet

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS session, where there is or was one."""
        return self.channel.transport.tls if self.channel.transport is not None else None

    @property
    def message_limit(self) -> int | None:
        """How many messages the server has said it takes on one connection (RFC 9422)."""
        return self.offer.mail_max

    @property
    def in_step(self) -> bool:
        """Whether the last exchange ended cleanly; says nothing of what the server did since."""
        return not self._is_broken and self.channel.in_step

    def open(self, clock: Clock, deadline: float | None) -> Life[None]:
        """Make the session ready."""
        # The context is made first: a certificate file that cannot be read is known before anything is dialled.
        tls = yield Call(self._prepare)
        greeter = Greeter(
            server=self.server,
            local_hostname=self._name,
            credentials=self.credentials,
            experience=self._experience,
        )
        self.offer = yield from self.channel.hold(open_session(greeter), clock, deadline=deadline, tls=tls)
        self._answered_at = self._clock.monotonic()

    def _prepare(self) -> ssl.SSLContext | None:
        """Read files and look up names, which may take long; return the context for TLS."""
        try:
            tls = context_for(self.server) if self.server.may_encrypt else None
        except Exception as error:
            error.stage, error.is_final = Stage.CONNECT, True  # type: ignore[attr-defined]
            raise
        self._local_hostname(None)  # it is remembered
        return tls

    def _name(self) -> str:
        transport = self.channel.transport
        return self._local_hostname(None if transport is None else transport.local_address)

    def deliver(self, envelope: Envelope, clock: Clock, deadline: float | None = None) -> Life[Receipt]:
        """Deliver one message.

        Raises what `fit` raises before anything is said, and what `smtp.delivery.deliver` raises.
        """
        self.channel.begin_message()
        is_large, stuffed = len(envelope.content) > LARGE, None
        fitted = partial(fit, self.offer, envelope, tls_flaw=flaw_of(self.tls))
        try:
            content = (yield Call(fitted)) if is_large else fitted()
        except ValueError as error:
            error.stage = Stage.MAIL  # type: ignore[attr-defined]
            raise
        session = self._session(len(content))
        if is_large and not session.chunking:
            stuffed = yield Call(partial(dot_stuffed, content))
        self.messages += 1
        receipt = yield from self._keep_step(deliver(session, envelope, content, stuffed), clock, deadline, session)
        self._answered_at = self._clock.monotonic()
        self._is_broken = self._is_broken or not receipt.session_survives
        if session.chunking:
            self._experience.takes_chunks = True
        return receipt

    def _session(self, size: int) -> Session:
        pipelining = self.server.pipelining and self.offer.pipelining
        chunking = self._may_chunk and self.offer.chunking and self._experience.takes_chunks is not False
        return Session(
            offer=self.offer,
            reused=self.messages > 0 or self.has_idled,
            needs_reset=self._needs_reset,
            pipelining=pipelining,
            chunking=chunking,
            one_shot=chunking and pipelining and self._may_go_in_one_shot(size),
            lmtp=self.server.lmtp,
        )

    @property
    def _may_chunk(self) -> bool:
        # No RFC says how many replies follow a chunk in LMTP that is refused; and its servers are not far away.
        return self.server.chunking and not self.server.lmtp

    def _may_go_in_one_shot(self, size: int) -> bool:
        """Tell whether content may go with its commands: only where next to nothing can come in between.

        The window of doubt opens with the last octet of the group, so a connection that died unnoticed would cost
        certainty: it has just been looked at, and has answered a moment ago.
        """
        return (
            size <= ONE_SHOT_SIZE
            and self._experience.takes_chunks is True
            and not self._needs_reset
            and self._clock.monotonic() - self._answered_at < ONE_SHOT_AGE
            and not self.offer.is_last_message(self.messages + 1)
        )

    def noop(self, clock: Clock) -> Life[Reply]:
        """Say NOOP and return the reply."""
        return self._keep_step(noop(), clock, None)

    def leave(self, clock: Clock, deadline: float) -> Life[None]:
        """Say QUIT and wait for the farewell, until an instant at most."""
        return self.channel.hold(quit_politely(), clock, deadline=deadline)

    def _keep_step(
        self, dialogue: Dialogue[T], clock: Clock, deadline: float | None, session: Session | None = None
    ) -> Life[T]:
        """Hold a dialogue, and know after it whether both sides are still in step."""
        try:
            result = yield from self.channel.hold(dialogue, clock, deadline=deadline)
        except Failure as error:
            self._needs_reset = True
            self._is_broken = not error.session_survives
            if session is not None and session.chunking and _is_unknown_command(error):
                self._experience.takes_chunks = False
            raise
        except BaseException:
            self._is_broken = True
            raise
        self._needs_reset = False
        return result

    def close(self) -> None:
        """Close the socket at once, without QUIT."""
        self._is_broken = True
        self.channel.close()

    def _trace(self, said: bool, text: str) -> None:  # noqa: FBT001 - a Trace
        self._observer.notice(Line(connection=self.number, server=self.server.place, said=said, text=text))


def _is_unknown_command(error: Failure) -> bool:
    return isinstance(error, DataRefused) and error.reply is not None and error.reply.code in UNKNOWN_COMMAND


def _patience(server: ServerOptions) -> dict[Patience, float]:
    waits = server.waits
    return {
        Patience.CONNECT: waits.connect,
        Patience.GREETING: waits.greeting,
        Patience.COMMAND: waits.reply,
        Patience.VERDICT: waits.end_of_data,
    }
