"""What a misbehaviour is.

It is called with the session and the reply that would have been proper (lines joined by CRLF). It returns the
code that the server holds itself to: a command has taken effect where that is 2xx or 3xx; or it ends the
session and does not return. `accepts` says whether the server, at the end of data, takes the message (it
writes that down before a single octet of the reply leaves) or drops it.
"""

from collections.abc import Callable
from dataclasses import dataclass

CATALOGUE = {}


@dataclass(frozen=True, kw_only=True)
class Misbehaviour:
    """A named sin."""

    name: str
    act: Callable
    accepts: bool = False

    def __call__(self, session, proper):
        """Commit it."""
        return self.act(session, proper)

    def __repr__(self):
        return self.name


def sin(*, accepts):
    """Enter a function into the catalogue."""

    def enter(function):
        entry = Misbehaviour(name=function.__name__, act=function, accepts=accepts)
        object.__setattr__(entry, "__doc__", function.__doc__)
        CATALOGUE[entry.name] = entry
        return entry

    return enter


def code_of(reply):
    """Return the code of a reply that has one."""
    return int(reply[:3]) if reply[:3].isdigit() else 0
