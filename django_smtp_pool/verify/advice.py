"""Advice for errors of a session, written for people at a terminal. Pure."""

from __future__ import annotations

from ..core.errors import SETUP_STAGES, AuthRefused, EhloRefused, NotOffered, ProtocolError, Stage, TokenUnavailable
from ..core.options.host import socket_path
from ..core.options.options import ServerOptions
from ..core.rate_limit.redis import StorageFailed
from ..core.replies import Reply
from .refusals import known_advice

STRONGER = (5, 7, 9)  # RFC 4954 §6: authentication mechanism is too weak
APP_PASSWORD = "the provider requires an app password (create one in the account's security settings) or OAuth2"  # noqa: S105
WRONG = "check username and password; many providers require an app password or API key instead of the account's"
TOKEN = "the server refused the access token: check its scope, and that it belongs to this username"  # noqa: S105
CERTIFICATE = (
    "the server refused the login with the client certificate (EXTERNAL): check that the server trusts its CA, and "
    "that the certificate belongs to this username, if one is set"
)
BLOCKED = (
    "no answer: a firewall or the hosting provider may block port {port} (25 is often blocked); "
    "try 587 with use_tls, 465 with use_ssl or 2525 with use_tls"
)
CLOSED = "no mail server listens at {host} port {port}: check both; 587 is usual with use_tls, 465 with use_ssl"
CLEAR = "the server began in plain text: use_ssl needs port 465; use_tls (STARTTLS) needs port 587 or 25"
BY_PROXY = (
    "check that the proxy {proxy} is running, and that its rules and network allow connections to {host} port {port}"
)
BUSY = "the server is busy, or there are too many connections or logins: wait, or lower max_connections"
COUNTED = (
    "the server is busy, or there are too many connections or messages: wait, set rate_limit, or lower max_connections "
    "(it applies to each process)"
)
LATER = "a temporary refusal (4xx): the server may accept the same message later"
NOBODY = "the server requires a login, or TLS first: set username and password, and use_tls or use_ssl"
NO_LMTP = "the server does not know LHLO: remove lmtp if this port is for SMTP, or set the port for LMTP"
NO_SMTP = "the server knows neither EHLO nor HELO: set lmtp if it is an LMTP server"
STORE = "check the storage of the rate limit, or correct rate_storage; until then on_rate_storage_failure applies"


def advice_for(error: BaseException, server: ServerOptions) -> str | None:
    """Return what to do about an error, or None if the error says it itself."""
    text = _advice(error, server)
    proxy = server.proxy.place if server.proxy is not None else ""
    return text.format(host=server.host, port=server.port, proxy=proxy) if text else None


def _advice(error: BaseException, server: ServerOptions) -> str | None:
    if isinstance(error, (NotOffered, TokenUnavailable)):
        return None
    if isinstance(error, StorageFailed):
        return STORE
    stage, reply = getattr(error, "stage", None), getattr(error, "reply", None)
    if isinstance(error, ProtocolError) and stage is Stage.TLS and server.use_ssl:
        return CLEAR
    if reply is not None and reply.is_refusal:
        return known_advice(reply, stage, server) or _about_refusal(error, reply, stage, server)
    return _about_connecting(error, server) if stage is Stage.CONNECT else None


def _about_refusal(error: BaseException, reply: Reply, stage: Stage | None, server: ServerOptions) -> str | None:
    if reply.is_about_connection:
        return COUNTED
    if reply.is_transient:
        return BUSY if stage in SETUP_STAGES else LATER
    if isinstance(error, AuthRefused):
        return _about_login(reply, server)
    if isinstance(error, EhloRefused):
        return NO_LMTP if server.lmtp else NO_SMTP
    return NOBODY if reply.code == 530 else None


def _about_login(reply: Reply, server: ServerOptions) -> str:
    if server.uses_token:
        return TOKEN
    if server.uses_certificate or server.may_use_certificate:
        return CERTIFICATE
    return APP_PASSWORD if reply.enhanced == STRONGER else WRONG


def _about_connecting(error: BaseException, server: ServerOptions) -> str | None:
    if socket_path(server.host) is not None:
        return None
    if server.proxy is not None:
        return BY_PROXY
    if isinstance(error, TimeoutError):
        return BLOCKED
    if isinstance(error, ConnectionRefusedError):
        return CLOSED
    return "check host, and this machine's network: {host} port {port} cannot be reached"
