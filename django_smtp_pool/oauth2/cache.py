"""Cache the access token of one credential for all pools and threads of the process; only one thread requests it."""

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

MARGIN = 60.0  # seconds: a token that expires sooner is not used for a new login
BRIEFEST = 1.0  # seconds for which a token is used, however soon it expires, to limit calls of the generator
FIRST_PAUSE = 1.0  # seconds before a failed generator is called again; doubles with each failure
LONGEST_PAUSE = 60.0
RENEWAL_PAUSE = 30.0  # seconds between renewals of refused tokens: a newer token that is refused has another cause
LONGEST_WAIT = 120.0  # seconds to wait for the generator in another thread, if there is no deadline


class Call:
    """One call of the generator, and the threads that wait for its result."""

    def __init__(self, *, renew: bool) -> None:
        self.renew = renew
        self.thread = threading.get_ident()
        self.done = threading.Event()


class TokenCache:
    """Caches one token. No lock is held while the generator runs.

    Arguments:
        generate: makes a token; its argument is True if the server refused the last one.
        announce: called with each new token, after the waiting threads are woken.
    """

    def __init__(
        self, generate: Callable[[bool], AccessToken], *, clock: Clock, announce: Callable[[AccessToken], None]
    ) -> None:
        self._generate = generate
        self._clock = clock
        self._announce = announce
        self._token: AccessToken | None = None  # guarded by: _lock, as are the fields below
        self._good_until = float("-inf")  # instant of the wall clock, which continues while the machine is suspended
        self._wants_renewal = False
        self._renewed_at = float("-inf")  # instant (monotonic)
        self._failure: tuple[str, Exception] | None = None
        self._failures = 0  # in a row
        self._not_before = float("-inf")  # instant (monotonic)
        self.after_fork()

    def after_fork(self) -> None:
        """Reset the locks in a forked child. The token stays valid; a thread that makes one does not exist there."""
        self._lock = threading.RLock()  # knows its owner: a signal handler may interrupt this same thread inside it
        self._running: Call | None = None

    def current(self, deadline: float | None = None) -> AccessToken:
        """Return a token that does not expire soon; call the generator if there is none.

        Raises TokenUnavailable if the generator fails, failed a moment ago, or is not done by `deadline` (an instant,
        monotonic).
        """
        if self._lock._is_owned():  # type: ignore[attr-defined]
            raise TokenUnavailable("the access tokens are in use by this same thread (in a signal handler): send later")
        before = self._running
        try:
            while True:
                with self._lock:
                    token = self._usable()
                    if token is not None:
                        return token
                    call, is_new = self._join()
                if is_new:
                    return self._run(call)
                self._wait(call, deadline)
        finally:  # an interrupt may have come between `_join` and `_run`
            running = self._running
            if running is not None and running is not before and running.thread == threading.get_ident():
                self._end(running)

    def renewed(self, refused: str, deadline: float | None = None) -> AccessToken | None:
        """Return a new token after the server refused one; None if there is none, or if it was renewed recently."""
        with self._lock:
            if self._token is not None and self._token.token == refused:
                if self._clock.monotonic() < self._renewed_at + RENEWAL_PAUSE:
                    return None
                self._token, self._wants_renewal = None, True
        token = self.current(deadline)
        return None if token.token == refused else token

    # -- under the lock --------------------------------------------------------------------------------

    def _usable(self) -> AccessToken | None:
        """Return the token unless it expires soon; if no new one is available, return it until it expires."""
        if self._token is None:
            return None
        last = self._token.expires_at if self._is_backing_off else self._good_until
        return self._token if last is None or self._clock.wall() < last else None

    @property
    def _is_backing_off(self) -> bool:
        return self._clock.monotonic() < self._not_before

    def _join(self) -> tuple[Call, bool]:
        if self._running is not None:
            return self._running, False
        if self._is_backing_off and self._failure is not None:
            text, cause = self._failure
            left = self._not_before - self._clock.monotonic()
            raise TokenUnavailable(f"{text} (next attempt in {left:.0f} s at the earliest)") from cause
        self._running = Call(renew=self._wants_renewal)
        return self._running, True

    def _take(self, token: AccessToken, call: Call) -> None:
        now = self._clock.wall()
        self._token, self._failure, self._failures, self._wants_renewal = token, None, 0, False
        self._not_before = float("-inf")
        self._good_until = float("inf")
        if token.expires_at is not None:
            left = token.expires_at - now
            self._good_until = max(now + BRIEFEST, token.expires_at - min(MARGIN, left / 2))
        if call.renew:
            self._renewed_at = self._clock.monotonic()

    def _back_off(self, error: Exception) -> None:
        self._failure = (f"could not get an access token: {error}", error)
        self._not_before = self._clock.monotonic() + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures, 10))
        self._failures += 1

    # -- outside the lock ------------------------------------------------------------------------------

    def _run(self, call: Call) -> AccessToken:
        try:
            token = self._call(call)
        finally:  # also after an interrupt, so that the next caller can start another call
            self._end(call)
        if token is None:
            return self.current()  # the old token if it has not expired, otherwise the failure
        records.write(logger, logging.INFO, "Got an access token%s", _lifetime(token, self._clock.wall()))
        self._announce(token)
        return token

    def _end(self, call: Call) -> None:
        with self._lock:
            if self._running is call:
                self._running = None
        call.done.set()

    def _call(self, call: Call) -> AccessToken | None:
        try:
            token = self._generate(call.renew)
        except Exception as error:
            if from_signal_handler(error):
                raise
            # An error of the generator; every waiting thread gets it.
            failure = strip_frames(error)
        else:
            with self._lock:
                self._take(token, call)
            return token
        records.write(logger, logging.WARNING, "Could not get an access token: %s", failure)
        with self._lock:
            self._back_off(failure)
        return None

    def _wait(self, call: Call, deadline: float | None) -> None:
        if call.thread == threading.get_ident():
            raise TokenUnavailable(
                "the generator of access tokens sends mail that needs its own token: send it through another mailer"
            )
        now = self._clock.monotonic()
        patience = LONGEST_WAIT if deadline is None else max(0.0, deadline - now)
        if not self._clock.wait(call.done.wait, patience):
            raise TokenUnavailable(f"no access token within {patience:.1f} s: the generator is still running")


def _lifetime(token: AccessToken, now: float) -> str:
    return "" if token.expires_at is None else f", valid for {token.expires_at - now:.0f} s"


def strip_frames(error: Exception) -> Exception:
    """Return an error after removing the tracebacks of it and its causes: their frames hold secrets."""
    keep_origin(error)
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        each.__traceback__ = None
        each = each.__cause__ or each.__context__
    return error
