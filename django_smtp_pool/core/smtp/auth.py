"""Choose SASL mechanisms (RFC 4954 §4): those that may be used with this server, best first. Pure.

A mechanism that sends the secret itself (PLAIN, LOGIN) is not chosen on a connection that others could read.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import Enum, auto

from ..errors import NotOffered, Stage
from ..options import extras
from ..options.options import ServerOptions
from ..replies import PASSWORD_WANTED, Reply
from .experience import Experience
from .sasl import CramMD5, External, Login, Mechanism, OAuthBearer, Plain, XOAuth2
from .scram import Scram, ScramSHA1, ScramSHA256

# In order of preference: mechanisms that do not reveal the secret come first.
PASSWORD_MECHANISMS: tuple[type[Mechanism], ...] = (ScramSHA256, ScramSHA1, CramMD5, Plain, Login)
TOKEN_MECHANISMS: tuple[type[Mechanism], ...] = (XOAuth2, OAuthBearer)

NO_AUTH = "SMTP AUTH extension not supported by server."  # smtplib's words
TOO_WEAK = (5, 7, 9)
MOST_REFUSED = 2  # logins per session


def choose(server: ServerOptions, offered: Collection[str], *, encrypted: bool) -> list[type[Mechanism]]:
    """Return the mechanisms to try, best first; an empty list if there are no credentials.

    If there is only a client certificate, it is used to log in if the server offers that; if not, the server may
    accept the certificate itself. SCRAM is skipped if its library is not installed.

    Arguments:
        server: the credentials, and the mechanism that the user requires, if any.
        offered: names from the server's AUTH line.
        encrypted: whether TLS protects the connection.

    Raises NotOffered if there are credentials, but the server offers no login, not the required mechanism, no mechanism
    that we support, or only mechanisms that would send the password unencrypted.
    """
    if not server.has_login:
        by_certificate = server.may_use_certificate and encrypted and External.name in offered
        return [External] if by_certificate else []
    wanted = [kind for kind in _usable(server) if server.auth_method in {None, kind.name}]
    common = [kind for kind in wanted if kind.name in offered]
    safe = [kind for kind in common if encrypted or server.may_reveal_secret or not kind.reveals_secret]
    if not safe:
        raise NotOffered(_why_none(server, offered, wanted, common), stage=Stage.AUTH)
    return safe


def plan(
    server: ServerOptions, offered: Collection[str], *, encrypted: bool, experience: Experience
) -> list[type[Mechanism]]:
    """Return the result of `choose`, without the proofs if the password is known to work better.

    A server that stores only hashes may offer CRAM-MD5 or SCRAM and refuse every proof, and each refusal counts towards
    locking the account.
    """
    kinds = choose(server, offered, encrypted=encrypted)
    reveal = [kind for kind in kinds if kind.reveals_secret]
    return reveal if reveal and (experience.refuses_proofs or experience.password_next) else kinds


class Next(Enum):
    """Which login may follow a refused one."""

    NOTHING = auto()
    PASSWORD = auto()  # a mechanism that sends the secret itself
    ANY = auto()  # the next mechanism of the plan


def what_follows(kind: type[Mechanism], reply: Reply, *, encrypted: bool) -> Next:
    """Decide from the reply to a login (RFC 4954 §6)."""
    if reply.code == 504 or (reply.code == 534 and reply.enhanced == TOO_WEAK):
        return Next.ANY  # it is about the mechanism, not about the credentials
    if reply.code == 432 and reply.enhanced == PASSWORD_WANTED and encrypted:
        return Next.PASSWORD
    if reply.is_permanent and not kind.reveals_secret:
        return Next.PASSWORD
    return Next.NOTHING


def _why_none(
    server: ServerOptions,
    offered: Collection[str],
    wanted: Collection[type[Mechanism]],
    common: Sequence[type[Mechanism]],
) -> str:
    if not offered:
        return f"{NO_AUTH} {server.host} offers no login (AUTH), and {_who(server)} set"
    if not common:
        names = [server.auth_method] if server.auth_method else [kind.name for kind in wanted]
        return (
            f"{server.host} offers only {', '.join(sorted(offered))}, but the {_kind_of_secret(server)} can "
            f"only be used with {', '.join(names)}{_hint(server, offered)}"
        )
    return (
        f"the {_kind_of_secret(server)} would be sent to {server.host}{server.detour} unencrypted "
        f"({common[0].name} without TLS): set use_tls or use_ssl. To send it unencrypted on purpose, set "
        "allow_insecure_auth"
    )


def _usable(server: ServerOptions) -> list[type[Mechanism]]:
    """Return the mechanisms for the credentials, whatever the server offers."""
    if server.uses_certificate:
        return [External]
    # A token is never sent as a password, or a password as a token: it would be revealed to the wrong service.
    kinds = TOKEN_MECHANISMS if server.uses_token else PASSWORD_MECHANISMS
    missing = extras.missing("scram")
    return [kind for kind in kinds if not (missing and issubclass(kind, Scram))]


def _who(server: ServerOptions) -> str:
    if server.uses_certificate:
        return "auth_method is"
    return f"username and {_kind_of_secret(server)} are"


def _hint(server: ServerOptions, offered: Collection[str]) -> str:
    if server.uses_certificate:
        return ": many servers offer that only to a certificate that they trust, and ours may be of another CA"
    missing = extras.missing("scram")
    names = [kind.name for kind in PASSWORD_MECHANISMS if issubclass(kind, Scram) and kind.name in offered]
    return f" ({' and '.join(names)} {missing})" if names and missing and not server.uses_token else ""


def _kind_of_secret(server: ServerOptions) -> str:
    if server.uses_certificate:
        return "client certificate"
    return "token" if server.uses_token else "password"
