"""Write one header field: directly if it is simple, otherwise as Django does, and corrected where Django is wrong.

Python's email package folds and encodes header fields, and its patch levels differ. So its result is read again. If
an encoded word is too long or is in a place that programs read, or if a quote or space is missing, the field is
written by `words` or `mailboxes`. `docs/differences.rst` has the list.

`SMTP` and `SMTPUTF8` are rendering policies that parse a header only once: most headers of a mailing are the same in
every message. The octets are those of `email.policy`. Python parses each header field again, and even creates its
class again, every time; on Django 6.0 and later this is half the cost of a small message.
"""

from __future__ import annotations

import re
from email import policy
from email.headerregistry import Address, AddressHeader, HeaderRegistry, UnstructuredHeader
from functools import lru_cache
from typing import Any

import django
from django.core.mail import message as djangos
from django.utils.encoding import punycode
from django.utils.functional import Promise
from django.utils.safestring import SafeString

from .domains import ascii_domain
from .mailboxes import PLAIN_ADDRESS, Mailbox, folded_mailboxes, mailboxes, with_ascii_domains
from .safety import LONGEST_LINE, check_field, has_long_line
from .words import FULL_LINE, decoded, encoded, folded, has_long_word, unfolded

MODERN = django.VERSION >= (6, 0)
LONGEST = 2000  # characters of a value that may be cached
MANY = 256  # cached fields: enough for a mailing
LONGEST_PARSED = 200  # characters; longer values rarely repeat
MANY_PARSED = 128  # cached fields: enough for the ones in every message
ADDRESSES = frozenset(
    ("from", "sender", "reply-to", "to", "cc", "resent-from", "resent-sender", "resent-to", "resent-cc")
)
# Python parses these and writes the parsed value.
STRUCTURED = frozenset(("date", "resent-date", "orig-date"))
_PROSE = frozenset(("subject", "comments", "keywords", "organization", "thread-topic"))
_TEXTS = (SafeString, Promise)
# Values that Django writes as they are, if they fit on one line.
_TEXT = re.compile(r"(?!.*=\?)[!-~]+(?:[ \t]+[!-~]+)*")
_MAILBOX = (
    rf'(?:(?:[A-Za-z0-9]+(?: [A-Za-z0-9]+)*|"[A-Za-z0-9,.]+(?: [A-Za-z0-9,.]+)*") <{PLAIN_ADDRESS}>|{PLAIN_ADDRESS})'
)
_MAILBOXES = re.compile(rf"{_MAILBOX}(?:, {_MAILBOX})*")
_NAMED = re.compile(rf"([^\W_]+(?: [^\W_]+)*) (<{PLAIN_ADDRESS}>)")
_NOTHING = re.compile("(?!)")
# Fields that Python may fold or encode in another way at another patch level.
_SAMPLES = (
    ("Subject", "(a) b, c; d. " * 8 + "e"),
    ("Subject", "x" * (FULL_LINE - 1)),
    ("Subject", "a, \xe4. b \xf6 c"),
    ("X-Sample", "<a@b.c> " * 20 + "d"),
    ("To", "A \xe4 b \xf6 C <a@example.com>"),
)


class RememberingRegistry(HeaderRegistry):
    """Creates header fields. A field never changes after it is created, so equal fields share one object."""

    def __init__(self) -> None:
        super().__init__()
        self._class_for = lru_cache(maxsize=MANY_PARSED)(super().__getitem__)
        self._made = lru_cache(maxsize=MANY_PARSED)(super().__call__)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy without the cache: messages keep the policy that they were created with."""
        return type(self), ()

    def __getitem__(self, name: str) -> Any:
        """Return the class of a field."""
        return self._class_for(name.lower())

    def __call__(self, name: str, value: Any) -> Any:
        """Return a field; only plain strings are cached, since other values may change."""
        if type(name) is str and type(value) is str and len(value) <= LONGEST_PARSED:
            return self._made(name, value)
        return super().__call__(name, value)


SMTP = policy.SMTP.clone(header_factory=RememberingRegistry())
SMTPUTF8 = policy.SMTPUTF8.clone(header_factory=RememberingRegistry())
COMPAT32 = policy.compat32.clone(linesep="\r\n")


class CannotWrite(Exception):
    """This package cannot write the message; Django does it."""


def as_text(value: Any) -> str:
    """Return a text, which may be a safe or lazy string, as a plain str; raises CannotWrite for any other object."""
    if type(value) is str:
        return value
    if isinstance(value, _TEXTS):
        return str.__str__(str(value))
    raise CannotWrite


def header_field(name: str, value: Any, charset: str) -> str:
    """Return a header field with its line end.

    Arguments:
        charset: for the encoded words that Django 5.2 writes.

    Raises ValueError for a name or value that cannot be a header field, and CannotWrite for a value that is no text.
    """
    if type(value) is not str:
        value = as_text(value)
    simple, room = _simple_values(name)
    if len(value) <= room and simple.fullmatch(value):
        return f"{name}: {value}\r\n"
    if len(value) <= LONGEST:
        return _remembered(name, value, charset)
    return _made(name, value, charset)


@lru_cache(maxsize=MANY)
def _simple_values(name: str) -> tuple[re.Pattern[str], int]:
    """Return the pattern of the values that a field of this name has unchanged, and the room for them on its line."""
    kind = name.lower()
    if MODERN and kind in ADDRESSES:
        simple = _MAILBOXES
    elif MODERN and (kind in STRUCTURED or kind == "message-id"):
        simple = _NOTHING
    else:
        simple = _TEXT
    return simple, FULL_LINE - len(f"{name}: ")


def _made(name: str, value: str, charset: str) -> str:
    if MODERN and _python_agrees() and (text := _written(name, value)) is not None:
        return text
    try:
        written = value
        if name.lower() in ADDRESSES:
            if MODERN and _MAILBOXES.fullmatch(value) and max(map(len, value.split(", "))) < FULL_LINE:
                return _list_of_plain(name, value)
            value = with_ascii_domains(value)
        text = _by_django(name, written, charset)
        check_field(name, text)
        if name.lower() not in STRUCTURED and not _means(name, text, value):
            text = _ours(name, value)
    except UnicodeEncodeError as error:
        error.reason += f" (in the header {name}: {value[:80]!r})"
        raise
    except UnicodeError as error:  # from Django 5.2, for a domain
        raise ValueError(f"the header {name} has an invalid address ({error}): {value[:80]!r}") from None
    if has_long_line(text.encode("ascii", "surrogateescape")):
        raise ValueError(f"the header {name} has a line of more than {LONGEST_LINE} octets: {value[:80]!r}...")
    return text


_remembered = lru_cache(maxsize=MANY)(_made)


def _written(name: str, value: str) -> str | None:
    """Return a field of words as Python writes it, in a tenth of the time, or None if that is not simple.

    The value has non-ASCII words, or does not fit on one line.
    """
    words = value.split(" ")
    if "" in words or "=?" in value or not value.isprintable() or len(value) > LONGEST_LINE - FULL_LINE:
        return None
    if name.lower() in ADDRESSES:
        match = _NAMED.fullmatch(value)
        return None if match is None or value.isascii() else _on_one_line(name, match[1].split(" "), f" {match[2]}")
    if not _is_unstructured(name):
        return None
    if not value.isascii():
        return _on_one_line(name, words)
    if len(value) < FULL_LINE:
        return f"{name}:\r\n {value}\r\n"
    if max(map(len, words)) >= FULL_LINE:
        return None if name.lower() in _PROSE else folded(name, value, is_prose=False)
    lines = [f"{name}:"]
    for word in words:
        if len(lines[-1]) + 1 + len(word) > FULL_LINE:
            lines.append("")
        lines[-1] += f" {word}"
    return "\r\n".join((*lines, ""))


def _on_one_line(name: str, words: list[str], end: str = "") -> str | None:
    """Return a field with one encoded word, from the first to the last non-ASCII word, if it fits on a line."""
    strange = [number for number, word in enumerate(words) if not word.isascii()]
    first, last = strange[0], strange[-1] + 1
    text = " ".join([*words[:first], encoded(" ".join(words[first:last])), *words[last:]])
    return f"{name}: {text}{end}\r\n" if len(name) + 2 + len(text) + len(end) <= FULL_LINE else None


@lru_cache(maxsize=MANY)
def _is_unstructured(name: str) -> bool:
    """Return whether Python treats the value of a field as words without a syntax."""
    return issubclass(SMTP.header_factory[name], UnstructuredHeader)  # type: ignore[index]


@lru_cache(maxsize=1)
def _python_agrees() -> bool:
    """Return whether this patch level of Python writes some samples in the same way."""
    return all(_written(name, value) == _by_django(name, value, "utf-8") for name, value in _SAMPLES)


def _list_of_plain(name: str, value: str) -> str:
    """Return a field of many addresses, folded as Python folds them: full lines, broken after commas."""
    lines, line = [], f"{name}:"
    if len(value) < FULL_LINE < len(line) + 1 + len(value):
        return f"{line}\r\n {value}\r\n"
    for mailbox in re.findall(_MAILBOX, value):
        if len(line) + 1 + len(mailbox) > FULL_LINE and line[-1] != ":":  # Python does not count the comma
            lines.append(line)
            line = ""
        line += f" {mailbox},"
    return "\r\n".join([*lines, line[:-1], ""])


def _by_django(name: str, value: str, charset: str) -> str:
    if MODERN:
        made = SMTP.header_store_parse(name, value)[1]
        if not value.isascii() and isinstance(made, AddressHeader):
            made = SMTP.header_store_parse(name, _with_ascii_domains(made))[1]
        octets = SMTP.fold_binary(name, made)
    else:
        if name.lower() in ADDRESSES:
            value = with_ascii_domains(value, where=lambda domain: ascii_domain(domain) != punycode(domain))
        name, value = djangos.forbid_multi_line_headers(name, value, charset)
        octets = COMPAT32.fold_binary(name, value)
    return octets.decode("ascii", "surrogateescape")


def _with_ascii_domains(made: AddressHeader) -> Any:
    """Return addresses as Django's `_idna_encode_address_header_domains` converts them."""
    if all(each.domain.isascii() for each in made.addresses):
        return made
    return [
        Address(display_name=each.display_name, username=each.username, domain=ascii_domain(each.domain))
        for each in made.addresses
    ]


def _means(name: str, written: str, value: str) -> bool:
    """Return whether a written field still has the value that it was written from."""
    text, value = unfolded(written[len(name) + 1 : -2]).strip(" \t"), value.strip(" \t")
    if _has_surrogate(value):
        return True  # cannot be checked
    if has_long_word(text):
        return False
    if name.lower() in ADDRESSES:
        entries = mailboxes(value)
        return entries is None or _are_the_same(mailboxes(text) or [], entries)
    if value.isascii() and "=?" not in value and name.lower() not in _PROSE:
        return text == value
    if decoded(text).strip() == decoded(value).strip():
        return True
    # Python also decodes encoded words without spaces around them, so they may come from the caller.
    return "=?" in value and decoded(text, strictly=False).strip() == decoded(value, strictly=False).strip()


def _are_the_same(found: list[Mailbox], entries: list[Mailbox]) -> bool:
    return len(found) == len(entries) and all(map(Mailbox.says, found, entries))


def _has_surrogate(value: str) -> bool:
    return not value.isascii() and re.search("[\ud800-\udfff]", value) is not None


def _ours(name: str, value: str) -> str:
    """Return a field as this package writes it."""
    kind = name.lower()
    entries = mailboxes(value) if kind in ADDRESSES else None
    if entries is not None:
        written = folded_mailboxes(name, entries)
    else:
        written = folded(name, decoded(value), is_prose=kind in _PROSE)
    check_field(name, written)
    return written


def check_name(name: Any, value: Any) -> None:
    """Raise ValueError for an invalid header name."""
    if not (isinstance(name, str) and re.fullmatch("[!-9;-~]+", name)):
        raise ValueError(
            f"the header {name!r} with the value {str(value)[:80]!r} is not a header field: its name must consist of "
            "printable ASCII characters, without spaces and colons"
        )
