"""What to do about a failure of setting up a session, for those who read it on a terminal. Pure."""

from __future__ import annotations

from .core.errors import AuthRefused, EhloRefused, Failure, NotOffered, ProtocolError, Stage, TokenUnavailable
from .core.options import ServerOptions

# By enhanced status code: how providers refuse logins that are right as such.
LOGIN = {
    (5, 7, 139): "Microsoft 365 refuses passwords here: switch on SMTP AUTH for the mailbox (Exchange admin center), "
    "or better log in by OAuth2 (option oauth2)",
    (5, 7, 9): "the provider wants an app password, made in the account's security settings, or OAuth2",
    (5, 7, 3): "check username and password; Microsoft 365 also says so where basic login is switched off: "
    "then use OAuth2",
}
GMAIL = "Gmail takes no account password: make an app password (myaccount.google.com/apppasswords), or use OAuth2"
WRONG = "check username and password; many providers want an app password or API key instead of the account's"
TOKEN = "the server does not take the access token: check its scope, and that it is for this username"  # noqa: S105
CERTIFICATE = (
    "the server does not take the client certificate for a login (EXTERNAL): check that its CA is one that the server "
    "trusts, and that the certificate is for this username, where one is set"
)
BLOCKED = (
    "nothing answers: a firewall or the hosting provider may block port {port} (25 is often blocked); "
    "try 587 with use_tls, 465 with use_ssl or 2525 with use_tls"
)
CLOSED = "no mail server listens at {host} port {port}: check both; 587 is usual with use_tls, 465 with use_ssl"
CLEAR = "the server speaks first, and in clear: use_ssl wants port 465, use_tls (STARTTLS) ports 587 and 25"
NO_LMTP = "the server knows no LHLO: leave lmtp out if it speaks SMTP here, or name the port where it speaks LMTP"
NO_SMTP = "the server knows neither EHLO nor HELO: set lmtp if it is a mailbox server that speaks LMTP"
BUSY = "the server is busy or counts too many connections: wait, or lower max_connections"


def advice_for(error: BaseException, server: ServerOptions) -> str | None:
    """Return what to do now, None where the error says it itself."""
    text = _advice(error, server)
    return text.format(host=server.host, port=server.port) if text else None


def _advice(error: BaseException, server: ServerOptions) -> str | None:
    if isinstance(error, (NotOffered, TokenUnavailable)):
        return None
    if isinstance(error, AuthRefused):
        return _about_login(error, server)
    if isinstance(error, Failure) and error.reply is not None and error.reply.code // 100 == 4:
        return BUSY
    if isinstance(error, ProtocolError) and error.stage is Stage.TLS and server.use_ssl:
        return CLEAR
    if isinstance(error, EhloRefused):
        return NO_LMTP if server.lmtp else NO_SMTP
    if getattr(error, "stage", None) is Stage.CONNECT:
        return _about_connecting(error)
    if isinstance(error, Failure) and error.reply is not None and error.reply.code == 530:
        return "the server wants a login, or TLS first: set username and password, and use_tls or use_ssl"
    return None


def _about_login(error: AuthRefused, server: ServerOptions) -> str:
    if error.reply is not None and error.reply.code // 100 == 4:
        return BUSY
    if server.uses_token:
        return TOKEN
    if server.uses_certificate or server.may_use_certificate:
        return CERTIFICATE
    enhanced = error.reply.enhanced if error.reply is not None else None
    if enhanced in LOGIN:
        return LOGIN[enhanced]
    return GMAIL if server.host.endswith((".gmail.com", ".googlemail.com")) else WRONG


def _about_connecting(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return BLOCKED
    if isinstance(error, ConnectionRefusedError):
        return CLOSED
    return "check host, and this machine's network: {host} port {port} cannot be reached"
