"""Addresses as users write them, `Ann <ann@example.com>`, and as they appear in the envelope.

Django's own code parses them, so the envelope has the address that the header has. This module adds a guard: if
the parser fails on an address, the error is a ValueError, whatever the parser itself raises.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from email.errors import MessageError, ObsoleteHeaderDefect
from email.headerregistry import Address, AddressHeader
from functools import lru_cache, partial
from types import FunctionType, ModuleType, TracebackType
from typing import Any

import django
from django.core.mail import EmailMessage
from django.core.mail import message as djangos_message
from django.core.mail.backends import smtp
from django.core.mail.message import BadHeaderError  # an alias of ValueError from Django 6.0 on
from django.utils.encoding import force_str

from ..core.interrupts import foreign
from .domains import ascii_domain
from .mailboxes import PLAIN_ADDRESS, mailboxes, with_ascii_domains

PrepareAddress = Callable[..., str]

LONGEST = 1000  # characters of an address with its display name; the parser needs quadratic time
RENDERS_SMTPUTF8 = django.VERSION >= (6, 0)
PLAIN = re.compile(PLAIN_ADDRESS)
# An address with a simple display name needs no parser either.
_NAMED = re.compile(rf'(?:[^\W_]+(?: [^\W_]+)*|"[ !#-<>-\[\]-~]+") <({PLAIN_ADDRESS})>')
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f]")
# The words of Python's email package, and of Django 5.2.
_NEWLINES = (
    "Header values may not contain linefeed or carriage return characters (got {0!r} for header 'Reply-To')"
    if RENDERS_SMTPUTF8
    else "Header values can't contain newlines (got {0!r} for header 'Reply-To')"
)
# Defects of addresses that are in use and unambiguous: `webmaster`, or dots in a row or at an end.
_HARMLESS = {
    "addr-spec local part with no domain",
    "local-part is not dot-atom, quoted-string, or obs-local-part",
    "invalid repeated '.'",
    "Invalid leading '.' in local part",
    "Invalid trailing '.' in local part",
}
_EXACT_SPELLING = ("From", "To", "Cc", "Reply-To")  # Django ignores other spellings of these


def is_written_in(module: ModuleType, function: Any) -> bool:
    """Return whether a function was defined in a module: it may have been replaced, even before this was imported."""
    return type(function) is FunctionType and function.__globals__ is vars(module)


def _own(owner: Any, name: str, module: ModuleType) -> Any:
    """Return Django's own method, or an object that is no method if it was replaced before this was imported."""
    method = getattr(owner, name, None)
    return method if is_written_in(module, method) else object()


_PREP_ADDRESS = _own(smtp.EmailBackend, "prep_address", smtp)
_RECIPIENTS = _own(EmailMessage, "recipients", djangos_message)
_ADDRESS_HEADERS = frozenset({"sender", "resent-from", "resent-sender", "resent-to", "resent-cc"})


def envelope_addresses(message: Any, prepare: PrepareAddress | None) -> tuple[str, list[str], bool]:
    """Return sender and recipients as they appear in the envelope, and whether one needs SMTPUTF8 (RFC 6531).

    Arguments:
        prepare: the backend's `prep_address` if it has one (Django 6.0 and later).

    Raises ValueError, before anything is parsed, for an address that is too long or has control characters, and if
    this version of Django cannot send to a non-ASCII local part.
    """
    sender, recipients, smtputf8 = message.from_email, message.recipients(), False
    is_djangos = prepare is None or _is_djangos(prepare)
    # If the recipients are not those of the fields, the fields have to be checked, too.
    is_djangos = is_djangos and getattr(message.recipients, "__func__", None) is _RECIPIENTS
    if is_djangos and (found := _simple([sender, *recipients])) is not None:
        if getattr(message, "reply_to", None) or getattr(message, "extra_headers", None):
            _check_reply_to(message)
            smtputf8 = any(map(_needs_smtputf8, _header_lists(message)))
        return found[0], found[1:], smtputf8
    fields = _envelope(message)
    for address in fields:
        if _CONTROL.search(address):
            raise BadHeaderError(f"Invalid address {address!r}: it has control characters")
        if len(address) > LONGEST:
            raise ValueError(f"Invalid address {address[:80]!r}...: it has {len(address)} characters")
    _check_reply_to(message)
    smtputf8 = any(map(_needs_smtputf8, (*fields, *_header_lists(message))))
    sender = addr_spec(sender, prepare, smtputf8=smtputf8)
    return sender, [addr_spec(address, prepare, smtputf8=smtputf8) for address in recipients], smtputf8


def _simple(addresses: list[Any]) -> list[str] | None:
    """Return addresses as every parser returns them, or None if one must be parsed, which costs more than sending."""
    if {*map(type, addresses)} != {str} or max(map(len, addresses)) > LONGEST:
        return None
    if all(map(PLAIN.fullmatch, addresses)):
        return addresses
    found = [address for each in addresses if (address := _plain(each)) is not None]
    return found if len(found) == len(addresses) else None


def _is_djangos(prepare: PrepareAddress) -> bool:
    """Return whether this is Django's own method, or one of `remembering`, which keeps its results."""
    return getattr(prepare, "__func__", None) is _PREP_ADDRESS or getattr(prepare, "keeps_djangos", False) is True


def _envelope(message: Any) -> list[str]:
    """Return the values that must be one address each."""
    found = [str(message.from_email)]
    for field in ("to", "cc", "bcc"):
        found += map(_one_text, getattr(message, field, None) or ())
    return found


def _one_text(address: Any) -> str:
    return " ".join(map(str, address)) if isinstance(address, tuple) else str(address)


def _reply_to(message: Any) -> list[str]:
    """Return the values that may be lists of addresses, unless a header replaces them."""
    if "Reply-To" in (getattr(message, "extra_headers", None) or {}):
        return []
    return [*map(str, getattr(message, "reply_to", None) or ())]


def _check_reply_to(message: Any) -> None:
    lists = _reply_to(message)
    for text in lists:
        if "\n" in text or "\r" in text:
            raise BadHeaderError(_NEWLINES.format(text))
        if _CONTROL.search(text):
            raise ValueError(f"Invalid address {text!r}: it has control characters")
    for text in lists:
        if len(text) > LONGEST:
            _check_length(text)


def _header_lists(message: Any) -> Iterator[str]:
    """Yield the lists of addresses that are in the header, but not in the envelope."""
    yield from _reply_to(message)
    for name, value in (getattr(message, "extra_headers", None) or {}).items():
        if name in _EXACT_SPELLING or (isinstance(name, str) and name.lower() in _ADDRESS_HEADERS):
            yield str(value)


def _check_length(text: str) -> None:
    entries = mailboxes(text)
    longest = max((len(each.name) + len(each.address) for each in entries), default=0) if entries else len(text)
    if longest > LONGEST:
        raise ValueError(f"Invalid address {text[:80]!r}...: it has {longest} characters")


def _needs_smtputf8(text: str) -> bool:
    if text.isascii() or not _has_strange_local_part(text):
        return False
    if not RENDERS_SMTPUTF8:
        raise ValueError(
            f"Invalid address {text!r}: a non-ASCII local part needs SMTPUTF8, "
            f"which requires Django 6.0 or later; this is Django {django.get_version()}"
        )
    return True


def _has_strange_local_part(text: str) -> bool:
    """Return whether a text has an address with a non-ASCII local part; a display name alone does not count."""
    entries = mailboxes(text)
    if entries is not None:
        return any("@" in each.address and not each.address.rpartition("@")[0].isascii() for each in entries)
    try:
        found = AddressHeader.value_parser(text).all_mailboxes
        return any(
            bool(getattr(each, "domain", None)) and not (getattr(each, "local_part", None) or "").isascii()
            for each in found
        )
    except Exception as error:
        explain(error)
        raise


def remembering(prepare: PrepareAddress | None) -> PrepareAddress | None:
    """Return a `prep_address` that keeps its most recent results, for a mailing.

    A method that is not Django's own is returned unchanged: it may return something else each time.
    """
    if prepare is None or not _is_djangos(prepare):
        return prepare
    keeping: Any = lru_cache(maxsize=16)(prepare)
    keeping.keeps_djangos = True
    return keeping  # type: ignore[no-any-return]


def _plain(address: str) -> str | None:
    """Return the address if the text is a simple address, with or without a name; otherwise None."""
    if PLAIN.fullmatch(address):
        return address
    match = _NAMED.fullmatch(address)
    return None if match is None else match[1]


def addr_spec(address: Any, prepare: PrepareAddress | None, *, smtputf8: bool) -> str:
    """Return an address as it appears in the envelope: without display name, the domain in ASCII (IDNA).

    Arguments:
        prepare: the backend's `prep_address` if it has one (Django 6.0 and later).
        smtputf8: whether the local part may be non-ASCII.

    Raises ValueError for anything that is not one valid address.
    """
    if prepare is not None and not _is_djangos(prepare):
        prepare = _as_foreign(prepare)
    elif type(address) is str and (plain := _plain(address)) is not None:
        return plain
    if type(address) is str and address.isascii():
        return _parsed(address) if prepare is None else prepare(address)
    try:
        if not isinstance(address, tuple):
            address = with_ascii_domains(force_str(address))
        if prepare is None:
            return _parsed(address)
        return prepare(address, force_ascii=False) if smtputf8 and not address.isascii() else prepare(address)
    except UnicodeError as error:
        raise ValueError(f"Invalid address {address!r}: {error}") from None


def _as_foreign(prepare: PrepareAddress) -> PrepareAddress:
    return lambda address, **how: foreign(partial(prepare, address, **how))


def _parsed(address: Any) -> str:
    """Return the result of Django 5.2's `sanitize_address`, without the display name."""
    if isinstance(address, tuple):
        local_part, at, domain = str(address[1]).rpartition("@")
        if not at:
            raise ValueError(f"Invalid address {_quoted(address[1])}")
    else:
        local_part, domain = _mailbox(force_str(address))
    try:
        domain = ascii_domain(domain)
        _check_labels(domain)
    except ValueError as error:
        raise ValueError(f"Invalid address {_quoted(address)}: {error}") from None
    return Address(username=local_part, domain=domain).addr_spec


def _quoted(address: Any) -> str:
    text = str(address)
    return f'"{text}"' if text.isprintable() else repr(text)


def _check_labels(domain: str) -> None:
    """Raise ValueError for a domain on which Django 5.2 fails with another error."""
    labels = [] if domain.startswith("[") else domain.removesuffix(".").split(".")
    if not all(0 < len(label) < 64 for label in labels) and domain:
        raise ValueError(f"the domain {domain!r} has a label that is empty or longer than 63 octets")


@lru_cache(maxsize=16)  # parse the sender of a mailing once
def _mailbox(address: str) -> tuple[str, str]:
    from email.headerregistry import parser  # type: ignore[attr-defined]  # where Django imports it from

    try:
        mailbox, rest = parser.get_mailbox(address)
    except (MessageError, AttributeError, IndexError, TypeError):  # the exceptions that the parser is known to raise
        raise ValueError(f"Invalid address {_quoted(address)}") from None  # in the words of Django 5.2
    if rest:
        raise ValueError(f"Invalid address; only {mailbox} could be parsed from {_quoted(address)}")
    # Django 6.0 refuses every defect. Django 5.2 refuses none: it would send `b(c)ob@...` to `"b ob"@...`.
    defects = {str(each) for each in mailbox.all_defects if not isinstance(each, ObsoleteHeaderDefect)}
    if not mailbox.local_part or defects - _HARMLESS:
        raise ValueError(f"Invalid address {_quoted(address)}")
    return mailbox.local_part, mailbox.domain or ""


def explain(error: Exception) -> None:
    """Raise a ValueError for an exception of Python's email package that is about an invalid header.

    Its address parser is known to raise AttributeError, IndexError, TypeError and UnboundLocalError. If one of these
    comes from other code, it is a mistake in that code and is not converted.
    """
    if isinstance(error, ValueError):
        return
    if isinstance(error, MessageError):
        raise ValueError(f"the message cannot be rendered: {error}") from error
    if isinstance(error, RecursionError):
        raise ValueError("the message cannot be rendered: an address or a part is nested too deeply") from error
    if _arose_in_parser(error.__traceback__):
        raise ValueError(f"Invalid address: the message cannot be rendered ({error})") from error


def _arose_in_parser(traceback: TracebackType | None) -> bool:
    frame = None
    while traceback is not None:
        frame, traceback = traceback.tb_frame, traceback.tb_next
    if frame is None or frame.f_code.co_name == "get_unstructured":  # the value of the header is not text
        return False
    return frame.f_globals.get("__name__") in {"email._header_value_parser", "email.headerregistry"}
