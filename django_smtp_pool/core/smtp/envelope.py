"""A message as the core sees it: sender, recipients and content (RFC 5321 §2.3.1)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from .content import Content
from .dsn import DSN

LONGEST_ADDRESS = 320  # octets: 64 for the local part, 255 for the domain (RFC 5321 §4.5.3.1)

_BREAKS_OUT = re.compile(r"[<>\x00-\x20\x7f]")
_ORDINARY = re.compile(r"[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9.-]{1,255}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """One message, rendered and ready for the wire.

    Arguments:
        sender: address for MAIL; "" for the null reverse-path.
        recipients: addresses for RCPT, at least one.
        content: header and body.
        smtputf8: whether an address needs SMTPUTF8 (RFC 6531).
        seven_bit: returns the content without octets above 127, for a server without 8BITMIME (RFC 6152); raises
            ValueError if that is impossible.
        message_id: the Message-ID of the content, to find it in logs.
        dsn: the requested notifications (RFC 3461).
        require_tls: whether every server on the way must use TLS (RFC 8689).
    """

    sender: str
    recipients: tuple[str, ...]
    content: Content = field(repr=False)
    smtputf8: bool = False
    seven_bit: Callable[[], bytes] | None = field(default=None, repr=False, compare=False)
    message_id: str | None = None
    dsn: DSN | None = None
    require_tls: bool = False

    def __post_init__(self) -> None:
        if not all(self.recipients or ("",)):
            raise ValueError("an envelope needs at least one recipient, and every recipient needs an address")
        for address in (self.sender, *self.recipients):
            if not _ORDINARY.fullmatch(address):
                check_address(address, smtputf8=self.smtputf8)
        if self.dsn is not None and (strangers := sorted(self.dsn.addresses.difference(self.recipients))):
            raise ValueError(f"dsn names {strangers[0]!r}, which is not a recipient of the message")


def check_address(address: str, *, smtputf8: bool = False) -> None:
    """Raise ValueError for an address that could break out of its command."""
    if _ORDINARY.fullmatch(address):
        return
    if len(address.encode("utf-8", "surrogatepass")) > LONGEST_ADDRESS:
        raise ValueError(f"Invalid address, it is longer than {LONGEST_ADDRESS} octets: {address[:80]!r}...")
    if _BREAKS_OUT.search(_outside_quotes(address)):
        raise ValueError(f"Invalid address: {address!r}")
    if _CONTROL.search(address):
        raise ValueError(f"Invalid address, it has control characters: {address!r}")
    if not smtputf8 and not address.isascii():
        raise ValueError(f"Invalid address, it has non-ASCII characters: {address!r}")


def _outside_quotes(address: str) -> str:
    return re.sub(r'"(?:[^"\\]|\\.)*"', "", address)
