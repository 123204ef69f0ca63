"""SASL mechanisms as small pure objects (RFC 4422). They read and return octets without base64."""

from __future__ import annotations

import hmac
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from ..options.fields import Secret


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """An account and its current access token."""

    username: str
    secret: Secret


class TokenSource(Protocol):
    """Returns access tokens. It may block and run project code, so call it before connecting and outside every lock.

    Both methods raise TokenUnavailable if no token is available before `deadline` (an instant, monotonic).
    """

    def current(self, deadline: float | None) -> Credentials:
        """Return the token to log in with."""
        ...

    def renewed(self, refused: Credentials, deadline: float | None) -> Credentials | None:
        """Return another token after the server refused one, or None if there is none."""
        ...


@dataclass(kw_only=True)
class Mechanism(ABC):
    """One login by one mechanism; each login needs a new object.

    The constructor raises NotOffered if the mechanism cannot be used with this username and secret.
    """

    name: ClassVar[str]
    reveals_secret: ClassVar[bool]
    reads_challenge: ClassVar[bool] = True  # whether the answer depends on the challenge

    username: str
    secret: Secret = field(repr=False)
    explanation: str = field(default="", init=False)  # the server's text before it refused, if any

    def initial(self) -> bytes | None:
        """Return the initial response, which is sent with AUTH, or None to wait for the first challenge."""
        return None

    @abstractmethod
    def respond(self, challenge: bytes) -> bytes:
        """Answer a challenge; raises ProtocolError if it must not be answered."""

    def conclude(self, message: bytes) -> None:  # noqa: B027 - most mechanisms need no check
        """Check the text of the accepting reply; raises ProtocolError if the server has not proved itself."""


class Plain(Mechanism):
    """PLAIN (RFC 4616): username and password in one message."""

    name = "PLAIN"
    reveals_secret = True
    reads_challenge = False

    def initial(self) -> bytes:
        """Return NUL, username, NUL, password."""
        return f"\0{self.username}\0{self.secret.reveal()}".encode()

    def respond(self, challenge: bytes) -> bytes:  # noqa: ARG002 - the challenge is empty
        """Return the same to a server that did not read the initial response."""
        return self.initial()


@dataclass(kw_only=True)
class Login(Mechanism):
    """LOGIN (draft-murchison-sasl-login): the username at the first challenge, the password at the second."""

    name = "LOGIN"
    reveals_secret = True
    reads_challenge = False

    _asked: int = 0

    def respond(self, challenge: bytes) -> bytes:  # noqa: ARG002 - its text varies, only the order counts
        """Return the username, then the password."""
        self._asked += 1
        return (self.username if self._asked == 1 else self.secret.reveal()).encode()


class CramMD5(Mechanism):
    """CRAM-MD5 (RFC 2195): proves knowledge of the password without sending it."""

    name = "CRAM-MD5"
    reveals_secret = False

    def respond(self, challenge: bytes) -> bytes:
        """Return the username and the keyed digest of the challenge."""
        digest = hmac.new(self.secret.reveal().encode(), challenge, "md5").hexdigest()
        return f"{self.username} {digest}".encode()


class _Bearer(Mechanism):
    """A mechanism that sends an access token; the server refuses it with a challenge that has the reason as JSON."""

    reveals_secret = True
    _acknowledgement: ClassVar[bytes]

    def respond(self, challenge: bytes) -> bytes:
        """Keep the reason why the token was refused, and let the server send its final reply."""
        if not challenge:  # it did not read the initial response
            return self.initial() or b""
        self.explanation = challenge.decode("utf-8", "backslashreplace")
        return self._acknowledgement


class XOAuth2(_Bearer):
    """XOAUTH2 (Google, Microsoft): username and access token in one message."""

    name = "XOAUTH2"
    _acknowledgement = b""

    def initial(self) -> bytes:
        """Return the two fields, each followed by Ctrl-A."""
        return f"user={self.username}\1auth=Bearer {self.secret.reveal()}\1\1".encode()


class OAuthBearer(_Bearer):
    """OAUTHBEARER (RFC 7628): the standardised form of XOAUTH2."""

    name = "OAUTHBEARER"
    _acknowledgement = b"\1"

    def initial(self) -> bytes:
        """Return the GS2 header and the token (§3.1)."""
        name = self.username.replace("=", "=3D").replace(",", "=2C")
        return f"n,a={name},\1auth=Bearer {self.secret.reveal()}\1\1".encode()


class External(Mechanism):
    """EXTERNAL (RFC 4422, appendix A): the client certificate identifies the client; the name says for whom it acts."""

    name = "EXTERNAL"
    reveals_secret = False
    reads_challenge = False

    def initial(self) -> bytes:
        """Return the name; empty if the certificate is enough."""
        return self.username.encode()

    def respond(self, challenge: bytes) -> bytes:  # noqa: ARG002 - the challenge is empty
        """Return the same to a server that did not read the initial response."""
        return self.initial()
