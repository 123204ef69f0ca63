"""The access token of one credential, for all pools and threads of the process: made once, however many ask."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from ..core.clock import Clock
from ..core.errors import TokenUnavailable
from ..core.events import records
from ..core.interrupts import from_signal_handler, keep_origin
from .generators import AccessToken

logger = logging.getLogger("django_smtp_pool.oauth2")

MARGIN = 60.0  # seconds: a token that expires so soon is not used for a new login
BRIEFEST = 1.0  # seconds for which a token serves, however soon it expires: its generator is not hammered
FIRST_PAUSE = 1.0  # seconds in which a generator that failed is left alone; doubles
LONGEST_PAUSE = 60.0
RENEWAL_PAUSE = 30.0  # seconds between two renewals of tokens that the server refused: then it is not the token
LONGEST_WAIT = 120.0  # seconds for another thread's generator, where there is no deadline


class Flight:
    """One call of the generator, and all those who wait for what it brings."""

    def __init__(self, *, renew: bool) -> None:
        self.renew = renew
        self.thread = threading.get_ident()
        self.landed = threading.Event()


class TokenCache:
    """Keeps one token. No lock is held while the generator runs.

    Arguments:
        generate: makes a token; told whether the last one was refused.
        announce: told of each new token, after those who wait for it.
    """

    def __init__(
        self, generate: Callable[[bool], AccessToken], *, clock: Clock, announce: Callable[[AccessToken], None]
    ) -> None:
        self._generate = generate
        self._clock = clock
        self._announce = announce
        self._token: AccessToken | None = None  # guarded by: _lock, as all that follows
        self._good_until = float("-inf")  # instant of the wall clock: a machine that slept must notice
        self._wants_renewal = False
        self._renewed_at = float("-inf")  # instant (monotonic)
        self._failure: tuple[str, Exception] | None = None
        self._failures = 0  # in a row
        self._not_before = float("-inf")  # instant (monotonic)
        self.after_fork()

    def after_fork(self) -> None:
        """Start over in a forked child: the token is good there too, the thread that was making one does not exist."""
        self._lock = threading.Lock()
        self._flight: Flight | None = None

    def current(self, deadline: float | None = None) -> AccessToken:
        """Return a token that is good for a while, made now if there is none.

        Raises TokenUnavailable where the generator fails, has failed a moment ago, or takes longer than until
        `deadline` (an instant, monotonic).
        """
        while True:
            with self._lock:
                token = self._usable()
                if token is not None:
                    return token
                flight, is_pilot = self._board()
            if is_pilot:
                return self._fly(flight)
            self._wait(flight, deadline)

    def renewed(self, refused: str, deadline: float | None = None) -> AccessToken | None:
        """Return another token than one that the server refused; None where there is none, or was a moment ago."""
        with self._lock:
            if self._token is not None and self._token.token == refused:
                if self._clock.monotonic() < self._renewed_at + RENEWAL_PAUSE:
                    return None
                self._token, self._wants_renewal = None, True
        token = self.current(deadline)
        return None if token.token == refused else token

    # -- under the lock --------------------------------------------------------------------------------

    def _usable(self) -> AccessToken | None:
        """Return the token while it is good for a while; while no other can be had, until it expires."""
        if self._token is None:
            return None
        last = self._token.expires_at if self._is_backing_off else self._good_until
        return self._token if last is None or self._clock.wall() < last else None

    @property
    def _is_backing_off(self) -> bool:
        return self._clock.monotonic() < self._not_before

    def _board(self) -> tuple[Flight, bool]:
        if self._flight is not None:
            return self._flight, False
        if self._is_backing_off and self._failure is not None:
            text, cause = self._failure
            left = self._not_before - self._clock.monotonic()
            raise TokenUnavailable(f"{text} (asked again in {left:.0f} s at the earliest)") from cause
        self._flight = Flight(renew=self._wants_renewal)
        return self._flight, True

    def _take(self, token: AccessToken, flight: Flight) -> None:
        now = self._clock.wall()
        self._token, self._failure, self._failures, self._wants_renewal = token, None, 0, False
        self._not_before = float("-inf")
        self._good_until = float("inf")
        if token.expires_at is not None:
            left = token.expires_at - now
            self._good_until = max(now + BRIEFEST, token.expires_at - min(MARGIN, left / 2))
        if flight.renew:
            self._renewed_at = self._clock.monotonic()

    def _back_off(self, error: Exception) -> None:
        self._failure = (f"no access token could be had: {error}", error)
        self._not_before = self._clock.monotonic() + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures, 10))
        self._failures += 1

    # -- outside the lock ------------------------------------------------------------------------------

    def _fly(self, flight: Flight) -> AccessToken:
        try:
            token = self._call(flight)
        finally:  # also after an interrupt: the next one who asks starts a flight of his own
            with self._lock:
                if self._flight is flight:
                    self._flight = None
            flight.landed.set()
        if token is None:
            return self.current()  # the old one, if it is still good, else the failure
        records.write(logger, logging.INFO, "Got an access token%s", _lifetime(token, self._clock.wall()))
        self._announce(token)
        return token

    def _call(self, flight: Flight) -> AccessToken | None:
        try:
            token = self._generate(flight.renew)
        except Exception as error:
            if from_signal_handler(error):
                raise
            # The generator's own; told to all who need a token.
            failure = without_frames(error)
        else:
            with self._lock:
                self._take(token, flight)
            return token
        records.write(logger, logging.WARNING, "No access token could be had: %s", failure)
        with self._lock:
            self._back_off(failure)
        return None

    def _wait(self, flight: Flight, deadline: float | None) -> None:
        if flight.thread == threading.get_ident():
            raise TokenUnavailable("the generator of access tokens sends mail that needs the token it is to make")
        now = self._clock.monotonic()
        patience = LONGEST_WAIT if deadline is None else max(0.0, deadline - now)
        if not self._clock.wait(flight.landed.wait, patience):
            raise TokenUnavailable(f"no access token came within {patience:.1f} s: its generator is still busy")


def _lifetime(token: AccessToken, now: float) -> str:
    return "" if token.expires_at is None else f", good for {token.expires_at - now:.0f} s"


def without_frames(error: Exception) -> Exception:
    """Return an error without its tracebacks, and its causes without theirs: their frames hold secrets."""
    keep_origin(error)
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        each.__traceback__ = None
        each = each.__cause__ or each.__context__
    return error
