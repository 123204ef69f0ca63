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
from ..errors import AuthRefused, DataRefused, Failure
from ..events.events import Line, Observer
from ..net.tls import context_for, flaw_of
from ..options.options import ServerOptions
from ..replies import Reply
from ..smtp.credentials import Credentials, TokenSource
from ..smtp.delivery import UNKNOWN_COMMAND, Receipt, deliver
from ..smtp.envelope import Envelope
from ..smtp.extensions import Offer
from ..smtp.fitting import fit
from ..smtp.session import Experience, Greeter, noop, open_session, quit_politely
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
        if self.tokens is None or failed.credentials is None:
            raise error
        better = self.tokens.renewed(failed.credentials, deadline)
        if better is None:
            raise error
        return Connection(self, better)


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
        self._patience = _patience(connector.server)
        self._answered_at = float("-inf")  # instant (monotonic) of the last good reply
        self._channel = Channel()
        self._needs_reset = False
        self._is_broken = False

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
        """How many messages the server has said it takes on one connection (RFC 9422)."""
        return self.offer.mail_max

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
            experience=self._experience,
        )
        try:
            self.offer = yield from open_session(greeter)
            self._answered_at = self._clock.monotonic()
        except BaseException:
            self.close()
            raise

    def delivering(self, envelope: Envelope, deadline: float | None) -> Run[Receipt]:
        """Return the run that delivers one message.

        Raises what `fitting.fit` raises, before anything is said.
        """
        content = fit(self.offer, envelope, tls_flaw=flaw_of(self.tls))
        session = self._session(len(content))
        self.messages += 1
        return self._run(self._keep_step(self._learn(session, deliver(session, envelope, content))), deadline)

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

    def _learn(self, session: Session, dialogue: Dialogue[Receipt]) -> Dialogue[Receipt]:
        """Wrap a delivery so that the next ones know what it showed."""
        try:
            receipt = yield from dialogue
        except DataRefused as error:
            if session.chunking and error.reply is not None and error.reply.code in UNKNOWN_COMMAND:
                self._experience.takes_chunks = False
            raise
        self._answered_at = self._clock.monotonic()
        self._is_broken = self._is_broken or not receipt.session_survives
        if session.chunking:
            self._experience.takes_chunks = True
        return receipt

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
    waits = server.waits
    return {
        Patience.CONNECT: waits.connect,
        Patience.GREETING: waits.greeting,
        Patience.COMMAND: waits.reply,
        Patience.VERDICT: waits.end_of_data,
    }
