"""The pools of this process, and where everything is put together: clock, observers, housekeeper, fork, exit."""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.core.mail.utils import DNS_NAME
from django.core.signals import setting_changed
from django.dispatch import receiver

from .conf import Config
from .core.after_fork import AfterFork, NewWorld
from .core.clock import Clock, SystemClock
from .core.delivery.connection import Connection, Connector
from .core.drivers.farewells import FAREWELL, Farewells
from .core.events import records
from .core.events.events import Observer, Observers
from .core.events.logs import LogObserver
from .core.interrupts import foreign
from .core.net import transport
from .core.net.tls import forget_contexts
from .core.options.host import name_to_greet_with
from .core.options.options import ServerOptions
from .core.options.quotas import Quota
from .core.options.storage_uri import StorageURI
from .core.pool.housekeeper import Housekeeper
from .core.pool.pool import Pool
from .core.pool.waiters import reentered
from .core.rate_limit.limit import Limiter, Rate, RateLimit
from .core.rate_limit.redis import RedisWindow, key_of
from .core.rate_limit.shared import SharedRateLimit
from .core.sender import Sender, pool_over
from .core.smtp.envelope import Envelope
from .oauth2.caches import TokenCaches, Tokens
from .remembered import PoolKey, configurations
from .signals import SignalObserver, tell_of_token
from .verify.verification import Recorder, Verification, watched

logger = logging.getLogger("django_smtp_pool.pool")

LAST_FAREWELL = 1.0  # seconds for servers to answer QUIT when the process ends
LONGEST_EXIT = 1.5  # seconds for that and for whoever is told


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
        self._housekeeper = Housekeeper(clock, Farewells(clock))
        self._after_fork = AfterFork(self._housekeeper.resume)
        self._new_world = NewWorld()
        self._pid = os.getpid()
        self._lock = threading.RLock()  # it knows its owner: a signal handler may find this very thread inside
        self._late: deque[Callable[[], None]] = deque()  # what such code asked for, to be done outside the lock
        self._senders: dict[PoolKey, Sender] = {}  # guarded by: _lock
        # They outlive the pools, as the windows of the server do.
        self._rates: dict[RateKey, Rate] = {}  # guarded by: _lock
        self._token_caches: dict[Any, TokenCaches] = {}  # guarded by: _lock

    def sender(self, key: PoolKey) -> Sender:
        """Return the sender over the pool for these options, made now if there is none."""
        if self._is_foreign():
            self._new_world.start_over(self._is_foreign, self.after_fork)
        while True:
            sender = self._senders.get(key)
            if sender is None or sender.pool.is_closed:
                sender = self._make_anew(key)
            if not sender.pool.wait_until_closed():
                return sender

    def _make_anew(self, key: PoolKey) -> Sender:
        if self._is_inside:
            raise reentered(key.server.place)
        with self._lock:
            sender = self._senders.get(key)  # another thread may have made it by now
            if sender is None or sender.pool.is_closed:
                sender = self._succeed(key, sender)
        while self._late:
            self._late.popleft()()
        return sender

    def _succeed(self, key: PoolKey, old: Sender | None) -> Sender:
        self._forget_unused()
        sender = self._make(key)
        if old is not None:
            sender.pool.follow(old.pool)
        self._senders[key] = sender
        return sender

    @property
    def _is_inside(self) -> bool:
        """Whether this thread holds the lock: we run in the middle of its work."""
        return self._lock._is_owned()  # type: ignore[attr-defined, no-any-return]

    def _is_foreign(self) -> bool:
        """Whether all this belongs to another world, and the hooks for forks did not say so in time."""
        # Forked by somebody who does not run Python's hooks; or gevent has replaced the locks since, as it does under
        # `gunicorn --preload`: whoever waited for one of the old kind would stop every greenlet of the process.
        return os.getpid() != self._pid or not isinstance(self._lock, type(threading.RLock()))

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
            local_hostname=lambda local_address: _ehlo_name(server, local_address),
            tokens=self._tokens(server),
        )

    def _make(self, key: PoolKey) -> Sender:
        connector = self._connector(key.server, self._observer)
        pool = pool_over(connector, key.pool, self._housekeeper)
        if key.server.lacks_secret:
            text = "%s: username is set without a password or an access token: nobody logs in"
            records.write(logger, logging.WARNING, text, key.server.place)
        return Sender(
            pool=pool,
            connector=connector,
            clock=self._clock,
            observer=self._observer,
            rate_limit=self._limiter(key, pool),
            renewed=partial(self.sender, key),
        )

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
        caches = self._token_caches.get(source)
        if caches is None:
            caches = self._token_caches[source] = TokenCaches(source, clock=self._clock, announce=tell_of_token)
        return Tokens(caches, server.username)

    def forget_tokens(self) -> None:
        """Make new access tokens from now on."""
        with self._lock:
            self._token_caches.clear()

    def forget_rates(self) -> None:
        """Begin every rate limit anew."""
        with self._lock:
            self._rates.clear()

    def _forget_unused(self) -> None:
        unused = [key for key, sender in self._senders.items() if sender.pool.is_forgettable]
        if not unused:
            return
        for key in unused:
            del self._senders[key]
        configurations.forget()  # they hold what the pools' options hold
        for source, caches in list(self._token_caches.items()):
            if not caches.keep({key.server.username for key in self._senders if key.server.token_source == source}):
                del self._token_caches[source]

    def pools(self) -> list[Pool[Connection]]:
        """Return the pools that are open."""
        return [sender.pool for sender in list(self._senders.values()) if not sender.pool.is_closed]

    def close_all(self, timeout: float = 10.0) -> None:
        """Close every pool: let sends and batches under way finish, then refuse those that wait, and say QUIT.

        New sends wait until that is over, and go through fresh pools. Called by code that runs in the middle of our
        own, such as a signal handler, it is done when that is over.

        Arguments:
            timeout: seconds for all pools together, before the farewells, which take two at most; with 0 nothing
                is waited for, and QUIT is said in the background.
        """
        if self._is_inside:
            self._late.append(partial(self.close_all, timeout))
            return
        senders = list(self._senders.values())
        for sender in senders:
            sender.pool.announce_close(timeout)
        limit = self._clock.monotonic() + timeout
        for sender in senders:
            sender.close(max(0.0, limit - self._clock.monotonic()))
        if timeout > 0:
            # Whoever grants time may end the process next, and not by way of the exit handlers (Celery does not).
            self._housekeeper.finish(FAREWELL)
            self._housekeeper.resume()

    # -- the process -----------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """End the housekeeper's thread; no lock is held across the fork, and no server is waited for."""
        if self._housekeeper.has_work:
            self._housekeeper.pause()
            self._after_fork.prepare()

    def after_fork(self) -> None:
        """Start over in a child: new locks, no connections, and the parent's are not touched by an octet."""
        transport.close_inherited()
        self._late.clear()
        self._housekeeper.after_fork()
        for caches in list(self._token_caches.values()):
            caches.after_fork()
        for rate in list(self._rates.values()):
            rate.after_fork()
        for sender in list(self._senders.values()):
            sender.after_fork()
        self._lock, self._pid = threading.RLock(), os.getpid()  # last: from now on, other threads use what is here

    def at_exit(self) -> None:
        """Say QUIT on every idle connection, all at once; the process ends within two seconds all the same."""
        if os.getpid() != self._pid:
            return
        self._housekeeper.pause()
        senders = list(self._senders.values())
        # Receivers of signals are told by a thread that nobody waits for when the time is up.
        ending = threading.Thread(target=self._end, args=(senders,), name="django-smtp-pool-end", daemon=True)
        try:
            ending.start()
        except Exception:  # noqa: BLE001 - no thread can be started any more
            self._end(senders)
        else:
            ending.join(LONGEST_EXIT)

    def _end(self, senders: list[Sender]) -> None:
        for sender in senders:
            sender.pool.shut()
        self._housekeeper.finish(LAST_FAREWELL)
        for sender in senders:
            sender.close(0)


def _window(key: PoolKey) -> RedisWindow | None:
    """Return the window of the rate limit that all processes keep together, if they are to."""
    if key.pool.rate_storage is None:
        return None
    return RedisWindow(key.pool.rate_storage, key_of(key.server), key.pool.quotas)


def _ehlo_name(server: ServerOptions, local_address: str | None) -> str:
    return server.local_hostname or name_to_greet_with(foreign(DNS_NAME.get_fqdn), local_address)


registry = Registry(clock=SystemClock(), observer=Observers([LogObserver(), SignalObserver()]))

atexit.register(registry.at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=registry.before_fork,
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
