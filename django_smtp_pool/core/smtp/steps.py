"""The steps that a dialogue can yield to its driver, and their results."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, TypeVar

from ..errors import Stage
from ..options.host import Target
from ..replies import Reply

T = TypeVar("T")


class Patience(str, Enum):  # a str, since the hash of a plain Enum is computed by a function in Python
    """How long a step may take; the options set the seconds of each."""

    CONNECT = "connection_timeout"
    GREETING = "greeting_timeout"
    COMMAND = "timeout"
    VERDICT = "data_timeout"  # the reply to the end of the data; `delivery_timeout` does not shorten it


@dataclass(frozen=True, kw_only=True)
class Connect:
    """Connect to the server by TCP or a unix socket."""

    target: Target

    stage = Stage.CONNECT
    patience = Patience.CONNECT


@dataclass(frozen=True, kw_only=True)
class SecureChannel:
    """Do the TLS handshake; it fails if the server has sent anything unencrypted after its last reply."""

    server_hostname: str

    stage = Stage.TLS
    patience = Patience.GREETING


@dataclass(frozen=True, kw_only=True)
class Say:
    """Send octets together, and read `hear` replies to them.

    Fewer replies are returned after a 421, because none follows it. If set, `masked` is logged instead of the octets,
    and `hidden` are secrets that are masked in all that the server says from now on. The octets are in pieces, so that
    a large message need not be copied.
    """

    pieces: tuple[bytes, ...] = field(repr=False)
    stage: Stage
    hear: int = 1
    patience: Patience = Patience.COMMAND
    masked: str | None = None
    hidden: tuple[bytes, ...] = field(default=(), repr=False)


class Heard(NamedTuple):
    """The result of a `Say`: the replies, and whether the last octet may have been sent before they arrived."""

    replies: tuple[Reply, ...] = ()
    all_said: bool = True


Step = Connect | SecureChannel | Say
Dialogue = Generator[Step, Heard, T]


def line_of(*commands: str) -> bytes:
    """Return commands as lines; only this function turns text into lines for the server."""
    text = "\r\n".join(commands) + "\r\n"
    if not text.count("\r") == text.count("\n") == len(commands) or "\0" in text:
        raise ValueError("a command must be one line, without NUL")
    return text.encode()
