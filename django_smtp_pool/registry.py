"""The pools of this process. Everything is assembled here: clock, observers, housekeeper, fork, exit."""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from django.core.mail.utils import DNS_NAME
from django.core.signals import setting_changed
from django.dispatch import receiver

from . import signals
from .conf import Config
from .core.after_fork import AfterFork, NewWorld
from .core.clock import Clock, SystemClock
from .core.delivery.connection import Connection, Connector
from .core.drivers.farewells import FAREWELL, Farewells
from .core.events import records
from .core.events.events import Observer, Observers
from .core.events.logs import LogObserver
from .core.interrupts import foreign
from .core.net import sockets, tls
from .core.options.host import name_to_greet_with
from .core.options.options import ServerOptions
from .core.pool.closing import close_soon, close_together, put_off
from .core.pool.housekeeper import Housekeeper, Tidiable
from .core.pool.pool import Pool
from .core.pool.waiters import reentered
from .core.rate_limit.limit import Limiter, Rate, RateLimit
from .core.rate_limit.redis import RedisWindow, key_of
from .core.rate_limit.shared import SharedRateLimit
from .core.sender import Sender, pool_over
from .core.smtp.envelope import Envelope
from .oauth2.caches import TokenCaches, Tokens
from .remembered import PoolKey, RateKey, configurations
from .verify.verification import Recorder, Verification, watched

logger = logging.getLogger("django_smtp_pool.pool")

LAST_FAREWELL = 1.0  # seconds for servers to answer QUIT when the process ends
LONGEST_EXIT = 1.5  # seconds for that, and for receivers of signals


class Registry:
    """All pools of one process."""

    def __init__(self, *, clock: Clock, observer: Observer) -> None:
        self._clock = clock
        self._observer = observer
        self.watchers: list[Callable[[PoolKey], Observer]] = []  # each returns an observer for a new pool
        self._housekeeper = Housekeeper(clock, Farewells(clock))
        self._after_fork = AfterFork(self._housekeeper.end_pause, self._housekeeper.resume)
        self._new_world = NewWorld()
        self._pid = os.getpid()
        self._lock = threading.RLock()  # knows its owner: a signal handler may interrupt this same thread inside it
        self._late: deque[Callable[[], None]] = deque()  # requests of such code, carried out after the lock is released
        self._senders: dict[PoolKey, Sender] = {}  # guarded by: _lock
        # Rate limits outlive the pools, as the windows of the server do.
        self._rates: dict[RateKey, Rate] = {}  # guarded by: _lock
        self._token_caches: dict[Any, TokenCaches] = {}  # guarded by: _lock

    def sender(self, key: PoolKey) -> Sender:
        """Return the sender over the pool for these options; make it if there is none."""
        if self._is_foreign():
            self._new_world.start_over(self._is_foreign, self.after_fork)
        sender = self._senders.get(key)
        while sender is None or sender.pool.wait_until_closed():
            sender = self._make_anew(key)
        return sender

    def must_wait(self, key: PoolKey) -> bool:
        """Return whether `sender` would wait for a pool that is being closed."""
        sender = self._senders.get(key)
        return sender is not None and sender.pool.is_about_to_close

    def _make_anew(self, key: PoolKey) -> Sender:
        if self._is_inside:
            raise reentered(key.server.place)
        is_new = False
        with self._alone():
            sender = self._senders.get(key)  # another thread may have made it meanwhile
            if sender is None or sender.pool.is_closed:
                sender, is_new = self._succeed(key, sender), True
        if is_new and key.server.lacks_secret:
            text = "%s: username is set without a password or an access token, so there is no login"
            records.write(logger, logging.WARNING, text, key.server.place)
        return sender

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock, and then carry out what a signal handler has requested meanwhile."""
        try:
            with self._lock:
                yield
        finally:
            while self._late and not self._is_inside:
                with suppress(IndexError):  # another thread took the last one
                    self._late.popleft()()

    def _succeed(self, key: PoolKey, old: Sender | None) -> Sender:
        self._forget_unused()
        sender = self._make(key)
        if old is not None:
            sender.pool.follow(old.pool)
        self._senders[key] = sender
        return sender

    @property
    def _is_inside(self) -> bool:
        """Whether this thread holds the lock: the caller has interrupted the registry's own code."""
        return self._lock._is_owned()  # type: ignore[attr-defined, no-any-return]

    def _is_foreign(self) -> bool:
        """Whether the state belongs to another process or another kind of threads, and no hook has reported that."""
        # The process was forked by code that does not run Python's hooks; or gevent has replaced the locks since, as
        # under `gunicorn --preload`: a greenlet that waited for an old lock would stop all greenlets of the process.
        return os.getpid() != self._pid or not isinstance(self._lock, type(threading.RLock()))

    def verification(self, config: Config, envelope: Envelope | None = None) -> Verification:
        """Return a verification of a mailer, which uses a separate connection."""
        recorder = Recorder()
        with self._alone():
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
        observer = self._observer
        if self.watchers:
            observer = Observers([observer, *(watcher(key) for watcher in self.watchers)])
        connector = self._connector(key.server, observer)
        pool = pool_over(connector, key.pool, self._housekeeper)
        return Sender(
            pool=pool,
            connector=connector,
            clock=self._clock,
            observer=observer,
            rate_limit=self._limiter(key, pool),
            renewed=partial(self.sender, key),
        )

    def _limiter(self, key: PoolKey, pool: Pool[Connection]) -> Limiter | None:
        """Return the limiter of a pool. The rate limit outlives the pool, because it is a fact about the server."""
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
            caches = self._token_caches[source] = TokenCaches(source, clock=self._clock, announce=signals.tell_of_token)
        return Tokens(caches, server.username)

    def forget_tokens(self) -> None:
        """Forget all access tokens, so that new ones are requested."""
        with self._alone():
            self._token_caches.clear()

    def forget_rates(self) -> None:
        """Forget all rate limits, so that each begins with an empty window."""
        with self._alone():
            self._rates.clear()

    def _forget_unused(self) -> None:
        unused = [key for key, sender in self._senders.items() if sender.pool.is_forgettable]
        if not unused:
            return
        for key in unused:
            del self._senders[key]
        configurations.forget()  # they keep references to the options of the pools
        for source, caches in list(self._token_caches.items()):
            if not caches.keep({key.server.username for key in self._senders if key.server.token_source == source}):
                del self._token_caches[source]

    def look_after(self, tidiable: Tidiable, due: float) -> None:
        """Call `tidy()` at an instant (monotonic), and again at those that it returns; not in a forked child."""
        self._housekeeper.watch(tidiable, due)

    def open_pools(self) -> dict[PoolKey, Pool[Connection]]:
        """Return the pools that are open, each by its options."""
        return {key: sender.pool for key, sender in list(self._senders.items()) if not sender.pool.is_closed}

    def pools(self) -> list[Pool[Connection]]:
        """Return the pools that are open."""
        return list(self.open_pools().values())

    def close_all(self, timeout: float = 10.0) -> None:
        """Close every pool: let sends and batches under way finish, then refuse those that wait, and send QUIT.

        New sends wait until that is over, and use fresh pools. If this is called by code that has interrupted the
        registry, such as a signal handler, the pools are closed after that code has ended.

        Arguments:
            timeout: seconds for all pools together, not counting QUIT, which takes at most two more. With 0, this does
                not wait, and QUIT is sent in the background.
        """
        senders = list(self._senders.values())
        pools = [sender.pool for sender in senders]
        request = partial(close_soon, lambda: [each.pool for each in self._senders.values()], self.close_all, timeout)
        if self._is_inside:
            self._late.append(request)
            return
        if put_off(pools, request):
            return
        close_together(pools, timeout, self._clock)
        for sender in senders:
            sender.close_rate_limit()
        if timeout > 0:
            # The process may end next, and without running its exit handlers (Celery does that).
            self._housekeeper.say_quit_without_thread(FAREWELL)
            limit = self._clock.monotonic() + FAREWELL
            for pool in pools:
                pool.wait_for_farewells(limit - self._clock.monotonic())

    # -- the process -----------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """End the housekeeper's thread, without holding a lock across the fork or waiting for a server."""
        if self._housekeeper.has_work:
            self._after_fork.prepare()  # first: after an interrupt, it ends the pause
            self._housekeeper.pause()

    def after_fork(self) -> None:
        """Start over in a child: new locks, no connections, and no octet is sent on those of the parent."""
        self._housekeeper.begin_pause()  # a finaliser may make a request meanwhile, about connections of the parent
        sockets.close_inherited()
        tls.after_fork()
        self._late.clear()
        self._housekeeper.after_fork()
        signals.after_fork()
        for caches in list(self._token_caches.values()):
            caches.after_fork()
        for rate in list(self._rates.values()):
            rate.after_fork()
        for sender in list(self._senders.values()):
            sender.after_fork()
        self._housekeeper.end_pause()
        self._lock, self._pid = threading.RLock(), os.getpid()  # last: from now on, other threads use what is here

    def at_exit(self) -> None:
        """Send QUIT on every idle connection, all at once; the process still ends within two seconds."""
        if os.getpid() != self._pid:
            return
        self._housekeeper.pause()
        senders = list(self._senders.values())
        # Receivers of signals are called by a thread, so that the exit does not wait for them longer than this.
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
    """Return the window of the rate limit that all processes share, or None if each has a separate limit."""
    if key.pool.rate_storage is None:
        return None
    return RedisWindow(key.pool.rate_storage, key_of(key.server), key.pool.quotas)


def _ehlo_name(server: ServerOptions, local_address: str | None) -> str:
    return server.local_hostname or name_to_greet_with(foreign(DNS_NAME.get_fqdn), local_address)


observers = Observers([LogObserver(), signals.SignalObserver()])
registry = Registry(clock=SystemClock(), observer=observers)

atexit.register(registry.at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=registry.before_fork,
        after_in_child=registry.after_fork,
    )


def reset() -> None:
    """Close everything, and forget tokens and TLS contexts; for tests, and after settings have changed."""
    registry.close_all(timeout=0)
    registry.forget_tokens()
    configurations.forget()
    registry.forget_rates()
    tls.forget_contexts()


@receiver(setting_changed, dispatch_uid="django_smtp_pool.close_pools")
def _close_pools(*, setting: str, **kwargs: Any) -> None:  # noqa: ARG001 - a signal receiver
    """Close the pools when a test changes settings, even if the app is not installed."""
    if setting == "MAILERS" or setting.startswith("EMAIL_"):
        reset()
