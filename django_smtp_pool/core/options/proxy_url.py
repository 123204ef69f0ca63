"""The proxy for connections to a server, as an option: its URL. Pure."""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from .fields import Secret, secret

_EXAMPLE = "socks5://user:password@proxy.example.com:1080"
_SCHEMES = ("socks5", "socks5h", "http")
_LONGEST = 255  # octets of a username or password (RFC 1929)


class ProxyURL(Secret):
    """The URL of a proxy: a secret, since it may hold a password."""

    __slots__ = ()

    @property
    def _parts(self) -> SplitResult:
        return urlsplit(self.reveal())

    @property
    def is_http(self) -> bool:
        """Whether it is an HTTP proxy, for CONNECT (RFC 9110 §9.3.6); otherwise SOCKS (RFC 1928)."""
        return self._parts.scheme == "http"

    @property
    def resolves(self) -> bool:
        """Whether the proxy resolves the server's name; otherwise it is resolved here."""
        return self._parts.scheme != "socks5"

    @property
    def host(self) -> str:
        """The host name or IP address of the proxy."""
        return self._parts.hostname or ""

    @property
    def port(self) -> int:
        """The port of the proxy."""
        return self._parts.port or 0

    @property
    def username(self) -> str | None:
        """The username for the proxy."""
        return unquote(self._parts.username) if self._parts.username else None

    @property
    def password(self) -> str | None:
        """The password for the proxy."""
        return unquote(self._parts.password or "") if self._parts.username else None

    @property
    def place(self) -> str:
        """The URL without its secrets, for logs and errors."""
        return f"{self._parts.scheme}://{self._parts.netloc.rpartition('@')[2]}"


def proxy_url(value: Any) -> ProxyURL:
    """Accept the URL of a proxy; errors do not quote it, since it may contain a password."""
    if isinstance(value, ProxyURL):
        return value
    url = ProxyURL(secret(value).reveal())
    if problem := _problem(url):
        raise ValueError(problem)
    return url


def _problem(url: ProxyURL) -> str | None:
    written = url.reveal()
    scheme, separator, rest = written.partition("://")
    if not separator or scheme not in _SCHEMES:
        known = ", ".join(f"{each}://" for each in _SCHEMES)
        return f"must be a URL such as {_EXAMPLE!r}; supported are {known} (not a proxy that itself needs TLS)"
    # urlsplit() removes line ends, and takes the part after a "/" in a password for the path.
    if not _is_clean(written) or not _has_place(written) or rest.count("@") > 1 or rest.rstrip("/") != _netloc(written):
        return f"must look like {_EXAMPLE!r}, with the port; in a password, / ? # @ [ ] and % are written %2F and so on"
    return _login_problem(url)


def _is_clean(written: str) -> bool:
    return written.isascii() and written.isprintable() and not any(char.isspace() or char == "\\" for char in written)


def _has_place(written: str) -> bool:
    try:
        parts = urlsplit(written)
        return bool(parts.hostname) and parts.port is not None and parts.port > 0
    except ValueError:  # the port is too large, or the IPv6 address is invalid
        return False


def _netloc(written: str) -> str:
    return urlsplit(written).netloc


def _login_problem(url: ProxyURL) -> str | None:
    before, at, _ = _netloc(url.reveal()).rpartition("@")
    if not at:
        return None
    username, password = url.username or "", url.password or ""
    if not username or ":" not in before or not (password or url.is_http):
        return "needs both a user and a password, or neither, as in 'socks5://user:password@host:port'"
    if url.is_http:
        return "must not have a ':' in the user, which HTTP does not allow" if ":" in username else _not_in_latin(url)
    if not (username.isascii() and password.isascii() and max(len(username), len(password)) <= _LONGEST):
        return f"must have a user and a password in ASCII, of {_LONGEST} characters at most: SOCKS carries no others"
    return None


def _not_in_latin(url: ProxyURL) -> str | None:
    try:
        f"{url.username}{url.password}".encode("latin-1")
    except UnicodeEncodeError:
        pass
    else:
        return None
    return "must have a user and a password in Latin-1: Basic authentication carries no others"
