"""Policies for rendering that parse a header once: most of a mailing's headers are the same in every message.

The octets are those of `email.policy.SMTP` and `SMTPUTF8`. Python parses each header field from scratch, and even
makes its class anew each time; on Django 6.0 and later that is half of what a small message costs.
"""

from __future__ import annotations

from email import policy
from email.headerregistry import HeaderRegistry
from functools import lru_cache
from typing import Any

LONGEST = 200  # characters: longer ones are rarely the same again
MANY = 128  # fields kept: those that are in every message, and then some


class RememberingRegistry(HeaderRegistry):
    """Makes the header fields of messages; a field is never changed once it is made, so equal ones are one object."""

    def __init__(self) -> None:
        super().__init__()
        self._class_for = lru_cache(maxsize=MANY)(super().__getitem__)
        self._made = lru_cache(maxsize=MANY)(super().__call__)

    def __reduce__(self) -> tuple[type[RememberingRegistry], tuple[()]]:
        """Let a rendered message be pickled and copied: its policy holds this, and what is remembered stays here."""
        return RememberingRegistry, ()

    def __getitem__(self, name: str) -> Any:
        """Return the class of a field."""
        return self._class_for(name.lower())

    def __call__(self, name: str, value: Any) -> Any:
        """Return a field; only plain text is remembered, anything else may change or say more than it shows."""
        if type(name) is str and type(value) is str and len(value) <= LONGEST:
            return self._made(name, value)
        return super().__call__(name, value)


SMTP = policy.SMTP.clone(header_factory=RememberingRegistry())
SMTPUTF8 = policy.SMTPUTF8.clone(header_factory=RememberingRegistry())
