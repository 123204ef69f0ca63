"""The server, the account, and how to communicate with the server, as options. Pure.

The object is frozen and compared field by field, so mail of one account never uses the connection of another.
Everything that affects identity or security is a field.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from .fields import (
    Secret,
    check_fields,
    choice,
    flag,
    option,
    path,
    seconds,
    secret,
    source_address,
    text,
    whole,
)
from .host import Target, greeting_name, is_loopback, place_of, server_host, socket_path
from .oauth2 import OAuth2Options, Same
from .oauth2 import generator as token_generator
from .oauth2 import oauth2 as oauth2_options
from .proxy_url import ProxyURL, proxy_url
from .tls import TLSOptions
from .tls import tls_options as tls_dict

TOKEN_MECHANISMS = ("XOAUTH2", "OAUTHBEARER")
TOKEN_KEYS = ("oauth2_token", "oauth2_generator", "oauth2")
SCRAM_MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-1")
PROOF_MECHANISMS = (*SCRAM_MECHANISMS, "CRAM-MD5")  # they prove that the client knows the password, without sending it
EXTERNAL = "EXTERNAL"
MECHANISMS = ("PLAIN", "LOGIN", *PROOF_MECHANISMS, EXTERNAL, *TOKEN_MECHANISMS)


@dataclass(frozen=True, kw_only=True)
class Waits:
    """Maximum seconds of a single wait for the server, by the kind of wait."""

    connect: float
    greeting: float
    reply: float
    end_of_data: float


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """The server, the account, and how to communicate with the server."""

    host: str = option("localhost", server_host, "name or IP address of the server, or `unix:/path` of its socket")
    port: int = option(25, whole(minimum=1, maximum=65535), "TCP port")
    username: str | None = option(
        None, text, "name to log in with; there is no login unless a password or token is set too"
    )
    password: Secret | None = option(None, secret, "the account's password")
    use_tls: bool = option(False, flag, "require STARTTLS: if the server does not offer it, sending fails")
    use_ssl: bool = option(False, flag, "use implicit TLS (port 465)")
    timeout: float | None = option(
        None,
        seconds(),
        "time limit for each reply, and for the server to accept what is sent; if it is set, it also bounds every "
        "other wait whose option is not set. Default: 60",
    )
    opportunistic_tls: bool = option(
        False, flag, "use STARTTLS if the server offers it, else send unencrypted; does not protect against attackers"
    )
    ssl_keyfile: str | None = option(None, path, "private key of the client certificate, a PEM file")
    ssl_certfile: str | None = option(
        None, path, "client certificate, a PEM file; the system's CA certificates are loaded too"
    )
    tls_options: TLSOptions = option(
        TLSOptions(),
        tls_dict,
        "dictionary with `ca_file`, `verify`, `minimum_version`, `ciphers`, `server_hostname`, `context`",
    )
    local_hostname: str | None = option(
        None,
        greeting_name,
        "name for EHLO. Default: this machine's name, or its IP address if the name has no dot",
    )
    source_address: tuple[str, int] | None = option(
        None, source_address, "local IP address to connect from, or (IP address, port)"
    )
    connection_timeout: float | None = option(
        None,
        seconds(),
        "time limit for connecting: name resolution, every address, TCP. Default: `timeout` if it is set, else 30",
    )
    greeting_timeout: float | None = option(
        None,
        seconds(),
        "time limit for each of greeting, EHLO, STARTTLS and TLS handshake. Default: `timeout` if it is set, else 30",
    )
    data_timeout: float | None = option(
        None,
        seconds(),
        "time limit for the reply to the end of the data; a short one makes more outcomes unknown. "
        "Default: `timeout` if it is set, else 120",
    )
    auth_method: str | None = option(
        None, choice(*MECHANISMS, upper=True), "SASL mechanism to use, instead of the best one that is offered"
    )
    oauth2_token: Secret | None = option(
        None, secret, "fixed OAuth2 access token, used instead of the password; needs `username`"
    )
    oauth2_generator: str | Same | None = option(
        None, token_generator, "callable that returns access tokens, or the dotted path of a callable, class or factory"
    )
    oauth2: OAuth2Options | None = option(
        None, oauth2_options, "dictionary for the built-in generators of access tokens"
    )
    allow_insecure_auth: bool = option(
        False, flag, "allow a password or token to be sent without TLS to another machine"
    )
    proxy: ProxyURL | None = option(
        None,
        proxy_url,
        "URL of a proxy to connect through: `socks5://`, `socks5h://` (the proxy resolves the name), `http://`",
    )
    pipelining: bool = option(True, flag, "send several commands at once if the server offers PIPELINING")
    chunking: bool = option(True, flag, "send the content with BDAT if the server offers CHUNKING")
    lmtp: bool = option(
        False, flag, "use LMTP, to your own mailbox server, with a reply for each recipient; the default port is 24"
    )
    debug: bool = option(
        False, flag, "log the dialogue with the server to `django_smtp_pool.wire`, with secrets and bodies masked"
    )

    def __post_init__(self) -> None:
        check_fields(self, self._problems)

    def _problems(self) -> Iterator[str]:
        if self.use_tls and self.use_ssl:
            yield (
                "use_tls and use_ssl exclude each other: use_tls is STARTTLS (port 587), "
                "use_ssl is TLS from the first octet (port 465); set one of them"
            )
        if self.ssl_keyfile and not self.ssl_certfile:
            yield "ssl_keyfile needs ssl_certfile: set it, or remove ssl_keyfile"
        yield from self._token_problems()
        yield from self._certificate_problems()
        yield from self._way_problems()

    def _way_problems(self) -> Iterator[str]:
        is_unix = socket_path(self.host) is not None
        if is_unix and self.may_encrypt and not self.tls_options.server_hostname:
            yield (
                "tls_options needs server_hostname with a unix socket: the name in the server's certificate; "
                "or turn TLS off, because a unix socket does not leave this machine"
            )
        if is_unix and self.source_address:
            yield "source_address cannot be used with a unix socket: remove one of them"
        if is_unix and self.proxy:
            yield "proxy cannot be used with a unix socket: remove one of them"
        if self.proxy and self.source_address:
            yield "proxy and source_address exclude each other: the server sees the address of the proxy; remove one"

    def _token_problems(self) -> Iterator[str]:
        given = [key for key in TOKEN_KEYS if getattr(self, key)]
        if len(given) > 1:
            yield f"{' and '.join(given)} exclude each other: set one of them"
        if self.oauth2_token and not self.username:
            yield "oauth2_token needs username: the account that the token is for"
        if self.oauth2 is not None and not (self.username or self.oauth2.account):
            yield "oauth2 needs username (or its own key user or subject): the account that logs in"
        if self.auth_method not in {None, EXTERNAL} and (self.auth_method in TOKEN_MECHANISMS) != self.uses_token:
            wanted = "oauth2_token; a password is never sent as a token" if not self.uses_token else "a password"
            yield f"auth_method {self.auth_method} needs {wanted}"

    def _certificate_problems(self) -> Iterator[str]:
        if not self.uses_certificate:
            return
        if self.uses_token:
            yield "auth_method EXTERNAL and access tokens exclude each other: EXTERNAL is for client certificates"
        if not (self.ssl_certfile or self.tls_options.context):
            yield "auth_method EXTERNAL needs ssl_certfile: the client certificate to log in with"
        if not (self.use_tls or self.use_ssl):
            yield "auth_method EXTERNAL needs use_tls or use_ssl: a client certificate needs TLS"

    def __repr__(self) -> str:
        """Show the options without the secrets."""
        shown = {each.name: getattr(self, each.name) for each in fields(self)} | {"username": self.shown_username}
        return f"ServerOptions({', '.join(f'{key}={value!r}' for key, value in shown.items())})"

    @property
    def shown_username(self) -> str | None:
        """The account for display; hidden if it equals the secret, since some servers use one token for both."""
        is_secret = self.password is not None and self.username == self.password.reveal()
        return "***" if is_secret else self.username

    @property
    def has_login(self) -> bool:
        """Whether to log in: as in Django's backend, if username and secret are set; or if EXTERNAL is requested."""
        has_secret = self.token_source is not None or (self.username and (self.password or self.oauth2_token))
        return bool(has_secret or self.uses_certificate)

    @property
    def lacks_secret(self) -> bool:
        """Whether a username is set without a secret to log in with: an environment variable may be missing."""
        return bool(self.username) and not (self.has_login or self.may_use_certificate)

    @property
    def uses_certificate(self) -> bool:
        """Whether to log in only with the client certificate; a password is not used."""
        return self.auth_method == EXTERNAL

    @property
    def may_use_certificate(self) -> bool:
        """Whether to log in with the client certificate if the server offers it, since nothing else is set."""
        return bool(self.ssl_certfile and not self.password and not self.uses_token and self.auth_method is None)

    @property
    def uses_token(self) -> bool:
        """Whether to log in with an access token; a password is not used."""
        return bool(self.oauth2_token) or self.token_source is not None

    @property
    def token_source(self) -> str | Same | OAuth2Options | None:
        """The source of access tokens; None if a fixed token or no token is set."""
        return self.oauth2_generator or self.oauth2

    @property
    def may_encrypt(self) -> bool:
        """Whether a session may use TLS."""
        return self.use_tls or self.use_ssl or self.opportunistic_tls

    @property
    def target(self) -> Target:
        """Where to connect to, and how."""
        return Target(host=self.host, port=self.port, source_address=self.source_address, proxy=self.proxy)

    @property
    def place(self) -> str:
        """The server, for logs and errors."""
        return place_of(self.host, self.port)

    @property
    def detour(self) -> str:
        """Text to follow the server's name if there is a proxy; otherwise ""."""
        return f" through the proxy {self.proxy.place}" if self.proxy is not None else ""

    @property
    def waits(self) -> Waits:
        """Maximum duration of each kind of wait. As in Django's backend, `timeout` is the default for all of them."""
        return Waits(
            connect=self.connection_timeout or self.timeout or 30.0,
            greeting=self.greeting_timeout or self.timeout or 30.0,
            reply=self.timeout or 60.0,
            end_of_data=self.data_timeout or self.timeout or 120.0,  # RFC 5321 §4.5.3.2.6 says 600
        )

    @property
    def may_reveal_secret(self) -> bool:
        """Whether a reusable secret may be sent without TLS: only to this machine, or if the options allow it."""
        return self.allow_insecure_auth or (is_loopback(self.host) and self.proxy is None)
