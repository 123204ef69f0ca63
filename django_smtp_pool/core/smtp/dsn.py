"""Delivery status notifications: the options of a message, and their parameters in SMTP (RFC 3461, RFC 6533).

Invalid options are refused when they are set, before anything is sent. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ..options.fields import check_fields, choice, flag, nonempty_text, option

T = TypeVar("T")

EVENTS = ("SUCCESS", "FAILURE", "DELAY")
NEVER = "NEVER"
LONGEST_ENVID = 100  # characters, encoded (RFC 3461 §4.4)
LONGEST_ORCPT = 500  # (RFC 3461 §4.2)

_KIND = r"[A-Za-z0-9-]+"
_TYPED = re.compile(rf"({_KIND});(.*)", re.DOTALL)


def xtext(text: str) -> str:
    """Return ASCII text encoded as xtext, for a parameter (RFC 3461 §4)."""
    return "".join(char if "!" <= char <= "~" and char not in "+=" else f"+{ord(char):02X}" for char in text)


def from_xtext(encoded: str) -> str:
    """Return the text that was encoded as xtext; raises ValueError for invalid xtext."""
    if not re.fullmatch(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*", encoded):
        raise ValueError(f"must be xtext (RFC 3461), not {encoded!r}")
    return re.sub(r"\+([0-9A-F]{2})", lambda match: chr(int(match[1], 16)), encoded)


def _embedded(text: str, *, smtputf8: bool) -> str:
    r"""Return text in the form of RFC 6533 §3: characters that are not allowed are written as \x{2B}."""

    def written(char: str) -> str:
        stands = ("!" <= char <= "~" and char not in "+=\\") or (smtputf8 and char > "\x7f")
        return char if stands else f"\\x{{{ord(char):02X}}}"

    return "".join(map(written, text))


def _from_embedded(encoded: str) -> str:
    return re.sub(r"\\x\{([0-9A-F]{2,6})\}", lambda match: chr(int(match[1], 16)), encoded)


@dataclass(frozen=True, kw_only=True)
class Original:
    """The original address of a recipient, before lists and forwarding (RFC 3461 §4.2).

    Arguments:
        kind: its type, "rfc822", or "utf-8" for a non-ASCII address (RFC 6533).
    """

    kind: str
    address: str

    @classmethod
    def of(cls, value: Any) -> Original:
        """Accept an address, or "type;address"."""
        if isinstance(value, Original):
            return value
        typed = _TYPED.fullmatch(nonempty_text(value))
        return cls(kind=typed[1], address=typed[2]) if typed else cls(kind=_kind_of(value), address=value)

    def __post_init__(self) -> None:
        if not re.fullmatch(_KIND, self.kind):
            raise ValueError(f"must have a type such as 'rfc822', not {self.kind!r}")
        if not (nonempty_text(self.address).isascii() or self._is_utf8):
            raise ValueError(f"must be in ASCII, unless it is of type utf-8: {self.address!r}")
        if len(self.parameter(smtputf8=False)) > LONGEST_ORCPT:
            raise ValueError(f"must not be longer than {LONGEST_ORCPT} characters: {self.address[:80]!r}...")

    @classmethod
    def read(cls, parameter: str) -> Original:
        """Accept the encoded value of `ORCPT=`."""
        typed = _TYPED.fullmatch(parameter)
        if typed is None:
            raise ValueError(f"must be a type and an address, such as 'rfc822;ann@example.com', not {parameter!r}")
        kind, encoded = typed.groups()
        read = _from_embedded if kind.lower() == "utf-8" else from_xtext
        return cls.of(f"{kind};{read(encoded)}")

    def parameter(self, *, smtputf8: bool) -> str:
        """Return the value of `ORCPT=`; it is non-ASCII only if the transaction uses SMTPUTF8."""
        encoded = _embedded(self.address, smtputf8=smtputf8) if self._is_utf8 else xtext(self.address)
        return f"{self.kind};{encoded}"

    @property
    def _is_utf8(self) -> bool:
        return self.kind.lower() == "utf-8"


def _kind_of(address: str) -> str:
    return "rfc822" if address.isascii() else "utf-8"


def _envid(value: Any) -> str:
    if not nonempty_text(value).isascii():
        raise ValueError(f"must be ASCII (it comes back in the notification), not {value!r}")
    if len(xtext(value)) > LONGEST_ENVID:
        raise ValueError(f"must not be longer than {LONGEST_ENVID} characters: {value[:80]!r}...")
    return str(value)


def events(value: Any) -> tuple[str, ...]:
    """Accept "never", another event, or a list of events; return them in upper case and in a fixed order."""
    words = [value] if isinstance(value, str) else list(value) if isinstance(value, Iterable) else [value]
    known = {choice(*EVENTS, NEVER, upper=True)(word) for word in words}
    if not known:
        raise ValueError(f"must name one of {', '.join(map(repr, EVENTS))}, or {NEVER!r}")
    if NEVER in known and len(known) > 1:
        raise ValueError(f"must be either {NEVER!r} or other events, not {value!r}")
    return (NEVER,) if NEVER in known else tuple(event for event in EVENTS if event in known)


def _each(kind: Callable[[Any], T]) -> Callable[[Any], dict[str, T]]:
    """Accept a dict with addresses as keys."""

    def convert(value: Any) -> dict[str, T]:
        if not isinstance(value, Mapping):
            raise ValueError(f"must be a dict with addresses as keys, not {value!r}")
        return {nonempty_text(address): kind(each) for address, each in value.items()}

    return convert


@dataclass(frozen=True, kw_only=True)
class DSN:
    """The notifications that a message requests; None for what it does not set (RFC 3461 §4)."""

    ret: str | None = option(
        None, choice("FULL", "HDRS", upper=True), "how much of the message a notification returns: 'full' or 'hdrs'"
    )
    envid: str | None = option(None, _envid, "an identifier of the message for the notification")
    notify: Mapping[str, tuple[str, ...]] | None = option(None, _each(events), "the events to report, by recipient")
    orcpt: Mapping[str, Original] | None = option(None, _each(Original.of), "the original address, by recipient")
    strict: bool = option(
        False, flag, "if the server does not offer DSN, do not send the message, instead of sending it without"
    )

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def asks(self) -> bool:
        """Whether any notification is requested."""
        return bool(self.ret or self.envid or self.notify or self.orcpt)

    @property
    def addresses(self) -> set[str]:
        """The recipients that an option names."""
        return {*(self.notify or ()), *(self.orcpt or ())}

    def of_mail(self) -> str:
        """Return the parameters of MAIL, each after a space."""
        ret = f" RET={self.ret}" if self.ret else ""
        return ret + (f" ENVID={xtext(self.envid)}" if self.envid else "")

    def of_rcpt(self, address: str, *, smtputf8: bool) -> str:
        """Return the parameters of one RCPT, each after a space."""
        what, original = (self.notify or {}).get(address), (self.orcpt or {}).get(address)
        notify = f" NOTIFY={','.join(what)}" if what else ""
        return notify + (f" ORCPT={original.parameter(smtputf8=smtputf8)}" if original else "")
