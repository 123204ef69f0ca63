"""Kinds of option values: each converts what a user wrote into one canonical value, or describes the problem.

A kind is a callable that returns the value, or raises ValueError with a text to follow the option's name, such as
"must be True or False". Values that Django's own backend accepts (`EMAIL_PORT = "587"`, 0 and 1 for a bool) are valid.
"""

from __future__ import annotations

import hmac
import ipaddress
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NoReturn, TypeVar, cast

Kind = Callable[[Any], Any]
PartT = TypeVar("PartT", bound=Any)

LONGEST_HOST = 254  # characters of a name, with the final dot (RFC 1035 §2.3.4)
LONGEST_SHOWN = 80  # characters of a value in an error
LONGEST_PATH_SHOWN = 500


class BadOptions(ValueError):
    """All problems of some options; each begins with the name of the option."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


def shown(value: Any, most: int = LONGEST_SHOWN) -> str:
    """Return a value for an error: text and numbers, shortened; otherwise only its type, since it may be secret.

    Arguments:
        most: characters of text to show.
    """
    if not isinstance(value, (str, int, float, type(None))):
        name = type(value).__name__
        return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
    text = repr(_without_login(value) if isinstance(value, str) else value)
    return text if len(text) <= most else f"{text[:most]}..."


def _without_login(value: str) -> str:
    """Return text without what may be a username and a password: it may be a URL in the wrong place."""
    before, at, after = value.rpartition("@")
    if ":" not in before:
        return value
    scheme, slashes, _ = before.partition("//")
    return f"{scheme + slashes if slashes else ''}***{at}{after}"


def all_shown(values: Iterable[Any]) -> str:
    """Return values for an error: the first few, each as `shown`."""
    first, *others = values = list(map(shown, values))
    return ", ".join(values[:3]) + (f" and {len(values) - 3} more" if len(values) > 3 else "") if others else first


class Secret:
    """A password or token that only `reveal()` shows.

    It is compared in constant time, is printed as asterisks, and cannot be pickled.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __repr__(self) -> str:
        return "'***'"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret cannot be pickled: pass the alias of the mailer instead")


def text(value: Any) -> str:
    """Accept a string without control characters."""
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {type(value).__name__}")
    if any(ord(char) < 32 or ord(char) == 127 for char in value):
        raise ValueError("must not contain control characters")
    if _has_surrogates(value):
        raise ValueError("must be text that can be written as UTF-8")
    return value


def _has_surrogates(value: str) -> bool:
    """Return whether a text has undecodable bytes, as from the environment: encoding it would fail, and quote it."""
    return any("\ud800" <= char <= "\udfff" for char in value)


def nonempty_text(value: Any) -> str:
    """Accept a non-empty string."""
    if not text(value):
        raise ValueError("must not be empty")
    return str(value)


def path(value: Any) -> str:
    """Accept the path of a file, as text or as a `pathlib.Path`; it is not checked whether the file exists."""
    return nonempty_text(os.fspath(value) if isinstance(value, os.PathLike) else value)


def secret(value: Any) -> Secret:
    """Wrap a password or token, which may contain any character except NUL (RFC 4616)."""
    if isinstance(value, Secret):
        return value
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {type(value).__name__}")
    if "\0" in value:
        raise ValueError("must not contain a NUL character")
    if _has_surrogates(value):
        raise ValueError("must be text that can be written as UTF-8")
    return Secret(value)


def flag(value: Any) -> bool:
    """Accept True and False, and 1 and 0 as Django's backend does."""
    if isinstance(value, (bool, int, float)) and value in (True, False):
        return bool(value)
    raise ValueError(f"must be True or False, not {shown(value)}")


def whole(*, minimum: int = 0, maximum: int | None = None) -> Kind:
    """Accept a whole number from `minimum` to `maximum`, also as text."""
    span = f"from {minimum}" + (f" to {maximum}" if maximum is not None else "")

    def convert(value: Any) -> int:
        number = _integer(value)
        if number is None or number < minimum or (maximum is not None and number > maximum):
            raise ValueError(f"must be a whole number {span}, not {shown(value)}")
        return number

    return convert


def _integer(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value.strip()):
        return int(value)
    return None


def seconds(*, zero: str | None = None) -> Kind:
    """Accept a positive number of seconds; also 0, if `zero` names its meaning."""
    wanted = "a number of seconds above 0" + (f", or 0 for {zero}" if zero else "")

    def convert(value: Any) -> float:
        number = _number(value)
        if number is None or not math.isfinite(number) or number < 0 or (number == 0 and zero is None):
            raise ValueError(f"must be {wanted}, not {shown(value)}")
        return number

    return convert


def seconds_or(word: str) -> Kind:
    """Accept a positive number of seconds, the word `word`, or None for no limit (infinity)."""

    def convert(value: Any) -> float | str:
        if value is None or (isinstance(value, float) and value == math.inf):
            return math.inf
        return word if isinstance(value, str) and value == word else float(seconds()(value))

    return convert


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def choice(*allowed: str, upper: bool = False) -> Kind:
    """Accept one of these words."""

    def convert(value: Any) -> str:
        word = value.upper() if upper and isinstance(value, str) else value
        if not isinstance(word, str) or word not in allowed:
            raise ValueError(f"must be one of {', '.join(map(repr, allowed))}, not {shown(value)}")
        return str(word)

    return convert


def source_address(value: Any) -> tuple[str, int]:
    """Accept a local IP address, or (IP address, port)."""
    host, port = value if isinstance(value, (tuple, list)) and len(value) == 2 else (value, 0)
    if not isinstance(host, str) or not is_ip_address(host):
        raise ValueError(f"must be an IP address or (IP address, port), not {shown(value)}")
    return host, int(whole(maximum=65535)(port))


def host_name(value: Any) -> str:
    """Accept the name or the IP address of a host, without a scheme or port."""
    host = nonempty_text(value)
    if is_ip_address(bare := host[1:-1] if _is_bracketed(host) else host):
        return bare
    if "://" in host or "@" in host:  # it may contain a password
        raise ValueError("must be only the name of a host, without a URL or user; set the port in port")
    name, colon, port = host.rpartition(":")
    if colon and port.isascii() and port.isdecimal() and (":" not in name or _is_bracketed(name)):
        raise ValueError(f"must not contain the port: set host to {shown(name)}, and port to {port}")
    if len(host) > LONGEST_HOST or not re.fullmatch(r"(?:[\w-]{1,63}\.)*[\w-]{1,63}\.?", host):
        raise ValueError(f"must be a host name such as 'smtp.example.com', or an IP address, not {shown(host)}")
    return host


def _is_bracketed(host: str) -> bool:
    return host.startswith("[") and host.endswith("]")


def is_ip_address(value: str) -> bool:
    """Return whether a host is an IP address."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def callables(value: Any) -> tuple[Any, ...]:
    """Accept a callable or a dotted path, or a list of them."""
    each = value if isinstance(value, (list, tuple)) else [value]
    if wrong := [one for one in each if not _is_callable(one)]:
        raise ValueError(f"must be callables or dotted paths such as 'project.mail.sign', not {all_shown(wrong)}")
    return tuple(each)


def is_dotted_path(value: str) -> bool:
    """Return whether text has the form of a dotted path, such as "project.mail.sign"."""
    return re.fullmatch(r"\w+([.:]\w+)+", value) is not None


def _is_callable(value: Any) -> bool:
    return is_dotted_path(value) if isinstance(value, str) else callable(value)


def context_source(value: Any) -> Any:
    """Accept an SSLContext, a callable that returns one, or a dotted path, which is compared as text."""
    if isinstance(value, str):
        if not is_dotted_path(value):
            raise ValueError(f"must be a dotted path such as 'project.tls.context', not {shown(value)}")
        return value
    if not (hasattr(value, "wrap_bio") or callable(value)):  # this module does not import ssl
        raise ValueError(f"must be an SSLContext, a callable or a dotted path, not {type(value).__name__}")
    try:
        hash(value)
    except TypeError:
        raise ValueError("must be hashable, because it is part of the pool's key") from None
    return value


@dataclass(frozen=True, kw_only=True)
class Doc:
    """The kind and the meaning of an option."""

    kind: Kind
    help: str


def option(default: Any, kind: Kind, meaning: str) -> Any:
    """Declare a field of an options dataclass with its default, kind and meaning. None means "not given"."""
    return field(default=default, metadata={"doc": Doc(kind=kind, help=meaning)})


def check_fields(options: Any, further: Callable[[], Iterable[str]] = tuple) -> None:
    """Validate every field of a frozen options object, and set it to its canonical value.

    Arguments:
        further: returns the problems of the combination of fields; invalid fields have their defaults then.

    Raises BadOptions, which names all invalid fields.
    """
    problems, wrong = [], []
    for spec in fields(options):
        if found := _check_field(options, spec):
            problems += found
            wrong.append(spec.name)
            object.__setattr__(options, spec.name, spec.default)
    # A problem that follows from an invalid field is not reported.
    problems += [each for each in further() if not any(re.search(rf"\b{name}\b", each) for name in wrong)]
    if problems:
        raise BadOptions(problems)


def _check_field(options: Any, spec: Any) -> list[str]:
    value = getattr(options, spec.name)
    if value is None and spec.default is None:
        return []
    try:
        canonical = spec.metadata["doc"].kind(value)
    except BadOptions as error:
        return [f"{spec.name} {problem}" for problem in error.problems]
    except ValueError as error:
        return [f"{spec.name} {error}"]
    object.__setattr__(options, spec.name, canonical)
    return []


def made_of(part: type[PartT], given: Mapping[Any, Any]) -> PartT:
    """Make options from a dict.

    Raises BadOptions, which names all invalid values and unknown keys.
    """
    known = list(part.__dataclass_fields__)
    unknown = sorted(key if isinstance(key, str) else shown(key) for key in given if key not in known)
    problems = [f"has unknown keys: {', '.join(unknown)}; known are {', '.join(known)}"] if unknown else []
    try:
        options = part(**{key: value for key, value in given.items() if key in known})
    except BadOptions as error:
        problems += error.problems
    if problems:
        raise BadOptions(problems)
    return cast("PartT", options)
