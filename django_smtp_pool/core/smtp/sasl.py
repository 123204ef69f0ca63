"""SASL mechanisms as small pure objects (RFC 4422): octets in, octets out, before and after base64."""

from __future__ import annotations

import hmac
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

from ..options.fields import Secret


@dataclass(kw_only=True)
class Mechanism(ABC):
    """One login by one mechanism; made anew for each connection.

    Making one raises NotOffered where this name and this secret cannot be used with it.
    """

    name: ClassVar[str]
    reveals_secret: ClassVar[bool]
    reads_challenge: ClassVar[bool] = True  # what it answers depends on what the server asks

    username: str
    secret: Secret = field(repr=False)
    explanation: str = field(default="", init=False)  # what the server said before it refused, if anything

    def initial(self) -> bytes | None:
        """Return what goes out together with AUTH, or None to wait for the server's first challenge."""
        return None

    @abstractmethod
    def respond(self, challenge: bytes) -> bytes:
        """Answer a challenge; raises ProtocolError for one that must not be answered."""

    def conclude(self, message: bytes) -> None:  # noqa: B027 - most have nothing to add
        """Hear the text of the reply that lets us in; raises ProtocolError where the server has not proved itself."""


class Plain(Mechanism):
    """PLAIN (RFC 4616): name and password in one go."""

    name = "PLAIN"
    reveals_secret = True
    reads_challenge = False

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
    reads_challenge = False

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


class External(Mechanism):
    """EXTERNAL (RFC 4422, appendix A): who we are is in the client certificate; the name only says whom we act for."""

    name = "EXTERNAL"
    reveals_secret = False
    reads_challenge = False

    def initial(self) -> bytes:
        """Return the name, empty where the certificate says it all."""
        return self.username.encode()

    def respond(self, challenge: bytes) -> bytes:  # noqa: ARG002 - the server asks with an empty one
        """Send the same to a server that did not take it with AUTH."""
        return self.initial()
