"""The source of access tokens, as an option: a generator of the project, or the dict `oauth2`. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MethodType
from typing import Any
from urllib.parse import urlsplit

from .fields import (
    Secret,
    check_fields,
    choice,
    is_dotted_path,
    made_of,
    nonempty_text,
    option,
    path,
    seconds,
    secret,
    shown,
)

SERVICE_ACCOUNT = ("service_account_file", "service_account_info")
REFRESH_TOKEN, CLIENT_CREDENTIALS, SERVICE = "refresh_token", "client_credentials", "service_account"
GRANTS = (REFRESH_TOKEN, CLIENT_CREDENTIALS, SERVICE)
NEEDED = {
    REFRESH_TOKEN: ("client_id", "refresh_token", "token_url"),
    CLIENT_CREDENTIALS: ("client_id", "client_secret", "token_url"),
    SERVICE: (),
}
# What the preset of a provider adds. A refresh token has its scope already (RFC 6749 §6), a key file its URL.
PRESET = {REFRESH_TOKEN: ("token_url",), CLIENT_CREDENTIALS: ("token_url", "scope"), SERVICE: ("scope",)}


class Same:
    """A wrapper that compares an object by identity, even if it defines equality: it is part of a pool's key."""

    def __init__(self, value: Any) -> None:
        self.value = value
        # Each access to a bound method returns a new object, so compare its parts.
        bound = (value.__self__, value.__func__) if isinstance(value, MethodType) else (value,)
        self._identity = tuple(map(id, bound))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def __repr__(self) -> str:
        kind = self.value if isinstance(self.value, type) else type(self.value)
        return f"<{getattr(self.value, '__qualname__', kind.__qualname__)}>"


def generator(value: Any) -> str | Same:
    """Accept a callable, compared by identity, or the dotted path of a callable, class or factory."""
    if isinstance(value, Same):
        return value
    if isinstance(value, str):
        if not is_dotted_path(value):
            raise ValueError(f"must be a dotted path such as 'project.mail.access_token', not {shown(value)}")
        return value
    if not callable(value):
        raise ValueError(f"must be a callable or a dotted path, not {type(value).__name__}")
    return Same(value)


def _https(value: Any) -> str:
    url = urlsplit(nonempty_text(value))
    if not url.hostname or url.scheme not in {"https", "http"}:
        raise ValueError(f"must be a URL such as 'https://oauth2.example.com/token', not {shown(value)}")
    if url.scheme == "http" and url.hostname not in {"localhost", "127.0.0.1", "::1"}:
        raise ValueError(f"must begin with https: secrets are sent to {url.hostname}")
    return str(value)


def _key(value: Any) -> Secret:
    if isinstance(value, Mapping):
        return Secret(json.dumps(dict(value), sort_keys=True))
    try:
        is_object = isinstance(json.loads(secret(value).reveal()), dict)
    except ValueError:
        is_object = False
    if not is_object:
        raise ValueError("must be a dict, or the JSON text of one")
    return secret(value)


@dataclass(frozen=True, kw_only=True)
class OAuth2Options:
    """An OAuth2 grant, and the values that it needs (RFC 6749 §4.4 and §6, RFC 7523)."""

    grant: str = option("", choice(*GRANTS), "'refresh_token', 'client_credentials' or 'service_account'")
    client_id: str | None = option(None, nonempty_text, "the application's id, as registered with the provider")
    client_secret: Secret | None = option(None, secret, "the application's secret; a public client has none")
    client_auth: str = option(
        "post", choice("post", "basic"), "'post' sends the secret in the body, 'basic' in a header"
    )
    refresh_token: Secret | None = option(None, secret, "the token that the account's owner consented to")
    access_token: Secret | None = option(None, secret, "a first access token, used until it is refused")
    token_url: str | None = option(None, _https, "URL of the token endpoint; a known `service` has a default")
    tenant: str | None = option(None, nonempty_text, "replaces {tenant} in `token_url` (Microsoft)")
    scope: str | None = option(None, nonempty_text, "the permissions of the token; a known `service` has a default")
    user: str | None = option(None, nonempty_text, "the account, if `username` is not set")
    service_account_file: str | None = option(None, path, "key file of a Google service account")
    service_account_info: Secret | None = option(None, _key, "the contents of such a file, as a dict or as JSON")
    subject: str | None = option(None, nonempty_text, "the account that the service account acts for")
    timeout: float = option(30.0, seconds(), "time limit for the token endpoint")

    def __post_init__(self) -> None:
        object.__setattr__(self, "grant", self.grant or grant_of(vars(self)))
        check_fields(self, self._problems)

    def _problems(self) -> Iterator[str]:
        missing = [key for key in NEEDED.get(self.grant, ()) if not getattr(self, key)]
        if self.grant == SERVICE and not any(getattr(self, key) for key in SERVICE_ACCOUNT):
            missing = [" or ".join(SERVICE_ACCOUNT)]
        if missing:
            yield f"for {self.grant} needs {', '.join(missing)}"
        if self.grant == CLIENT_CREDENTIALS and "{tenant}" in (self.token_url or "") and not self.tenant:
            yield f"for {self.grant} needs tenant: the id or domain of your tenant"

    @property
    def endpoint(self) -> str | None:
        """The token URL with the tenant filled in."""
        return self.token_url and self.token_url.replace("{tenant}", self.tenant or "common")

    @property
    def account(self) -> str | None:
        """The account, if this option names it."""
        return self.user or self.subject


def grant_of(given: Mapping[str, Any]) -> str:
    """Return the grant, by its name or from the keys that are set."""
    if given.get("grant"):
        return str(given["grant"])
    return SERVICE if any(given.get(key) for key in SERVICE_ACCOUNT) else REFRESH_TOKEN


def oauth2(value: Any) -> OAuth2Options:
    """Accept a dict."""
    if isinstance(value, OAuth2Options):
        return value
    if not isinstance(value, Mapping):
        raise ValueError(f"must be a dict, not {type(value).__name__}")  # its contents are secret
    return made_of(OAuth2Options, {key: each for key, each in value.items() if each is not None})


def completed(value: Any, *, preset: Mapping[str, str], username: str | None) -> Any:
    """Return the dict, completed from the provider's preset and the account's name."""
    if not isinstance(value, Mapping):
        return value
    given = {key: each for key, each in value.items() if each is not None}
    grant = grant_of(given)
    added = {key: preset[key] for key in PRESET.get(grant, ()) if key in preset}
    # One application may act for many accounts: the accounts of one client share its token.
    if username and grant == SERVICE:
        added["subject"] = username
    elif username and grant == REFRESH_TOKEN:
        added["user"] = username
    return {**added, **given}
