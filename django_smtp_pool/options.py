"""The table of options: the key, part and setting of each.

The type, default and meaning of an option are with its field in `core.options`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from .core.options.fields import Doc, callables, check_fields, choice, option, whole
from .core.options.options import PoolOptions, ServerOptions
from .services import find


@dataclass(frozen=True, kw_only=True)
class MailerOptions:
    """How a mailer uses its pool and reports what happened; not part of the pool's identity."""

    service: str | None = option(
        None,
        lambda value: find(value).name,
        "name, alias or domain of a well-known provider; your own options win over its preset",
    )
    batch_connections: int | None = option(
        None,
        whole(minimum=1),
        "connections that one `send_messages()` may use at once; 1 keeps the order. Default: `max_connections`",
    )
    finishers: tuple[Any, ...] = option(
        (),
        callables,
        "list of functions (callables or dotted paths) that get a rendered message as bytes and return it changed",
    )
    on_partial_refusal: str = option(
        "warn",
        choice("warn", "ignore", "raise"),
        "if some recipients are refused and others accepted: 'warn' (log), 'ignore', or 'raise' `PartiallyRefused`",
    )

    def __post_init__(self) -> None:
        check_fields(self)


Part = type[ServerOptions] | type[PoolOptions] | type[MailerOptions]


@dataclass(frozen=True)
class Option:
    """One option: its key, the part it belongs to, its setting, and what nodemailer calls it."""

    key: str
    part: Part
    setting: str
    nodemailer: str | None = None

    @property
    def doc(self) -> Doc:
        """The type and meaning of the option."""
        doc: Doc = self._field.metadata["doc"]
        return doc

    @property
    def default(self) -> Any:
        """The default value."""
        return self._field.default

    @property
    def is_stock(self) -> bool:
        """Whether Django's own backend has this option; then it reads the setting, not this package."""
        return self.key in STOCK_KEYS

    @property
    def is_identity(self) -> bool:
        """Whether the setting is about the server or account: under MAILERS, each mailer sets those itself."""
        return not self.setting.startswith("EMAIL_POOL_")

    @property
    def _field(self) -> Any:
        return next(spec for spec in fields(self.part) if spec.name == self.key)


STOCK_KEYS = (
    "host",
    "port",
    "username",
    "password",
    "use_tls",
    "use_ssl",
    "timeout",
    "ssl_keyfile",
    "ssl_certfile",
)

NONE_COUNTS = frozenset({"rate_wait"})  # options for which None is a value and not "not given"

OPTIONS = (
    Option("service", MailerOptions, "EMAIL_SERVICE", "service"),
    Option("host", ServerOptions, "EMAIL_HOST", "host"),
    Option("port", ServerOptions, "EMAIL_PORT", "port"),
    Option("username", ServerOptions, "EMAIL_HOST_USER", "user"),
    Option("password", ServerOptions, "EMAIL_HOST_PASSWORD", "pass"),
    Option("use_tls", ServerOptions, "EMAIL_USE_TLS", "requireTLS"),
    Option("use_ssl", ServerOptions, "EMAIL_USE_SSL", "secure"),
    Option("timeout", ServerOptions, "EMAIL_TIMEOUT", "socketTimeout"),
    Option("ssl_keyfile", ServerOptions, "EMAIL_SSL_KEYFILE"),
    Option("ssl_certfile", ServerOptions, "EMAIL_SSL_CERTFILE"),
    Option("opportunistic_tls", ServerOptions, "EMAIL_OPPORTUNISTIC_TLS", "opportunisticTLS"),
    Option("tls_options", ServerOptions, "EMAIL_TLS_OPTIONS", "tls"),
    Option("local_hostname", ServerOptions, "EMAIL_LOCAL_HOSTNAME", "name"),
    Option("source_address", ServerOptions, "EMAIL_SOURCE_ADDRESS", "localAddress"),
    Option("connection_timeout", ServerOptions, "EMAIL_CONNECTION_TIMEOUT", "connectionTimeout"),
    Option("greeting_timeout", ServerOptions, "EMAIL_GREETING_TIMEOUT", "greetingTimeout"),
    Option("data_timeout", ServerOptions, "EMAIL_DATA_TIMEOUT"),
    Option("auth_method", ServerOptions, "EMAIL_AUTH_METHOD", "authMethod"),
    Option("oauth2_token", ServerOptions, "EMAIL_OAUTH2_TOKEN", "accessToken"),
    Option("oauth2_generator", ServerOptions, "EMAIL_OAUTH2_GENERATOR", "xoauth2"),
    Option("oauth2", ServerOptions, "EMAIL_OAUTH2"),
    Option("allow_insecure_auth", ServerOptions, "EMAIL_ALLOW_INSECURE_AUTH"),
    Option("max_connections", PoolOptions, "EMAIL_POOL_MAX_CONNECTIONS", "maxConnections"),
    Option("max_messages", PoolOptions, "EMAIL_POOL_MAX_MESSAGES", "maxMessages"),
    Option("min_connections", PoolOptions, "EMAIL_POOL_MIN_CONNECTIONS"),
    Option("idle_timeout", PoolOptions, "EMAIL_POOL_IDLE_TIMEOUT", "idleTimeout"),
    Option("max_lifetime", PoolOptions, "EMAIL_POOL_MAX_LIFETIME"),
    Option("acquire_timeout", PoolOptions, "EMAIL_POOL_ACQUIRE_TIMEOUT"),
    Option("max_waiting", PoolOptions, "EMAIL_POOL_MAX_WAITING"),
    Option("delivery_timeout", PoolOptions, "EMAIL_POOL_DELIVERY_TIMEOUT"),
    Option("max_requeues", PoolOptions, "EMAIL_POOL_MAX_REQUEUES", "maxRequeues"),
    Option("batch_connections", MailerOptions, "EMAIL_POOL_BATCH_CONNECTIONS"),
    Option("rate_limit", PoolOptions, "EMAIL_POOL_RATE_LIMIT", "rateLimit"),
    Option("rate_delta", PoolOptions, "EMAIL_POOL_RATE_DELTA", "rateDelta"),
    Option("rate_limits", PoolOptions, "EMAIL_POOL_RATE_LIMITS"),
    Option("rate_wait", PoolOptions, "EMAIL_POOL_RATE_WAIT"),
    Option("rate_storage", PoolOptions, "EMAIL_POOL_RATE_STORAGE"),
    Option("on_rate_storage_failure", PoolOptions, "EMAIL_POOL_ON_RATE_STORAGE_FAILURE"),
    Option("finishers", MailerOptions, "EMAIL_POOL_FINISHERS"),
    Option("on_partial_refusal", MailerOptions, "EMAIL_POOL_ON_PARTIAL_REFUSAL"),
    Option("proxy", ServerOptions, "EMAIL_POOL_PROXY", "proxy"),
    Option("pipelining", ServerOptions, "EMAIL_POOL_PIPELINING"),
    Option("chunking", ServerOptions, "EMAIL_POOL_CHUNKING"),
    Option("lmtp", ServerOptions, "EMAIL_POOL_LMTP", "lmtp"),
    Option("debug", ServerOptions, "EMAIL_POOL_DEBUG", "debug"),
)

BY_KEY = {option.key: option for option in OPTIONS}
