"""`message.smtp_options`: SMTP options of one message (DSN: RFC 3461, REQUIRETLS: RFC 8689)."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import Any, NamedTuple, TypeVar

from ..core.options.fields import flag
from ..core.smtp.dsn import DSN, Original, from_xtext

T = TypeVar("T")

KEYS = ("dsn", "require_tls")
OURS = frozenset({"BODY", "SIZE", "SMTPUTF8"})  # parameters that this package sets, even if a caller passes them


class Asked(NamedTuple):
    """What the envelope contains in addition to its addresses."""

    dsn: DSN | None = None
    require_tls: bool = False


def asked_by(message: Any, recipients: Sequence[str], prepare: Callable[[Any], str]) -> Asked:
    """Return the options of a message that has some, checked.

    Arguments:
        recipients: the addresses in the envelope.
        prepare: converts an address from the user's form to the envelope's.

    Raises ValueError for an unknown option or an invalid value.
    """
    options = message.smtp_options
    _check(options, KEYS, "smtp_options")
    dsn, require_tls = options.get("dsn"), options.get("require_tls")
    return Asked(
        dsn=None if dsn is None else _dsn(dsn, recipients, prepare),
        require_tls=require_tls is not None and _named("smtp_options['require_tls']", flag, require_tls),
    )


def set_options(message: Any, given: Mapping[str, Any]) -> None:
    """Set the given options of a message (None: unchanged); see `django_smtp_pool.set_options`."""
    given = {key: value for key, value in given.items() if value is not None}
    if "dsn" in given:
        _check(given["dsn"], [spec.name for spec in fields(DSN)], "smtp_options['dsn']")
    if "require_tls" in given:
        _named("smtp_options['require_tls']", flag, given["require_tls"])
    message.smtp_options = {**(getattr(message, "smtp_options", None) or {}), **given}


def _check(options: Any, known: Sequence[str], name: str) -> None:
    if not isinstance(options, Mapping):
        raise ValueError(f"{name} must be a dict, not {options!r}")
    for key in options:
        if key not in known:
            near = difflib.get_close_matches(str(key).lower(), known, 1)
            hint = f": did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
            raise ValueError(f"{name} has the unknown key {key!r}{hint}")


def _dsn(options: Any, recipients: Sequence[str], prepare: Callable[[Any], str]) -> DSN | None:
    name = "smtp_options['dsn']"
    _check(options, [spec.name for spec in fields(DSN)], name)
    given = {key: value for key, value in options.items() if value is not None}
    for key in given.keys() & {"notify", "orcpt"}:
        if isinstance(given[key], Mapping):
            known = partial(_recipient, recipients=recipients, prepare=prepare, name=f"{name}: {key}")
            given[key] = {known(address): each for address, each in given[key].items()}
    if "notify" in given and not isinstance(given["notify"], Mapping):
        given["notify"] = dict.fromkeys(recipients, given["notify"])
    dsn = _named(f"{name}:", lambda: DSN(**given))
    return dsn if dsn.asks else None


def _recipient(address: Any, *, recipients: Sequence[str], prepare: Callable[[Any], str], name: str) -> str:
    prepared = prepare(address)
    if prepared not in recipients:
        raise ValueError(f"{name} names {address!r}, which is not a recipient of the message")
    return prepared


def _named(name: str, make: Callable[..., T], *values: Any) -> T:
    try:
        return make(*values)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None


def asked_in_words(mail_options: Iterable[str], rcpt_options: Iterable[str], recipients: Sequence[str]) -> Asked:
    """Return the options of a `sendmail` call, which are words of MAIL and RCPT (RET=HDRS), encoded as in SMTP.

    As in smtplib, an option that the server does not offer is an error, and RCPT words apply to each recipient.

    Raises ValueError for unknown words.
    """
    mail, rcpt = _parameters(mail_options), _parameters(rcpt_options)
    strange = [*(mail.keys() - OURS - {"RET", "ENVID", "REQUIRETLS"}), *(rcpt.keys() - OURS - {"NOTIFY", "ORCPT"})]
    if strange:
        raise ValueError(f"unsupported options of MAIL or RCPT: {', '.join(sorted(strange))}")
    given: dict[str, Any] = {}
    if "RET" in mail:
        given["ret"] = mail["RET"]
    if "ENVID" in mail:
        given["envid"] = _named("ENVID", from_xtext, mail["ENVID"])
    if "NOTIFY" in rcpt:
        given["notify"] = dict.fromkeys(recipients, rcpt["NOTIFY"].split(","))
    if "ORCPT" in rcpt:
        given["orcpt"] = dict.fromkeys(recipients, _named("ORCPT", Original.read, rcpt["ORCPT"]))
    return Asked(dsn=DSN(**given, strict=True) if given else None, require_tls="REQUIRETLS" in mail)


def _parameters(words: Iterable[str]) -> dict[str, str]:
    pairs = (word.partition("=") for word in words)
    return {name.upper(): value for name, _, value in pairs}
