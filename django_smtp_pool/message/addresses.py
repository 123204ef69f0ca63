"""Addresses as users write them, `Ann <ann@example.com>`, and as the envelope carries them.

Django's own parsing does the work, and what it makes of the header is what the envelope says. Here it is
guarded: an address that the parser chokes on is a ValueError, whatever the parser itself would have raised.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.errors import MessageError, ObsoleteHeaderDefect
from email.headerregistry import Address, AddressHeader
from functools import lru_cache
from itertools import chain
from types import FunctionType, ModuleType, TracebackType
from typing import Any

import django
from django.core.mail.backends import smtp
from django.utils.encoding import force_str, punycode

PrepareAddress = Callable[..., str]

LONGEST = 1000  # characters of an address with its display name: parsing takes time that grows with the square
RENDERS_SMTPUTF8 = django.VERSION >= (6, 0)
# What every parser returns as it is: nothing in it is quoted, encoded, folded or a comment.
PLAIN = re.compile(r"[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*")
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f]")
# Defects of addresses that are in use and mean what they say: `webmaster`, dots in a row or at an end.
_HARMLESS = {
    "addr-spec local part with no domain",
    "local-part is not dot-atom, quoted-string, or obs-local-part",
    "invalid repeated '.'",
    "Invalid leading '.' in local part",
    "Invalid trailing '.' in local part",
}
_ADDRESS_HEADERS = frozenset({"from", "sender", "reply-to", "to", "cc", "resent-from", "resent-to"})


def check_before_parsing(message: Any) -> None:
    """Raise ValueError for what is too long to be an address, or has control characters, before it is parsed."""
    for address in _addresses(message):
        if len(address) > LONGEST:
            raise ValueError(f"Invalid address, it has {len(address)} characters: {address[:80]!r}...")
        if _CONTROL.search(address):
            raise ValueError(f"Invalid address, it has control characters: {address!r}")


def needs_smtputf8(message: Any) -> bool:
    """Tell whether a message names an address that ASCII cannot express: a local part beyond it (RFC 6531).

    Raises ValueError where this version of Django cannot send to such an address.
    """
    texts = [*_addresses(message), *_address_headers(message)]
    if all(text.isascii() for text in texts):
        return False
    strange = next((text for text in texts if not text.isascii() and _has_strange_local_part(text)), None)
    if strange is not None and not RENDERS_SMTPUTF8:
        raise ValueError(
            f"Invalid address {strange!r}: a non-ASCII local part needs SMTPUTF8, "
            f"which takes Django 6.0 or later; this is Django {django.get_version()}"
        )
    return strange is not None


def _addresses(message: Any) -> Iterator[str]:
    """Yield what may be one address each."""
    listed = (getattr(message, field, None) or () for field in ("to", "cc", "bcc", "reply_to"))
    for address in (message.from_email, *chain.from_iterable(listed)):
        yield " ".join(map(str, address)) if isinstance(address, tuple) else str(address)


def _address_headers(message: Any) -> Iterator[str]:
    for name, value in getattr(message, "extra_headers", {}).items():
        if name.lower() in _ADDRESS_HEADERS:
            yield str(value)


def _has_strange_local_part(text: str) -> bool:
    with errors_of_the_parser():
        mailboxes = AddressHeader.value_parser(text).all_mailboxes
        return any(not (getattr(mailbox, "local_part", None) or "").isascii() for mailbox in mailboxes)


def quick(prepare: PrepareAddress) -> PrepareAddress:
    """Return a `prep_address` that parses only what has to be parsed: that costs more than sending the message.

    The last addresses are remembered (the sender of a mailing has a name), and what is plainly an address is taken as
    it stands, which is what Django's method would return. Another method may say something else each time.
    """
    if not is_written_in(smtp, getattr(prepare, "__func__", None)):
        return prepare
    known = lru_cache(maxsize=16)(prepare)

    def prepared(address: Any, **how: Any) -> str:
        if type(address) is not str:
            return prepare(address, **how)
        return address if PLAIN.fullmatch(address) else known(address, **how)

    return prepared


def is_written_in(module: ModuleType, function: Any) -> bool:
    """Tell whether a function is a module's own: somebody may have put another in its place, also before we came."""
    return type(function) is FunctionType and function.__globals__ is vars(module)


def addr_spec(address: Any, prepare: PrepareAddress | None, *, smtputf8: bool) -> str:
    """Return an address as the envelope carries it: without display name, the domain in ASCII (IDNA).

    Arguments:
        prepare: the backend's `prep_address` where it has one (Django 6.0 and later).
        smtputf8: whether the local part may be non-ASCII.

    Raises ValueError for anything that is not one valid address.
    """
    if prepare is None:
        return _parsed(address)
    text = force_str(address)
    if not smtputf8 or text.isascii():
        return prepare(address)
    local_part, at, domain = prepare(address, force_ascii=False).rpartition("@")
    return f"{local_part}{at}{punycode(domain)}"


def _parsed(address: Any) -> str:
    """Return what Django 5.2's `sanitize_address` makes of an address, less the display name."""
    if type(address) is str and PLAIN.fullmatch(address):
        return address
    if isinstance(address, tuple):
        local_part, at, domain = str(address[1]).rpartition("@")
        if not at:
            raise ValueError(f"Invalid address {address[1]!r}")
    else:
        local_part, domain = _mailbox(force_str(address))
    return Address(username=local_part, domain=punycode(domain)).addr_spec


@lru_cache(maxsize=16)  # the sender of a mailing is parsed once
def _mailbox(address: str) -> tuple[str, str]:
    from email.headerregistry import parser  # type: ignore[attr-defined]  # where Django finds it

    try:
        mailbox, rest = parser.get_mailbox(address)
    except (MessageError, AttributeError, IndexError, TypeError):  # what the parser has been seen to raise
        raise ValueError(f"Invalid address {address!r}") from None
    if rest:
        raise ValueError(f"Invalid address; only {str(mailbox)!r} could be parsed from {address!r}")
    # Django 6.0 refuses every defect. 5.2 refuses none, and would send `b(c)ob@...` to `"b ob"@...`.
    defects = {str(each) for each in mailbox.all_defects if not isinstance(each, ObsoleteHeaderDefect)}
    if not mailbox.local_part or defects - _HARMLESS:
        raise ValueError(f"Invalid address {address!r}")
    return mailbox.local_part, mailbox.domain or ""


@contextmanager
def errors_of_the_parser() -> Iterator[None]:
    """Turn what Python's e-mail package raises when it chokes on a header into the ValueError that it means.

    Its parser of addresses has been seen to raise AttributeError, IndexError, TypeError and UnboundLocalError.
    Any of these from anywhere else is a mistake in somebody's code, and passes.
    """
    try:
        yield
    except ValueError:
        raise
    except MessageError as error:
        raise ValueError(f"the message cannot be rendered: {error}") from error
    except RecursionError as error:
        raise ValueError("the message cannot be rendered: an address or a part is nested too deeply") from error
    except Exception as error:
        if not _arose_in_parser(error.__traceback__):
            raise
        raise ValueError(f"Invalid address: the message cannot be rendered ({error})") from error


def _arose_in_parser(traceback: TracebackType | None) -> bool:
    frame = None
    while traceback is not None:
        frame, traceback = traceback.tb_frame, traceback.tb_next
    if frame is None or frame.f_code.co_name == "get_unstructured":  # somebody's header is no text at all
        return False
    return frame.f_globals.get("__name__") in {"email._header_value_parser", "email.headerregistry"}
