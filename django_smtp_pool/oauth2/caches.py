"""The token caches of one generator, and `Tokens`, through which the core gets the tokens of one mailer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from functools import partial

from ..core.clock import Clock
from ..core.errors import TokenUnavailable
from ..core.options.fields import Secret
from ..core.options.oauth2 import OAuth2Options, Same
from ..core.smtp.sasl import Credentials
from .cache import TokenCache
from .generators import AccessToken, generator_for

Announce = Callable[[AccessToken, "str | None"], None]  # (the token, the account if it is known)


class TokenCaches:
    """One cache per username if the generator takes usernames, otherwise one for all.

    This is known after the first call. Until then each username has a cache; the first of them is kept.
    """

    def __init__(self, source: str | Same | OAuth2Options, *, clock: Clock, announce: Announce) -> None:
        self._source = source
        self._generate = generator_for(source, clock.wall)
        self._clock = clock
        self._announce = announce
        self._lock = threading.Lock()
        self._caches: dict[str | None, TokenCache] = {}  # guarded by: _lock, as is the field below
        self._usernames: set[str | None] = set()

    def of(self, username: str | None) -> TokenCache:
        """Return the cache for a username."""
        with self._lock:
            self._usernames.add(username)
            if self._generate.takes_username is False:
                if None not in self._caches and self._caches:
                    self._caches = {None: next(iter(self._caches.values()))}
                username = None
            cache = self._caches.get(username)
            if cache is None:
                generate = partial(self._generate, username=username)
                cache = self._caches[username] = TokenCache(
                    generate, clock=self._clock, announce=partial(self._announce_token, username)
                )
            return cache

    def _announce_token(self, username: str | None, token: AccessToken) -> None:
        if self._generate.takes_username is False:  # then the account is known only if there is only one
            username = next(iter(self._usernames)) if len(self._usernames) == 1 else None
        self._announce(token, token.user or username)

    def keep(self, usernames: Collection[str | None]) -> bool:
        """Drop the tokens of all other usernames; return whether this object must be kept even without a pool.

        A built-in generator may hold the only copy of a refresh token that replaced an older one.
        """
        with self._lock:
            self._usernames.intersection_update(usernames)
            if self._generate.takes_username:
                self._caches = {name: cache for name, cache in self._caches.items() if name in usernames}
        return bool(usernames) or not isinstance(self._source, Same) or isinstance(self._source.value, type)

    def after_fork(self) -> None:
        """Reset the locks in a forked child: the tokens stay valid there."""
        self._lock = threading.Lock()
        for cache in list(self._caches.values()):
            cache.after_fork()


class Tokens:
    """The tokens of one mailer, from caches that several mailers may share.

    Arguments:
        username: the account, if the options name it; otherwise the token must name it.
    """

    def __init__(self, caches: TokenCaches, username: str | None) -> None:
        self._caches = caches
        self._username = username

    def current(self, deadline: float | None) -> Credentials:
        """Return the token to log in with."""
        return self._credentials(self._caches.of(self._username).current(deadline))

    def renewed(self, refused: Credentials, deadline: float | None) -> Credentials | None:
        """Return another token after the server refused one; None if there is none."""
        token = self._caches.of(self._username).renewed(refused.secret.reveal(), deadline)
        return None if token is None else self._credentials(token)

    def _credentials(self, token: AccessToken) -> Credentials:
        username = self._username or token.user
        if not username:
            raise TokenUnavailable(
                "the account of the access token is unknown: set username, or the user of AccessToken"
            )
        return Credentials(username=username, secret=Secret(token.token))
