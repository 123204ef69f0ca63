"""The pools of this process, and where everything is put together: clock, observers, housekeeper, fork, exit."""

from __future__ import annotations

import atexit
import logging
import os
import threading
from dataclasses import dataclass
from typing import Any

from django.core.mail.utils import DNS_NAME
from django.core.signals import setting_changed
from django.dispatch import receiver

from .conf import Config
from .core.clock import Clock, SystemClock
from .core.delivery.connection import Connection, Connector
from .core.delivery.sender import Sender
from .core.events import records
from .core.events.events import Observer, Observers
from .core.events.logs import LogObserver
from .core.net import transport
from .core.net.tls import forget_contexts
from .core.options.options import ServerOptions
from .core.options.quotas import Quota
from .core.options.storage_uri import StorageURI
from .core.pool.housekeeper import Housekeeper
from .core.pool.pool import Pool
from .core.rate_limit.limit import Limiter, Rate, RateLimit
from .core.rate_limit.redis import RedisWindow, key_of
from .core.rate_limit.shared import SharedRateLimit
from .core.smtp.envelope import Envelope
from .oauth2.cache import TokenCache, Tokens
from .oauth2.generators import generator_for
from .remembered import PoolKey, configurations
from .signals import SignalObserver, tell_of_token
from .verify.verification import Recorder, Verification, watched

logger = logging.getLogger("django_smtp_pool.pool")


@dataclass(frozen=True, kw_only=True)
class RateKey:
    """What a rate limit belongs to: an account (host, port, user name), and the limits themselves."""

    account: str
    quotas: frozenset[Quota]
    storage: StorageURI | None
    on_failure: str

    @classmethod
    def of(cls, key: PoolKey) -> RateKey:
        """Return the one for a pool."""
        return cls(
            account=key_of(key.server),
            quotas=frozenset(key.pool.quotas),
            storage=key.pool.rate_storage,
            on_failure=key.pool.on_rate_storage_failure,
        )


class Registry:
    """All pools of one process."""

    def __init__(self, *, clock: Clock, observer: Observer) -> None:
        self._clock = clock
        self._observer = observer
        self._housekeeper = Housekeeper(clock)
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._senders: dict[PoolKey, Sender] = {}  # guarded by: _lock
        # They outlive the pools, as the windows of the server do.
        self._rates: dict[RateKey, Rate] = {}  # guarded by: _lock
        # They outlive the pools: one may keep the only copy of a refresh token that the provider has replaced.
        self._token_caches: dict[Any, TokenCache] = {}  # guarded by: _lock

    def sender(self, key: PoolKey) -> Sender:
        """Return the sender over the pool for these options, made now if there is none."""
        if self._is_foreign:
            self.after_fork()
        with self._lock:
            sender = self._senders.get(key)
            if sender is None or sender.pool.is_closed:
                self._forget_unused()
                sender = self._senders[key] = self._make(key)
            return sender

    @property
    def _is_foreign(self) -> bool:
        """Whether all this belongs to another world, and the hooks for forks did not say so in time."""
        # Forked by somebody who does not run Python's hooks; or gevent has replaced the locks since, as it does under
        # `gunicorn --preload`: whoever waited for one of the old kind would stop every greenlet of the process.
        return os.getpid() != self._pid or not isinstance(self._lock, type(threading.Lock()))

    def verification(self, config: Config, envelope: Envelope | None = None) -> Verification:
        """Return a try of a mailer, on a connection of its own."""
        recorder = Recorder()
        with self._lock:
            connector = self._connector(watched(config.server), recorder)
        window = _window(config.key)
        return Verification(config, connector, recorder, self._clock, envelope, window)

    def _connector(self, server: ServerOptions, observer: Observer) -> Connector:
        return Connector(
            server=server,
            clock=self._clock,
            observer=observer,
            local_hostname=lambda: _ehlo_name(server),
            tokens=self._tokens(server),
        )

    def _make(self, key: PoolKey) -> Sender:
        connector = self._connector(key.server, self._observer)
        pool: Pool[Connection] = Pool(
            key.pool,
            name=key.server.place,
            connect=connector.connect,
            clock=self._clock,
            observer=self._observer,
            caretaker=self._housekeeper,
        )
        if key.server.lacks_secret:
            text = "%s: username is set without a password or an access token: nobody logs in"
            records.write(logger, logging.WARNING, text, key.server.place)
        limit = self._limiter(key, pool)
        return Sender(pool, connector=connector, clock=self._clock, observer=self._observer, rate_limit=limit)

    def _limiter(self, key: PoolKey, pool: Pool[Connection]) -> Limiter | None:
        """Return a pool's way to the rate limit of its account: a fact about the server, which outlives the pool."""
        if not key.pool.quotas:
            return None
        of = RateKey.of(key)
        rate = self._rates.get(of)
        if rate is None:
            self._forget_idle_rates()
            rate = self._rates[of] = self._rate(key)
        pool.rate_left = lambda: rate.left(self._clock.monotonic())
        return Limiter(rate, patience=key.pool.rate_patience, server=key.server.place, count=pool.count)

    def _rate(self, key: PoolKey) -> Rate:
        alone, window = RateLimit(key.pool.quotas), _window(key)
        if window is None:
            return alone
        closed = key.pool.on_rate_storage_failure == "closed"
        return SharedRateLimit(
            window,
            alone=alone,
            clock=self._clock,
            observer=self._observer,
            server=key.server.place,
            closed=closed,
        )

    def _forget_idle_rates(self) -> None:
        now = self._clock.monotonic()
        used = {RateKey.of(key) for key in self._senders}
        for of, rate in list(self._rates.items()):
            if of not in used and rate.is_idle(now):
                del self._rates[of]

    def _tokens(self, server: ServerOptions) -> Tokens | None:
        source = server.token_source
        if source is None:
            return None
        cache = self._token_caches.get(source)
        if cache is None:
            generate = generator_for(source, self._clock.wall)
            cache = self._token_caches[source] = TokenCache(generate, clock=self._clock, announce=tell_of_token)
        return Tokens(cache, server.username)

    def forget_tokens(self) -> None:
        """Make new access tokens from now on."""
        with self._lock:
            self._token_caches.clear()

    def forget_rates(self) -> None:
        """Begin every rate limit anew."""
        with self._lock:
            self._rates.clear()

    def _forget_unused(self) -> None:
        for key, sender in list(self._senders.items()):
            if sender.pool.is_forgettable:
                del self._senders[key]
                configurations.forget()  # they hold what the pool's options hold

    def pools(self) -> list[Pool[Connection]]:
        """Return the pools there are."""
        with self._lock:
            return [sender.pool for sender in self._senders.values()]

    def close_all(self, timeout: float = 10.0) -> None:
        """Close every pool: refuse who waits, let deliveries under way finish, say QUIT.

        Arguments:
            timeout: seconds for all pools together, before the farewells, which take five at most; with 0 nothing
                is waited for, and QUIT is said in the background.
        """
        with self._lock:
            senders = list(self._senders.values())
            self._senders.clear()
        limit = self._clock.monotonic() + timeout
        for sender in senders:
            sender.close(max(0.0, limit - self._clock.monotonic()))
        if timeout > 0:
            # Whoever grants time may end the process next, and not by way of the exit handlers (Celery does not).
            self._housekeeper.finish()
            self._housekeeper.resume()

    # -- the process -----------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """End the housekeeper's thread; no lock is held across the fork."""
        self._housekeeper.pause()

    def after_fork_in_parent(self) -> None:
        """Let the housekeeper start again at the next use."""
        self._housekeeper.resume()

    def after_fork(self) -> None:
        """Start over in a child: new locks, no connections, and the parent's are not touched by an octet."""
        transport.close_inherited()
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._housekeeper.after_fork()
        for cache in list(self._token_caches.values()):
            cache.after_fork()
        for rate in list(self._rates.values()):
            rate.after_fork()
        for sender in list(self._senders.values()):
            sender.after_fork()

    def at_exit(self) -> None:
        """Say QUIT on every idle connection, all at once; the process ends within two seconds all the same."""
        if os.getpid() != self._pid:
            return
        self._housekeeper.pause()
        self.close_all(timeout=0)
        self._housekeeper.finish()


def _window(key: PoolKey) -> RedisWindow | None:
    """Return the window of the rate limit that all processes keep together, if they are to."""
    if key.pool.rate_storage is None:
        return None
    return RedisWindow(key.pool.rate_storage, key_of(key.server), key.pool.quotas)


def _ehlo_name(server: ServerOptions) -> str:
    return server.local_hostname or DNS_NAME.get_fqdn()


registry = Registry(clock=SystemClock(), observer=Observers([LogObserver(), SignalObserver()]))

atexit.register(registry.at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=registry.before_fork,
        after_in_parent=registry.after_fork_in_parent,
        after_in_child=registry.after_fork,
    )


def reset() -> None:
    """Close everything, forget tokens and TLS contexts: for tests, and after settings have changed."""
    registry.close_all(timeout=0)
    registry.forget_tokens()
    configurations.forget()
    registry.forget_rates()
    forget_contexts()


@receiver(setting_changed, dispatch_uid="django_smtp_pool.close_pools")
def _close_pools(*, setting: str, **kwargs: Any) -> None:  # noqa: ARG001 - a signal receiver
    """Close the pools of a test that changes settings, also where the app is not installed."""
    if setting == "MAILERS" or setting.startswith("EMAIL_"):
        reset()
