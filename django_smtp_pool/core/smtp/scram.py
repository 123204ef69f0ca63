"""SCRAM (RFC 5802, RFC 7677): both sides prove that they know the password without sending it. Uses scramp, an extra.

There is no channel binding (-PLUS), and the GS2 header says so: "n". Exceptions of the library are replaced by our own
without a cause, because its frames hold the password.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..errors import NotOffered, ProtocolError, Stage
from ..interrupts import from_signal_handler
from ..options.fields import Secret
from .sasl import Mechanism

# RFC 7677 §4: with fewer, the password could be guessed from an intercepted proof.
FEWEST_ITERATIONS = 4096
# About a second of computing per login. Without a limit, a server could keep our threads busy for hours.
MOST_ITERATIONS = 2_000_000

# RFC 5802 §7, server-first-message: nonce, salt, iterations; then extensions, which must not repeat these.
_FIRST = re.compile(r"r=[!-+\--~]+,s=[A-Za-z0-9+/]+=*,i=([1-9][0-9]{0,15})(?:,(?![rsi]=)[A-Za-z]=[^,]+)*")

T = TypeVar("T")


def fresh_nonce() -> str:
    """Return a random value that makes each login different."""
    return secrets.token_urlsafe(18)


@dataclass(kw_only=True)
class Scram(Mechanism):
    """A SCRAM mechanism; there are two challenges, and the second is the server's proof."""

    reveals_secret = False

    _client: Any = field(init=False, repr=False)
    _first: str = field(init=False, repr=False)
    _asked: int = field(default=0, init=False, repr=False)
    _proved: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        made, problem = _tried(self._make)
        if made is None:
            text = f"{self.name} cannot be used with this username and password (SASLprep): {problem}"
            raise NotOffered(text, stage=Stage.AUTH)
        self._client, self._first = made

    def _make(self) -> tuple[Any, str]:
        from scramp import ScramClient, ScramMechanism

        if not _is_printable_ascii(self.secret):
            # scramp 1.4 prepares it after the first challenge, too late for another mechanism. So it is tried here.
            ScramMechanism(self.name).make_auth_info(self.secret.reveal())
        client = ScramClient([self.name], self.username, self.secret.reveal(), c_nonce=fresh_nonce())
        return client, client.get_client_first()

    def initial(self) -> bytes:
        """Return the username and the nonce."""
        return self._first.encode()

    def respond(self, challenge: bytes) -> bytes:
        """Prove that we know the password; then check the server's proof and acknowledge it (RFC 4954 §4)."""
        if not challenge and not self._asked:  # it did not read the initial response
            return self.initial()
        if challenge.startswith(b"e="):
            self.explanation = challenge[2:].decode("utf-8", "backslashreplace")
            return b""
        self._asked += 1
        if self._asked == 1:
            return self._proof(challenge)
        self._check(challenge)
        return b""

    def conclude(self, message: bytes) -> None:
        """Raise ProtocolError unless the server has proved that it knows the password, at the latest in this text."""
        # RFC 4954 requires the proof in a challenge; some servers send it here.
        for word in message.split():
            if not self._proved and (proof := _decoded(word)).startswith(b"v="):
                self._check(proof)
        if not self._proved:
            raise self._broken(
                f"the server accepted the login by {self.name}, but did not prove that it knows the password: it may "
                "be an impostor. If you trust it anyway, set auth_method to another mechanism"
            )

    def _proof(self, challenge: bytes) -> bytes:
        text = challenge.decode("utf-8", "replace")
        form = _FIRST.fullmatch(text)
        if form is None:
            raise self._broken(f"the server's first message of {self.name} is malformed")
        count = int(form[1])
        if not FEWEST_ITERATIONS <= count <= MOST_ITERATIONS:
            raise self._broken(
                f"the server requires {count} iterations of {self.name}, but only {FEWEST_ITERATIONS} to "
                f"{MOST_ITERATIONS} are allowed: change that in its configuration, or set "
                "auth_method to another mechanism"
            )

        def prove() -> str:
            self._client.set_server_first(text)
            return str(self._client.get_client_final())

        answer, problem = _tried(prove)
        if answer is None:
            raise self._broken(f"the server's first message of {self.name} is not acceptable: {problem}")
        return answer.encode()

    def _check(self, proof: bytes) -> None:
        def check() -> bool:
            self._client.set_server_final(proof.decode())
            return True

        proved, problem = _tried(check)
        if not proved:
            raise self._broken(
                f"the server's proof by {self.name} is wrong ({problem}): it does not know the password, and may be an "
                "impostor"
            )
        self._proved = True

    @staticmethod
    def _broken(text: str) -> ProtocolError:
        return ProtocolError(text, stage=Stage.AUTH, is_final=True)


class ScramSHA256(Scram):
    """SCRAM-SHA-256 (RFC 7677)."""

    name = "SCRAM-SHA-256"


class ScramSHA1(Scram):
    """SCRAM-SHA-1 (RFC 5802)."""

    name = "SCRAM-SHA-1"


def _tried(call: Callable[[], T]) -> tuple[T | None, str]:
    """Return the result of the library, or None and the text of its error."""
    try:
        return call(), ""
    except Exception as error:
        if from_signal_handler(error):
            raise
        return None, str(error)  # the error ends here, because its frames hold the password


def _is_printable_ascii(secret: Secret) -> bool:
    return secret.reveal().isascii() and secret.reveal().isprintable()


def _decoded(word: bytes) -> bytes:
    try:
        return base64.b64decode(word, validate=True)
    except ValueError:
        return b""
