"""International domains, converted as browsers and mail programs do (UTS #46, non-transitional; RFC 5891)."""

from __future__ import annotations

import re
from functools import lru_cache

from django.utils.encoding import punycode

_DOTS = re.compile("[.\u3002\uff0e\uff61]")
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")


def ascii_domain(domain: str) -> str:
    """Return a domain in ASCII; an ASCII domain is returned unchanged.

    Raises ValueError if the domain cannot be written in ASCII.
    """
    return domain if domain.isascii() else _converted(domain)


@lru_cache(maxsize=64)
def _converted(domain: str) -> str:
    labels = _DOTS.split(domain)
    last_is_empty = len(labels) > 1 and not labels[-1]
    if not all(labels[:-1] if last_is_empty else labels):
        raise ValueError(f"the domain {domain!r} has an empty label")
    converted = [label if label.isascii() else _ascii_label(label, domain) for label in labels]
    long = next((label for label in converted if len(label) > 63), None)
    if long is not None:
        raise ValueError(f"the domain {domain!r} has a label that is longer than 63 octets in ASCII")
    return ".".join(converted)


def _ascii_label(label: str, domain: str) -> str:
    import idna  # imported for the first domain that needs it

    try:
        mapped = idna.uts46_remap(label, std3_rules=False, transitional=False)
        found = idna.alabel(mapped).decode("ascii")
    except idna.IDNAError:  # for example an emoji or an underscore: Django sends to such a domain
        found = _by_django(label, domain)
    if len(found) <= 63 and not _LABEL.fullmatch(found):
        raise ValueError(f"the domain {domain!r} has an invalid label: {label!r}")
    return found


def _by_django(label: str, domain: str) -> str:
    try:
        return punycode(label)
    except UnicodeError as error:
        what = "is longer than 63 octets in ASCII" if "long" in str(error) else f"is not valid: {label[:80]!r}"
        raise ValueError(f"the domain {domain!r} has a label that {what}") from None
