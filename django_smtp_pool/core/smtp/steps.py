"""What a dialogue may ask of whoever drives it, and what it gets back."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from ..errors import Stage
from ..options.host import Target
from ..replies import Reply

T = TypeVar("T")


class Patience(Enum):
    """How long a step may take; the options say how many seconds each is."""

    CONNECT = "connection_timeout"
    GREETING = "greeting_timeout"
    COMMAND = "timeout"
    VERDICT = "data_timeout"  # the reply to the end of the data: `delivery_timeout` does not cut it


@dataclass(frozen=True, kw_only=True)
class Connect:
    """Connect to the server, by TCP or by a unix socket."""

    target: Target

    stage = Stage.CONNECT
    patience = Patience.CONNECT


@dataclass(frozen=True, kw_only=True)
class SecureChannel:
    """Do the TLS handshake; it aborts where the server has sent anything in clear behind its last reply."""

    server_hostname: str

    stage = Stage.TLS
    patience = Patience.GREETING


@dataclass(frozen=True, kw_only=True)
class Say:
    """Write some octets, in one go, and read `hear` replies to them.

    Fewer replies come back after a 421, since nothing follows it. `masked` stands for octets that no log may
    show, and `hidden` are those that nothing shows which the server says from now on. The octets come in pieces so
    that a large message need not be copied.
    """

    pieces: tuple[bytes, ...] = field(repr=False)
    stage: Stage
    hear: int = 1
    patience: Patience = Patience.COMMAND
    masked: str | None = None
    hidden: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What came back: the replies, and whether the last octet we said may have left before they came."""

    replies: tuple[Reply, ...] = ()
    all_said: bool = True


Step = Connect | SecureChannel | Say
Dialogue = Generator[Step, Heard, T]


def line_of(*commands: str) -> bytes:
    """Return commands as lines: the one place where text becomes a line on the wire."""
    text = "\r\n".join(commands) + "\r\n"
    if not text.count("\r") == text.count("\n") == len(commands) or "\0" in text:
        raise ValueError("a command must be one line, without NUL")
    return text.encode()
