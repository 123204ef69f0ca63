"""SASL mechanisms as small pure objects (RFC 4954, RFC 4422), and the choice among them.

A mechanism answers challenges; octets in, octets out, before and after base64. No mechanism that sends the
secret itself (PLAIN, LOGIN) is chosen on a connection that others could read.
"""

from __future__ import annotations

import hmac
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import ClassVar

from .errors import NotOffered, Stage
from .kinds import Secret
from .options import ServerOptions


@dataclass(kw_only=True)
class Mechanism(ABC):
    """One login by one mechanism; made anew for each connection."""

    name: ClassVar[str]
    reveals_secret: ClassVar[bool]

    username: str
    secret: Secret = field(repr=False)
    explanation: str = field(default="", init=False)  # what the server said before it refused, if anything

    def initial(self) -> bytes | None:
        """Return what goes out together with AUTH, or None to wait for the server's first challenge."""
        return None

    @abstractmethod
    def respond(self, challenge: bytes) -> bytes:
        """Answer a challenge."""


class Plain(Mechanism):
    """PLAIN (RFC 4616): name and password in one go."""

    name = "PLAIN"
    reveals_secret = True

    def initial(self) -> bytes:
        """Return NUL name NUL password."""
        return f"\0{self.username}\0{self.secret.reveal()}".encode()

    def respond(self, challenge: bytes) -> bytes:  # noqa: ARG002 - the server asks with an empty one
        """Send the same to a server that did not take it with AUTH."""
        return self.initial()


@dataclass(kw_only=True)
class Login(Mechanism):
    """LOGIN (draft-murchison-sasl-login): the name at the first challenge, the password at the second."""

    name = "LOGIN"
    reveals_secret = True

    _asked: int = 0

    def respond(self, challenge: bytes) -> bytes:  # noqa: ARG002 - servers word it as they like: the order counts
        """Answer by order."""
        self._asked += 1
        return (self.username if self._asked == 1 else self.secret.reveal()).encode()


class CramMD5(Mechanism):
    """CRAM-MD5 (RFC 2195): proves knowledge of the password without sending it."""

    name = "CRAM-MD5"
    reveals_secret = False

    def respond(self, challenge: bytes) -> bytes:
        """Return the name and the keyed digest of the challenge."""
        digest = hmac.new(self.secret.reveal().encode(), challenge, "md5").hexdigest()
        return f"{self.username} {digest}".encode()


class _Bearer(Mechanism):
    """A mechanism that sends an access token; a refusal comes as a challenge that says why, in JSON."""

    reveals_secret = True
    _acknowledgement: ClassVar[bytes]

    def respond(self, challenge: bytes) -> bytes:
        """Remember why the token was refused, and let the server go on to its final reply."""
        if not challenge:  # it did not take the token together with AUTH
            return self.initial() or b""
        self.explanation = challenge.decode("utf-8", "backslashreplace")
        return self._acknowledgement


class XOAuth2(_Bearer):
    """XOAUTH2 (Google, Microsoft): name and access token in one go."""

    name = "XOAUTH2"
    _acknowledgement = b""

    def initial(self) -> bytes:
        """Return the two fields, each ended by a Ctrl-A."""
        return f"user={self.username}\1auth=Bearer {self.secret.reveal()}\1\1".encode()


class OAuthBearer(_Bearer):
    """OAUTHBEARER (RFC 7628): the same, as it was standardised."""

    name = "OAUTHBEARER"
    _acknowledgement = b"\1"

    def initial(self) -> bytes:
        """Return the GS2 header and the token (§3.1)."""
        name = self.username.replace("=", "=3D").replace(",", "=2C")
        return f"n,a={name},\1auth=Bearer {self.secret.reveal()}\1\1".encode()


# In order of preference: what reveals no secret comes first.
PASSWORD_MECHANISMS: tuple[type[Mechanism], ...] = (CramMD5, Plain, Login)
TOKEN_MECHANISMS: tuple[type[Mechanism], ...] = (XOAuth2, OAuthBearer)


def choose(server: ServerOptions, offered: Collection[str], *, encrypted: bool) -> list[type[Mechanism]]:
    """Return the mechanisms to try, best first.

    Arguments:
        server: who we are, and the mechanism the user insists on, if any.
        offered: names from the server's AUTH line.
        encrypted: whether TLS protects the connection.

    Raises NotOffered where the server offers no login, not the one insisted on, none that we speak, or only
    such as would send the password in clear.
    """
    if not offered:
        raise _not_offered(f"{server.host} offers no login (AUTH), and username and {_kind_of_secret(server)} are set")
    # A token is never sent as a password, nor a password as a token: somebody else would learn it.
    ours = TOKEN_MECHANISMS if server.uses_token else PASSWORD_MECHANISMS
    wanted = [server.auth_method] if server.auth_method else [kind.name for kind in ours]
    common = [kind for kind in ours if kind.name in wanted and kind.name in offered]
    if not common:
        raise _not_offered(
            f"{server.host} offers login by {', '.join(sorted(offered))}, "
            f"and with the {_kind_of_secret(server)} we can only use {', '.join(wanted)}"
        )
    safe = [kind for kind in common if encrypted or server.may_reveal_secret or not kind.reveals_secret]
    if not safe:
        raise _not_offered(
            f"the {_kind_of_secret(server)} would travel to {server.host} in clear ({common[0].name} without TLS): "
            "set use_tls or use_ssl, or allow_insecure_auth if you really want that"
        )
    return safe


def _kind_of_secret(server: ServerOptions) -> str:
    return "token" if server.uses_token else "password"


def _not_offered(message: str) -> NotOffered:
    error = NotOffered(message)
    error.stage = Stage.AUTH
    return error
