"""The interface of a misbehaviour.

It is called with the session and the proper reply (lines joined by CRLF). It returns the code by which the server
acts, so the command takes effect if it is 2xx or 3xx; or it ends the session and does not return. `accepts` says
whether the server, at the end of data, accepts the message or drops it; this is recorded before any octet of the
reply is sent.
"""

from collections.abc import Callable
from dataclasses import dataclass

CATALOGUE = {}


@dataclass(frozen=True, kw_only=True)
class Misbehaviour:
    """A named fault of a server or network."""

    name: str
    act: Callable
    accepts: bool = False

    def __call__(self, session, proper):
        """Run it; return the code by which the server acts."""
        return self.act(session, proper)

    def __repr__(self):
        return self.name


def sin(*, accepts):
    """Add a function to the catalogue."""

    def enter(function):
        entry = Misbehaviour(name=function.__name__, act=function, accepts=accepts)
        object.__setattr__(entry, "__doc__", function.__doc__)
        CATALOGUE[entry.name] = entry
        return entry

    return enter


def code_of(reply):
    """Return the code of a reply."""
    return int(reply[:3]) if reply[:3].isdigit() else 0
