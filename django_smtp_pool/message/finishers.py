"""Finishers: functions of the project that change a rendered message last, for example to sign it.

Their result is sent unchanged, because encoding it again would break a signature. So it is checked, and refused if
it cannot be sent by mail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from ..core.interrupts import foreign
from ..core.net.tls import found
from ..core.smtp.content import with_crlf
from .safety import LONGEST_LINE, has_long_line

Finisher: TypeAlias = "Callable[[bytes], bytes]"


def finish(content: bytes, finishers: Sequence[Finisher | str]) -> bytes:
    """Return rendered content after all finishers; each finisher gets the result of the one before.

    Arguments:
        content: header and body with CRLF line ends, without lines of more than 998 octets, in ASCII unless an address
            needs SMTPUTF8.
        finishers: callables or dotted paths.

    Raises what a finisher raises, TypeError for a result that is not bytes, and ValueError for content that cannot be
    sent by mail.
    """
    for finisher in finishers:
        finished = foreign(_named(finisher), content)
        if not isinstance(finished, bytes):
            raise TypeError(f"the finisher {_name(finisher)} returned {type(finished).__name__}, not bytes")
        if flaw := _flaw(finished):
            raise ValueError(f"the finisher {_name(finisher)} returned a message {flaw}")
        content = finished
    return content


def refuse_to_encode() -> bytes:
    """Raise ValueError for a finished message with octets above 127, if the server accepts only ASCII."""
    raise ValueError(
        "the finished message is not ASCII, but the server accepts only ASCII (it does not offer 8BITMIME)"
    )


def _named(finisher: Finisher | str) -> Finisher:
    named: Finisher = foreign(found, finisher, "finishers")
    if not callable(named):
        raise TypeError(f"finishers names {finisher!r}, which is not callable")
    return named


def _name(finisher: Finisher | str) -> str:
    return finisher if isinstance(finisher, str) else getattr(finisher, "__qualname__", type(finisher).__name__)


def _flaw(content: bytes) -> str | None:
    if not content:
        return "without a byte"
    if b"\0" in content:
        return "with a NUL character, which email does not allow"
    if with_crlf(content) != content:
        return r"with line ends other than CRLF: replace(b'\n', b'\r\n') what a library has written"
    if has_long_line(content):
        return f"with a line of more than {LONGEST_LINE} octets"
    return None
