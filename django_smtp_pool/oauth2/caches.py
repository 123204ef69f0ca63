"""The token caches of one generator, and the seam to the core: the tokens of one mailer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from functools import partial

from ..core.clock import Clock
from ..core.errors import TokenUnavailable
from ..core.options.fields import Secret
from ..core.options.oauth2 import OAuth2Options, Same
from ..core.smtp.credentials import Credentials
from .cache import TokenCache
from .generators import AccessToken, generator_for

Announce = Callable[[AccessToken, "str | None"], None]  # (the token, the account where it is known)


class TokenCaches:
    """One cache for each username where the generator takes usernames, else one for all.

    That is known when it has been called; until then each username has a cache, and the first one made stays.
    """

    def __init__(self, source: str | Same | OAuth2Options, *, clock: Clock, announce: Announce) -> None:
        self._source = source
        self._generate = generator_for(source, clock.wall)
        self._clock = clock
        self._announce = announce
        self._lock = threading.Lock()
        self._caches: dict[str | None, TokenCache] = {}  # guarded by: _lock, as what follows
        self._usernames: set[str | None] = set()

    def of(self, username: str | None) -> TokenCache:
        """Return the cache that has the token of a username."""
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
                    generate, clock=self._clock, announce=partial(self._tell, username)
                )
            return cache

    def _tell(self, username: str | None, token: AccessToken) -> None:
        if self._generate.takes_username is False:  # then it is known only where there is but one account
            username = next(iter(self._usernames)) if len(self._usernames) == 1 else None
        self._announce(token, token.user or username)

    def keep(self, usernames: Collection[str | None]) -> bool:
        """Forget the tokens of all other usernames; return whether anything must be kept without a pool.

        An object of ours may keep the only copy of a refresh token that the provider has replaced.
        """
        with self._lock:
            self._usernames.intersection_update(usernames)
            if self._generate.takes_username:
                self._caches = {name: cache for name, cache in self._caches.items() if name in usernames}
        return bool(usernames) or not isinstance(self._source, Same) or isinstance(self._source.value, type)

    def after_fork(self) -> None:
        """Start over in a forked child: the tokens are good there too."""
        self._lock = threading.Lock()
        for cache in list(self._caches.values()):
            cache.after_fork()


class Tokens:
    """The tokens of one mailer: the core's seam to caches that several may share.

    Arguments:
        username: the account, where the options name it; else the token has to.
    """

    def __init__(self, caches: TokenCaches, username: str | None) -> None:
        self._caches = caches
        self._username = username

    def current(self, deadline: float | None) -> Credentials:
        """Return the token to log in with."""
        return self._credentials(self._caches.of(self._username).current(deadline))

    def renewed(self, refused: Credentials, deadline: float | None) -> Credentials | None:
        """Return a better token than one that was refused, if there is one."""
        token = self._caches.of(self._username).renewed(refused.secret.reveal(), deadline)
        return None if token is None else self._credentials(token)

    def _credentials(self, token: AccessToken) -> Credentials:
        username = self._username or token.user
        if not username:
            raise TokenUnavailable("nobody says whose the access token is: set username, or give AccessToken a user")
        return Credentials(username=username, secret=Secret(token.token))
