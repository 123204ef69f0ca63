"""Kinds of option values: each turns what a user wrote into one canonical value, or says what is wrong.

A kind is a callable: it returns the value, or raises ValueError with a text that continues "max_messages ...".
What Django's own backend takes (`EMAIL_PORT = "587"`, 0 and 1 for a bool) is taken.
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

LONGEST_HOST = 254  # characters of a name, with the dot at its end (RFC 1035 §2.3.4)
LONGEST_SHOWN = 80  # characters of a value in an error
LONGEST_PATH_SHOWN = 500


class BadOptions(ValueError):
    """All that is wrong with some options; each problem begins with the name of the option."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


def shown(value: Any, most: int = LONGEST_SHOWN) -> str:
    """Return a value for an error: text and numbers, shortened; of anything else the type, it may hold secrets.

    Arguments:
        most: characters of text to show.
    """
    if not isinstance(value, (str, int, float, type(None))):
        name = type(value).__name__
        return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
    text = repr(_without_login(value) if isinstance(value, str) else value)
    return text if len(text) <= most else f"{text[:most]}..."


def _without_login(value: str) -> str:
    """Return text without what may be a name and a password: a URL may stand in the wrong place."""
    before, at, after = value.rpartition("@")
    if ":" not in before:
        return value
    scheme, slashes, _ = before.partition("//")
    return f"{scheme + slashes if slashes else ''}***{at}{after}"


def all_shown(values: Iterable[Any]) -> str:
    """Return some values for an error: each as `shown`, a few of them."""
    first, *others = values = list(map(shown, values))
    return ", ".join(values[:3]) + (f" and {len(values) - 3} more" if len(values) > 3 else "") if others else first


class Secret:
    """A password or token that shows itself only to who asks for it by name: `reveal()`.

    It is compared in constant time, prints as asterisks and refuses to be pickled.
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
        raise TypeError("a secret is not pickled: send the name of the mailer instead")


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
    """Tell of octets of the environment that are no text: encoding them later would fail, and quote all of it."""
    return any("\ud800" <= char <= "\udfff" for char in value)


def nonempty_text(value: Any) -> str:
    """Accept a string that says something."""
    if not text(value):
        raise ValueError("must not be empty")
    return str(value)


def path(value: Any) -> str:
    """Accept a path of a file, as text or as a `pathlib.Path`; whether it exists is seen when it is read."""
    return nonempty_text(os.fspath(value) if isinstance(value, os.PathLike) else value)


def secret(value: Any) -> Secret:
    """Wrap a password or token, which may contain anything but a NUL (RFC 4616)."""
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
    """Accept a whole number, also written as text, from `minimum` to `maximum`."""
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
    """Accept a positive number of seconds; 0 only where it has a meaning, which `zero` names."""
    wanted = "a number of seconds above 0" + (f", or 0 for {zero}" if zero else "")

    def convert(value: Any) -> float:
        number = _number(value)
        if number is None or not math.isfinite(number) or number < 0 or (number == 0 and zero is None):
            raise ValueError(f"must be {wanted}, not {shown(value)}")
        return number

    return convert


def seconds_or(word: str) -> Kind:
    """Accept a positive number of seconds, a word that stands for one, or None for as long as it takes (infinity)."""

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
    """Accept one of a few words."""

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
    """Accept the name or the IP address of a host, without a scheme and a port."""
    host = nonempty_text(value)
    if is_ip_address(bare := host[1:-1] if _is_bracketed(host) else host):
        return bare
    if "://" in host or "@" in host:  # which may hold a password
        raise ValueError("must be the name of a host alone: no URL and no user; the port goes into port")
    name, colon, port = host.rpartition(":")
    if colon and port.isascii() and port.isdecimal() and (":" not in name or _is_bracketed(name)):
        raise ValueError(f"must not hold the port: write {shown(name)}, and port {port}")
    if len(host) > LONGEST_HOST or not re.fullmatch(r"(?:[\w-]{1,63}\.)*[\w-]{1,63}\.?", host):
        raise ValueError(f"must be a host name such as 'smtp.example.com', or an IP address, not {shown(host)}")
    return host


def _is_bracketed(host: str) -> bool:
    return host.startswith("[") and host.endswith("]")


def is_ip_address(value: str) -> bool:
    """Tell whether a host is written as an IP address."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def callables(value: Any) -> tuple[Any, ...]:
    """Accept a list of callables and dotted paths of such, or one of them."""
    each = value if isinstance(value, (list, tuple)) else [value]
    if wrong := [one for one in each if not _is_callable(one)]:
        raise ValueError(f"must be callables or dotted paths such as 'project.mail.sign', not {all_shown(wrong)}")
    return tuple(each)


def _is_callable(value: Any) -> bool:
    if isinstance(value, str):
        return re.fullmatch(r"\w+([.:]\w+)+", value) is not None
    return callable(value)


def context_source(value: Any) -> Any:
    """Accept an SSLContext, a callable that makes one, or a dotted path, which is compared as text."""
    if isinstance(value, str):
        if not re.fullmatch(r"\w+([.:]\w+)+", value):
            raise ValueError(f"must be a dotted path such as 'project.tls.context', not {shown(value)}")
        return value
    if not (hasattr(value, "wrap_bio") or callable(value)):  # this module knows no ssl
        raise ValueError(f"must be an SSLContext, a callable or a dotted path, not {type(value).__name__}")
    try:
        hash(value)
    except TypeError:
        raise ValueError("must be hashable: pools are told apart by it") from None
    return value


@dataclass(frozen=True, kw_only=True)
class Doc:
    """What an option is called, takes and means."""

    kind: Kind
    help: str


def option(default: Any, kind: Kind, meaning: str) -> Any:
    """Declare a field of an options dataclass: its default, its kind, its meaning. None is "not given"."""
    return field(default=default, metadata={"doc": Doc(kind=kind, help=meaning)})


def check_fields(options: Any, further: Callable[[], Iterable[str]] = tuple) -> None:
    """Put every field of a frozen options object into its canonical form.

    Arguments:
        further: returns what is wrong with the fields together; those that are wrong by themselves have their default.

    Raises BadOptions, which names all of them that are not right.
    """
    problems, wrong = [], []
    for spec in fields(options):
        if found := _check_field(options, spec):
            problems += found
            wrong.append(spec.name)
            object.__setattr__(options, spec.name, spec.default)
    # What is wrong with a field is said; what follows from it is not.
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
    """Make options of a dict.

    Raises BadOptions, which names all that is wrong with it, and what is no key of theirs.
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
