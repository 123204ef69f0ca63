"""Test a mailer over a separate connection, step by step; show the results, and what to do about a failure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..conf import Config
from ..core.clock import Clock
from ..core.delivery.connection import Connection, Connector
from ..core.drivers import blocking
from ..core.drivers.farewells import FAREWELL
from ..core.errors import AuthRefused, PartiallyRefused, Stage, TokenUnavailable
from ..core.events.events import Event, Line, Observer
from ..core.interrupts import from_signal_handler
from ..core.net.tls import TLSFacts, facts_of
from ..core.options.options import PoolOptions, ServerOptions
from ..core.rate_limit.redis import RedisWindow
from ..core.smtp.envelope import Envelope
from ..core.smtp.sasl import Credentials
from .advice import advice_for

RATE, TOKEN, MESSAGE = "rate limit", "access token", "message"
LIMITS = ("max_connections", "max_messages", "idle_timeout", "max_lifetime")


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """One step, and its result."""

    name: str
    ok: bool
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """The result of a verification."""

    server: str
    steps: Sequence[StepResult]
    tls: TLSFacts | None = None
    days_left: int | None = None  # until the certificate expires
    extensions: Sequence[str] = ()
    mechanism: str | None = None
    limits: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    advice: str | None = None

    @property
    def ok(self) -> bool:
        """Whether mail can be sent."""
        return self.error is None


class Recorder(Observer):
    """Records the dialogue."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def notice(self, event: Event) -> None:
        """Record a line."""
        if isinstance(event, Line):
            self.lines.append(event)

    @property
    def mechanism(self) -> str | None:
        """The mechanism of the last login that was tried."""
        said = [line.text.split()[1] for line in self.lines if line.said and line.text.startswith("AUTH ")]
        return said[-1] if said else None

    @property
    def began_tls(self) -> bool:
        """Whether STARTTLS was sent."""
        return any(line.said and line.text == "STARTTLS" for line in self.lines)

    @property
    def greeting(self) -> str:
        """The first line that the server sent."""
        return next((line.text for line in self.lines if not line.said), "")


class Verification:
    """One verification.

    Arguments:
        connector: creates a connection with the option `debug`, whose lines go to `recorder`.
        envelope: a test message, or None to send none.
        window: the shared window of a rate limit, if there is one.
    """

    def __init__(
        self,
        config: Config,
        connector: Connector,
        recorder: Recorder,
        clock: Clock,
        envelope: Envelope | None,
        window: RedisWindow | None,
    ) -> None:
        self._config = config
        self._connector = connector
        self._recorder = recorder
        self._clock = clock
        self._envelope = envelope
        self._window = window
        self._connection: Connection | None = None
        self._at: str | None = None
        self._receipt = ""

    def run(self) -> Report:
        """Connect, secure the connection, log in, send, quit. Errors of the server or network are not raised."""
        try:
            self._converse()
        except Exception as error:
            if from_signal_handler(error):
                raise
            return self._report(error)
        finally:
            if self._connection is not None:
                self._connection.close()
        return self._report(None)

    def _converse(self) -> None:
        self._ask_window()
        connection = self._open()
        if self._envelope is not None:
            self._at = MESSAGE
            life = connection.deliver(self._envelope, self._clock, self._deadline)
            receipt = blocking.run(life, self._clock)
            if receipt.refused:
                raise PartiallyRefused(receipt.accepted, receipt.refused)
            self._receipt = str(receipt.reply)
        self._at = Stage.QUIT.value
        blocking.run(connection.leave(self._clock, self._clock.monotonic() + FAREWELL), self._clock)

    def _ask_window(self) -> None:
        if self._window is None:
            return
        self._at = RATE
        try:
            self._window.check()
        finally:
            self._window.close()
        self._at = None

    def _open(self) -> Connection:
        connector = replace(self._connector, make=self._make)
        return blocking.run(connector.open(self._clock, self._deadline), self._clock)

    def _make(self, connector: Connector, credentials: Credentials | None, refused: AuthRefused | None) -> Connection:
        """Create a connection and keep it, so that the report can describe it even after a failure."""
        self._connection = Connection(connector, credentials, refused)
        return self._connection

    @property
    def _deadline(self) -> float:
        return self._clock.monotonic() + self._config.pool.delivery_timeout

    def _report(self, error: Exception | None) -> Report:
        tls = facts_of(self._connection.tls) if self._connection is not None else None
        seconds = tls.expires_at - self._clock.wall() if tls and tls.expires_at is not None else None
        return Report(
            server=self._connector.place,
            steps=self._steps(error),
            tls=tls,
            days_left=None if seconds is None else int(seconds // 86400),
            extensions=self._connection.extensions.keywords if self._connection is not None else (),
            mechanism=self._recorder.mechanism,
            limits=_limits(self._config.pool),
            error=None if error is None else str(error),
            advice=None if error is None else advice_for(error, self._config.server),
        )

    def _steps(self, error: Exception | None) -> list[StepResult]:
        """Return the steps up to the first that failed."""
        secures = self._config.server.use_tls or self._recorder.began_tls
        logs_in = self._config.server.has_login or self._recorder.mechanism is not None
        asks, sends = self._window is not None, self._envelope is not None
        names = expected(self._config.server, asks=asks, secures=secures, logs_in=logs_in, sends=sends)
        failed = self._failed_at(error, names) if error is not None else None
        passed = names if failed is None else names[: names.index(failed)] if failed in names else names[:0]
        steps = [StepResult(name=name, ok=True, detail=self._detail(name)) for name in passed]
        return steps if failed is None else [*steps, StepResult(name=failed, ok=False, detail=str(error))]

    def _failed_at(self, error: Exception, names: Sequence[str]) -> str:
        if isinstance(error, TokenUnavailable):
            return TOKEN
        stage = getattr(error, "stage", None)
        if self._at is None and isinstance(stage, Stage) and stage.value in names:
            return stage.value
        return self._at or Stage.CONNECT.value

    def _detail(self, name: str) -> str:
        server = self._config.server
        account = _account(self._connection) or server.shown_username or "the user of the client certificate"
        return {
            RATE: self._window.place if self._window is not None else "",
            Stage.CONNECT.value: self._connector.place + server.detour,
            Stage.GREETING.value: self._recorder.greeting,
            Stage.AUTH.value: f"{self._recorder.mechanism} as {account}",
            MESSAGE: self._receipt,
        }.get(name, "")


def _limits(pool: PoolOptions) -> dict[str, Any]:
    limits = {key: getattr(pool, key) for key in LIMITS}
    return limits | ({"rate_limits": [str(quota) for quota in pool.quotas]} if pool.quotas else {})


def _account(connection: Connection | None) -> str | None:
    return connection.credentials.username if connection is not None and connection.credentials is not None else None


def expected(server: ServerOptions, *, asks: bool, secures: bool, logs_in: bool, sends: bool) -> list[str]:
    """Return the steps of a successful verification.

    Arguments:
        asks: whether the rate limit is shared.
        secures: whether STARTTLS, which may be optional, is used.
        logs_in: whether there is a login; with only a client certificate, there is one if the server offers it.
    """
    secure = [Stage.TLS.value]
    return [
        *([RATE] if asks else []),
        *([TOKEN] if server.token_source is not None else []),
        Stage.CONNECT.value,
        *(secure if server.use_ssl else []),
        Stage.GREETING.value,
        Stage.EHLO.value,
        *([Stage.STARTTLS.value, *secure] if secures else []),
        *([Stage.AUTH.value] if logs_in else []),
        *([MESSAGE] if sends else []),
        Stage.QUIT.value,
    ]


def watched(server: ServerOptions) -> ServerOptions:
    """Return options with `debug` set, so that the dialogue can be recorded; the pool's identity stays the same."""
    return replace(server, debug=True)


def patient(server: ServerOptions, seconds: float) -> ServerOptions:
    """Return options with shorter timeouts, because a person is waiting."""
    waits = server.waits
    return replace(
        server,
        timeout=min(waits.reply, seconds),
        connection_timeout=min(waits.connect, seconds),
        greeting_timeout=min(waits.greeting, seconds),
        data_timeout=min(waits.end_of_data, seconds),
    )
