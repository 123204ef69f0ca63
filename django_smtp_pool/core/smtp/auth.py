"""The choice among SASL mechanisms (RFC 4954 §4): what may be used with this server, best first. Pure.

No mechanism that sends the secret itself (PLAIN, LOGIN) is chosen on a connection that others could read.
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

# In order of preference: what reveals no secret comes first.
PASSWORD_MECHANISMS: tuple[type[Mechanism], ...] = (ScramSHA256, ScramSHA1, CramMD5, Plain, Login)
TOKEN_MECHANISMS: tuple[type[Mechanism], ...] = (XOAuth2, OAuthBearer)

NO_AUTH = "SMTP AUTH extension not supported by server."  # smtplib's words
TOO_WEAK = (5, 7, 9)
MOST_REFUSED = 2  # logins of one session


def choose(server: ServerOptions, offered: Collection[str], *, encrypted: bool) -> list[type[Mechanism]]:
    """Return the mechanisms to try, best first; none where there is nobody to log in as.

    A client certificate is a login where nothing else is and the server offers that; where it does not, it lets the
    certificate itself in, or nobody. SCRAM is passed over where its library is not installed.

    Arguments:
        server: who we are, and the mechanism the user insists on, if any.
        offered: names from the server's AUTH line.
        encrypted: whether TLS protects the connection.

    Raises NotOffered where there is somebody to log in as, and the server offers no login, not the one insisted on,
    none that we speak, or only such as would send the password in clear.
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
    """Return what `choose` returns, without the proofs where the password itself is known to do better.

    A server that keeps only hashes may offer CRAM-MD5 or SCRAM and refuse every answer, and each refusal counts towards
    a lock.
    """
    kinds = choose(server, offered, encrypted=encrypted)
    reveal = [kind for kind in kinds if kind.reveals_secret]
    return reveal if reveal and (experience.refuses_proofs or experience.password_next) else kinds


class Next(Enum):
    """What may follow a login that was not accepted."""

    NOTHING = auto()
    PASSWORD = auto()  # a mechanism that sends the secret itself
    ANY = auto()  # the next mechanism of the plan


def what_follows(kind: type[Mechanism], reply: Reply, *, encrypted: bool) -> Next:
    """Decide by the reply that ended a login (RFC 4954 §6)."""
    if reply.code == 504 or (reply.code == 534 and reply.enhanced == TOO_WEAK):
        return Next.ANY  # it is about the mechanism, and not about who we are
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
            f"{server.host} offers login by {', '.join(sorted(offered))}, and with the {_kind_of_secret(server)} "
            f"we can only use {', '.join(names)}{_hint(server, offered)}"
        )
    return (
        f"the {_kind_of_secret(server)} would be sent to {server.host}{server.detour} unencrypted "
        f"({common[0].name} without TLS): set use_tls or use_ssl. To send it unencrypted on purpose, set "
        "allow_insecure_auth"
    )


def _usable(server: ServerOptions) -> list[type[Mechanism]]:
    """Return what we can use with what we have, whatever the server offers."""
    if server.uses_certificate:
        return [External]
    # A token is never sent as a password, nor a password as a token: somebody else would learn it.
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
