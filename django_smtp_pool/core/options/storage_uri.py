"""The storage of a rate limit, as an option: the URI of a Redis. Pure."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from .fields import Secret, secret

_USER = r"(?:[^][@/?#\s]*@)?"
_HOST = r"(?:[^][@/?#\s:,]+|\[[0-9A-Fa-f:.]+\])"
_PORT = r":[0-9]{1,5}"
_QUERY = r"(?:\?[^@#\s]*)?"
# An example of each scheme, and the rest after "://". Not for clusters: their client has unbounded waits.
_FORMS = {
    "redis": ("redis://host:6379/0", rf"{_USER}{_HOST}(?:{_PORT})?(?:/[0-9]*)?{_QUERY}"),
    "rediss": ("rediss://host:6379/0", rf"{_USER}{_HOST}(?:{_PORT})?(?:/[0-9]*)?{_QUERY}"),
    "redis+unix": ("redis+unix:///run/redis.sock", rf"{_USER}/[^@?#\s]+{_QUERY}"),
    "redis+sentinel": (
        "redis+sentinel://host:26379,host:26379/service",
        rf"{_USER}{_HOST}{_PORT}(?:,{_HOST}{_PORT})*/[\w.-]+{_QUERY}",
    ),
}


class StorageURI(Secret):
    """The URI of a Redis: a secret, since it may hold a password."""

    __slots__ = ()

    @property
    def scheme(self) -> str:
        """The kind of connection to the Redis."""
        return urlsplit(self.reveal()).scheme

    @property
    def place(self) -> str:
        """The URI without its secrets, for logs and errors."""
        parts = urlsplit(self.reveal())
        return f"{parts.scheme}://{_hosts(parts)}{parts.path}"

    def scrubbed(self, text: str) -> str:
        """Return a text from other code without the secrets of this URI."""
        parts = urlsplit(self.reveal())
        queried = [pair.partition("=")[2] for pair in parts.query.split("&") if "password=" in pair]
        for written in (self.reveal(), parts.password, *queried):
            for hidden in filter(None, (written, unquote(written or ""))):
                text = text.replace(hidden, "***")
        return text


def storage_uri(value: Any) -> StorageURI:
    """Accept the URI of a Redis; errors do not quote it, since it may contain a password."""
    if isinstance(value, StorageURI):
        return value
    written = secret(value).reveal()
    scheme, _, rest = written.partition("://")
    if scheme not in _FORMS:
        known = ", ".join(f"{each}://" for each in _FORMS)
        raise ValueError(f"must be a URI such as {_FORMS['redis'][0]!r}; supported are {known}")
    example, form = _FORMS[scheme]
    if not (written.isprintable() and re.fullmatch(form, rest)) or _has_bad_port(written):
        raise ValueError(f"must look like {example!r}; in a password, / ? # @ [ ] and % are written %2F and so on")
    return StorageURI(written)


def _has_bad_port(written: str) -> bool:
    hosts = _hosts(urlsplit(written)).split(",")
    return any(int(port) not in range(1, 65536) for port in re.findall(r":([0-9]+)$", "\n".join(hosts), re.MULTILINE))


def _hosts(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]
