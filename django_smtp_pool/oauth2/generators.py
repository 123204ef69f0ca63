"""Access tokens and their generators: one of the project, or a built-in one (the extra `oauth2`)."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from ..core.interrupts import from_signal_handler
from ..core.net.tls import found
from ..core.options.fields import Secret, shown
from ..core.options.oauth2 import CLIENT_CREDENTIALS, SERVICE, OAuth2Options, Same

SERVICE_SCOPE = "https://mail.google.com/"
SERVICE_URL = "https://oauth2.googleapis.com/token"


@dataclass(frozen=True)
class AccessToken:
    """The result of a generator.

    Arguments:
        expires_at: seconds since the epoch, or an aware datetime. None if unknown: then it is used until refused.
        user: the account, if the options name none.
        refresh_token: the new one, if the provider replaced it; the signal `token_refreshed` passes it on.
    """

    token: str = field(repr=False)
    expires_at: Any = None
    user: str | None = None
    _: KW_ONLY
    refresh_token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.token, str) or not self.token:
            raise ValueError("an access token must be non-empty text")
        if not all("!" <= char <= "~" for char in self.token):
            raise ValueError("an access token must have only visible ASCII characters (RFC 6750 §2.1)")
        if self.user is not None and (not isinstance(self.user, str) or not self.user.isprintable()):
            raise ValueError("the user of an access token must be printable text")
        object.__setattr__(self, "expires_at", _epoch(self.expires_at))

    def __reduce__(self) -> NoReturn:
        raise TypeError("an access token cannot be pickled: store its text where you store other secrets")


def _epoch(instant: Any) -> float | None:
    if instant is None:
        return None
    if hasattr(instant, "timestamp"):
        if instant.tzinfo is None:
            raise ValueError("expires_at must be an aware datetime (google-auth's expiry is naive, and in UTC)")
        return float(instant.timestamp())
    if isinstance(instant, bool) or not isinstance(instant, (int, float)):
        raise ValueError(f"expires_at must be seconds since the epoch or an aware datetime, not {instant!r}")
    return float(instant)


# -- generators of the project ---------------------------------------------------------------------------------------


class Generator:
    """Calls the generator in the option `oauth2_generator`: a function, an object, a class or a factory.

    It is imported for the first token, so that reading the settings does not import project code.
    """

    def __init__(self, source: str | Same) -> None:
        self._source = source
        self._callable: Callable[..., Any] | None = None
        self.takes_username: bool | None = None  # known after the first call, since it may be a factory

    def __call__(self, renew: bool, username: str | None) -> AccessToken:  # noqa: FBT001 - as the cache calls it
        """Return a token for a username.

        Raises TypeError if the generator returns no token, and any exception of the generator.
        """
        if self._callable is None:
            source = self._source if isinstance(self._source, str) else self._source.value
            self._callable = _made(found(source, "oauth2_generator"))
        asked = {"renew": renew, "username": username}
        given = _call(self._callable, asked)
        if callable(given):  # it is a factory
            self._callable = given
            given = _call(given, asked)
        self.takes_username = "username" in _taken_by(self._callable, asked)
        if isinstance(given, str):
            return AccessToken(given)
        if not isinstance(given, AccessToken):
            raise TypeError(
                f"the generator of access tokens returned {type(given).__name__}, not text or an AccessToken"
            )
        return given


def _made(source: Any) -> Callable[..., Any]:
    made = source() if isinstance(source, type) else source
    if not callable(made):
        raise TypeError(f"{shown(source)} is not a generator of access tokens: it must be callable")
    return made  # type: ignore[no-any-return]


def _call(generate: Callable[..., Any], asked: dict[str, Any]) -> Any:
    return generate(**_taken_by(generate, asked))


def _taken_by(generate: Callable[..., Any], asked: dict[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments that a callable accepts."""
    try:
        parameters = inspect.signature(generate).parameters.values()
    except (TypeError, ValueError):  # written in C
        return {}
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return asked
    named = {each.name for each in parameters if each.kind is not each.POSITIONAL_ONLY}
    return {name: value for name, value in asked.items() if name in named}


# -- those built in -----------------------------------------------------------------------------------------------


class Grant:
    """Requests tokens from a token endpoint (RFC 6749). The cache makes sure that calls do not overlap.

    Arguments:
        now: returns the current time, in seconds since the epoch.
    """

    def __init__(self, options: OAuth2Options, now: Callable[[], float]) -> None:
        self._options = options
        self._now = now
        self._first = options.access_token
        self._refresh_token = options.refresh_token

    takes_username = False  # its options name the user

    def __call__(self, renew: bool, username: str | None) -> AccessToken:  # noqa: FBT001, ARG002 - as the cache calls it
        """Return a token.

        Raises RuntimeError if the endpoint returns no token, with its answer and what to do.
        """
        first, self._first = self._first, None
        if first is not None and not renew:
            return AccessToken(first.reveal(), user=self._options.account)
        try:
            return self._taken(self._ask())
        except Exception as error:
            if from_signal_handler(error):
                raise
            # An HTTP library can raise many types.
            problem = _with_hint(error, self._options)
        raise problem  # without its cause, which holds the request and so the secrets

    def _taken(self, answer: dict[str, Any]) -> AccessToken:
        expires_in = answer.get("expires_in")
        rotated = answer.get("refresh_token")
        is_new = bool(rotated) and self._refresh_token is not None and rotated != self._refresh_token.reveal()
        token = AccessToken(
            answer.get("access_token") or "",
            None if expires_in is None else self._now() + float(expires_in),
            self._options.account,
            refresh_token=rotated if is_new else None,
        )
        if is_new:
            self._refresh_token = Secret(str(rotated))
        return token

    def _ask(self) -> dict[str, Any]:
        if self._options.grant == SERVICE:
            return self._ask_for_service_account()
        from authlib.integrations.requests_client import OAuth2Session

        options = self._options
        with OAuth2Session(
            options.client_id,
            _revealed(options.client_secret),
            token_endpoint_auth_method=f"client_secret_{options.client_auth}" if options.client_secret else "none",
            scope=options.scope,
        ) as session:
            # A redirect would send the secrets to another host.
            how = {"timeout": options.timeout, "allow_redirects": False}
            if options.grant == CLIENT_CREDENTIALS:
                return dict(session.fetch_token(options.endpoint, grant_type=CLIENT_CREDENTIALS, **how))
            return dict(session.refresh_token(options.endpoint, _revealed(self._refresh_token), **how))

    def _ask_for_service_account(self) -> dict[str, Any]:
        from authlib.integrations.requests_client import AssertionSession
        from joserfc.jwk import RSAKey

        options, key = self._options, self._key_file()
        with AssertionSession(
            options.endpoint or key.get("token_uri", SERVICE_URL),
            issuer=key["client_email"],
            subject=options.subject or options.user,
            claims={"scope": options.scope or SERVICE_SCOPE},
            key=RSAKey.import_key(key["private_key"]),
            header={"alg": "RS256", **({"kid": key["private_key_id"]} if "private_key_id" in key else {})},
            default_timeout=options.timeout,
        ) as session:
            session.max_redirects = 0
            return dict(session.refresh_token())

    def _key_file(self) -> dict[str, Any]:
        info = self._options.service_account_info
        text = info.reveal() if info else Path(str(self._options.service_account_file)).read_text(encoding="utf-8")
        key: dict[str, Any] = json.loads(text)
        missing = [name for name in ("client_email", "private_key") if not key.get(name)]
        if missing:
            raise ValueError(f"the key of the service account has no {', '.join(missing)}")
        return key


def _revealed(secret: Secret | None) -> str | None:
    return secret.reveal() if secret is not None else None


# RFC 6749 §5.2: what to do for each error code of the endpoint.
ADVICE = {
    "invalid_grant": "the refresh token is not valid any more (expired, revoked, or used), or the service account may "
    "not act for this user: have the account's owner consent again",
    "invalid_client": "check client_id and client_secret: a secret may have expired",
    "unauthorized_client": "the application may not use this grant: allow it where the application is registered",
    "invalid_scope": "check scope",
    "unsupported_grant_type": "check token_url and grant",
}


def _with_hint(error: Exception, options: OAuth2Options) -> Exception:
    place = options.endpoint or "the token endpoint"
    advice = ADVICE.get(str(getattr(error, "error", "")))
    return RuntimeError(f"{place}: {error}" + (f" ({advice})" if advice else ""))


def generator_for(source: str | Same | OAuth2Options, now: Callable[[], float]) -> Generator | Grant:
    """Return the generator for a `token_source`."""
    return Grant(source, now) if isinstance(source, OAuth2Options) else Generator(source)
