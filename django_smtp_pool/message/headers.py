"""Rendering policies that parse a header only once: most headers of a mailing are the same in every message.

The octets are those of `email.policy.SMTP` and `SMTPUTF8`. Python parses each header field again, and even creates
its class again, every time; on Django 6.0 and later this is half the cost of a small message.
"""

from __future__ import annotations

from email import policy
from email.headerregistry import HeaderRegistry
from functools import lru_cache
from typing import Any

LONGEST = 200  # characters; longer values rarely repeat
MANY = 128  # cached fields: enough for the ones in every message


class RememberingRegistry(HeaderRegistry):
    """Creates header fields. A field never changes after it is created, so equal fields share one object."""

    def __init__(self) -> None:
        super().__init__()
        self._class_for = lru_cache(maxsize=MANY)(super().__getitem__)
        self._made = lru_cache(maxsize=MANY)(super().__call__)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy without the cache: messages keep the policy that they were created with."""
        return type(self), ()

    def __getitem__(self, name: str) -> Any:
        """Return the class of a field."""
        return self._class_for(name.lower())

    def __call__(self, name: str, value: Any) -> Any:
        """Return a field; only plain strings are cached, since other values may change."""
        if type(name) is str and type(value) is str and len(value) <= LONGEST:
            return self._made(name, value)
        return super().__call__(name, value)


SMTP = policy.SMTP.clone(header_factory=RememberingRegistry())
SMTPUTF8 = policy.SMTPUTF8.clone(header_factory=RememberingRegistry())
