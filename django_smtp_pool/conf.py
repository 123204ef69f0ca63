"""The options: OPTIONS in MAILERS, keyword arguments and EMAIL_* / EMAIL_POOL_* settings, as core options.

`options.py` lists them all; the type, default and meaning of each are with its field in `core.options`. Settings
are read here. The order is always: keyword argument or OPTIONS, then setting, then the preset
of `service`, then default. None means "not given"; 0 and False are values.
"""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import django
from django.conf import Settings, UserSettingsHolder, global_settings, settings
from django.core.exceptions import ImproperlyConfigured

from .core.net.certificate_files import file_problems
from .core.once import once
from .core.options.extras import missing_extras
from .core.options.fields import BadOptions, shown
from .core.options.host import socket_path
from .core.options.oauth2 import completed
from .core.options.options import TOKEN_KEYS, PoolOptions, ServerOptions
from .options import BY_KEY, NONE_COUNTS, OPTIONS, STOCK_KEYS, MailerOptions, Option
from .remembered import PoolKey
from .services import Service, find

__all__ = ["BY_KEY", "NONE_COUNTS", "OPTIONS", "STOCK_KEYS", "MailerOptions", "Option"]

PartT = TypeVar("PartT", ServerOptions, PoolOptions, MailerOptions)

# Settings with our prefixes that Django or this package reads.
KNOWN = {option.setting for option in OPTIONS} | {name for name in dir(global_settings) if name.startswith("EMAIL_")}
LONGEST_NAME = 60  # characters of an unknown option that an error shows
LIKENESS = 0.8  # how similar a misspelt name must be to a known one, from 0 to 1

_SETTINGS = frozenset(option.setting for option in OPTIONS if not option.is_stock)
STOCK_PLACE_KEYS = ("host", "port", "use_tls", "use_ssl")  # where a server is, and how it is reached
TLS_KEYS = ("use_tls", "use_ssl", "opportunistic_tls", "ssl_certfile", "ssl_keyfile", "tls_options")
PLACE_KEYS = (*STOCK_PLACE_KEYS, "opportunistic_tls")
LMTP_PORT = 24  # IANA's port for private mail systems; RFC 2033 §5 forbids port 25

# What Django itself passes in addition to the options.
PASSED_ON = frozenset({"alias", "fail_silently", "_ignore_unknown_kwargs"})
KNOWN_KEYS = BY_KEY.keys() | PASSED_ON
# What may change where a server is.
_PLACING = ("service", "lmtp")
_PLACING_SETTINGS = frozenset(BY_KEY[key].setting for key in _PLACING)


@dataclass(frozen=True, kw_only=True)
class Config:
    """The options of one mailer."""

    server: ServerOptions
    pool: PoolOptions
    mailer: MailerOptions

    @once
    def key(self) -> PoolKey:
        """The key of the pool."""
        return PoolKey(server=self.server, pool=self.pool)


def configuration(given: Mapping[str, Any], *, alias: str | None, found: Mapping[str, Any] | None = None) -> Config:
    """Return the options of a mailer.

    Arguments:
        given: values by key; Django's own options as Django's backend resolved them.
        alias: the mailer's alias under MAILERS, otherwise None.
        found: an earlier result of `settings_now()` to use; by default the settings are read now.

    Raises ImproperlyConfigured (under MAILERS its subclass InvalidMailer) for an invalid value.
    """
    if alias is not None and given.get("host") is None:
        raise complaint("OPTIONS must define 'host'.", alias)  # in Django's words
    values = _with_preset(dict(_with_settings(given, alias, settings_now() if found is None else found)))
    if alias is not None:
        _drop_defaults(values, given)
    problems: list[str] = []
    server = _made(ServerOptions, values, problems)
    pool = _made(PoolOptions, values, problems)
    mailer = _made(MailerOptions, values, problems)
    problems += missing_extras(values)
    if server is not None:
        problems += file_problems(server)
    elif tls := _made(ServerOptions, {key: values[key] for key in TLS_KEYS if key in values}, []):
        problems += file_problems(tls)
    if problems or server is None or pool is None or mailer is None:
        raise complaint("; ".join(_name_setting(problem, given, alias) for problem in problems), alias)
    return Config(server=server, pool=pool, mailer=mailer)


def _made(part: type[PartT], values: Mapping[str, Any], problems: list[str]) -> PartT | None:
    """Return one part of the options. If it is invalid, add its problems to `problems` and return None."""
    try:
        return part(**{key: value for key, value in values.items() if BY_KEY[key].part is part})
    except BadOptions as error:
        problems += error.problems
    return None


def _drop_defaults(values: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Drop settings that are defaults for all mailers if this mailer cannot use them."""
    if given.get("rate_storage") is None and not values.keys() & {"rate_limit", "rate_limits"}:
        values.pop("rate_storage", None)
    host = values.get("host")
    is_unix = isinstance(host, str) and socket_path(host) is not None
    if given.get("proxy") is None and (is_unix or "source_address" in values):
        values.pop("proxy", None)


def _with_settings(given: Mapping[str, Any], alias: str | None, found: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for one in OPTIONS:
        value = _given(one, given, alias, found)
        says_none = one.key in NONE_COUNTS and (one.key in given or one.setting in found)
        if says_none or not _is_empty(value):
            yield one.key, value


def all_problems(problem: Exception | str, options: Mapping[str, Any], *, alias: str | None) -> Exception:
    """Return the error for a problem that Django's backend or this one found, with all other problems.

    Arguments:
        options: the arguments.
    """
    first = str(problem)
    try:
        given = {**options, **stock_values(options, alias=alias)}
        if given["use_tls"] and given["use_ssl"]:
            given["use_ssl"] = False
        configuration({**given, "host": given["host"] or "localhost"}, alias=alias)
    except AttributeError:  # there are no such settings under MAILERS
        pass
    except ImproperlyConfigured as others:
        separator = " " if first.endswith(".") else "; "
        first += separator + str(others).removeprefix(f"MAILERS[{alias!r}]: ")
    if isinstance(problem, str):
        return complaint(first, alias)
    problem.args = (first,)
    return problem


def _given(one: Option, given: Mapping[str, Any], alias: str | None, found: Mapping[str, Any]) -> Any:
    """Return the argument, or the setting, or None. Settings of Django's own options are read by Django's backend."""
    value = given.get(one.key)
    if value is None and one.setting in found and not (one.is_identity and uses_mailers(alias)):
        value = found[one.setting]
    return value


def _with_preset(values: dict[str, Any]) -> dict[str, Any]:
    """Use the provider's limits and login method as defaults below the user's options."""
    try:
        service = find(values["service"]) if "service" in values else None
    except ValueError:  # reported with the other invalid values
        return values
    preset = dict(service.options) if service else {}
    if "oauth2" in values:
        facts = service.oauth2 if service else {}
        values["oauth2"] = completed(values["oauth2"], preset=facts, username=values.get("username"))
    if values.keys() & {"rate_limit", "rate_limits"}:
        for key in ("rate_limit", "rate_delta", "rate_limits"):
            preset.pop(key, None)  # they belong together
    if not values.keys().isdisjoint(TOKEN_KEYS):
        preset.pop("auth_method", None)  # the preset is for passwords
    return {**preset, **values}


def place(given: Mapping[str, Any], found: Mapping[str, Any], *, alias: str | None) -> dict[str, Any]:
    """Return where the server is: the preset of `service`, overridden by the user's values; {} without a service.

    With LMTP the default port differs from SMTP's, even without a service.

    Arguments:
        found: the result of `settings_now()`.
    """
    if given.keys().isdisjoint(_PLACING) and found.keys().isdisjoint(_PLACING_SETTINGS):
        return {}
    try:
        service = _service(given, alias, found)
    except ValueError:  # reported with the other invalid values; Django requires a host
        return {"host": given.get("host") or "localhost"}
    if service is not None:
        return service.place(**{key: _given(BY_KEY[key], given, alias, found) for key in PLACE_KEYS})
    return {"port": LMTP_PORT} if _given(BY_KEY["lmtp"], given, alias, found) and not given.get("port") else {}


def place_by_settings(
    given: Mapping[str, Any], found: Mapping[str, Any], resolved: Mapping[str, Any]
) -> dict[str, Any]:
    """Return where the server is in a project without MAILERS.

    Arguments:
        given: the arguments.
        found: the result of `settings_now()`.
        resolved: the values from Django's backend, resolved from arguments and settings. Values that neither sets come
            from `service`, and the port from the TLS mode: EMAIL_PORT defaults to 25 even with EMAIL_USE_SSL, and no
            server expects TLS there.
    """
    if not (resolved["use_ssl"] or any(_given(BY_KEY[key], given, None, found) for key in _PLACING)):
        return {}
    own = {key: resolved[key] for key in resolved if _is_explicit(key, given.get(key))}
    port = 465 if resolved["use_ssl"] and "port" not in own else resolved["port"]
    return place({**given, **dict.fromkeys(resolved), **own}, found, alias=None) or {"port": port}


def _is_explicit(key: str, value: Any) -> bool:
    # Django treats an empty host and port 0 as not set.
    given = bool(value) if key in {"host", "port"} else value is not None
    return given or is_set(BY_KEY[key].setting)


def _service(given: Mapping[str, Any], alias: str | None, found: Mapping[str, Any]) -> Service | None:
    name = _given(BY_KEY["service"], given, alias, found)
    return None if _is_empty(name) else find(name)


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value)


def _name_setting(text: str, given: Mapping[str, Any], alias: str | None) -> str:
    """Put the setting's name before a problem if the value came from the setting."""
    option = BY_KEY.get(re.split(r"\W", text, maxsplit=1)[0])
    if option is None or uses_mailers(alias):
        return text
    is_from_there = is_set(option.setting) if option.is_stock else given.get(option.key) is None
    return f"{option.setting}: {text}" if is_from_there else text


def ignored_settings() -> list[str]:
    """Return the settings for the server and account that are ignored because MAILERS is defined."""
    if not uses_mailers(None):
        return []
    # Django raises an error for its own settings.
    return [one.setting for one in OPTIONS if one.is_identity and not one.is_stock and is_set(one.setting)]


def misspelt_settings() -> Iterator[tuple[str, str | None]]:
    """Yield settings that look like ours but are not used, each with the setting that was probably meant."""
    names = {one.setting for one in OPTIONS if not (one.is_identity and uses_mailers(None))}
    for setting in dir(settings):
        if not setting.startswith("EMAIL_") or setting in KNOWN or not is_set(setting):
            continue
        key = setting.removeprefix("EMAIL_POOL_").removeprefix("EMAIL_").lower()
        near = difflib.get_close_matches(setting, names, 1, LIKENESS)
        meant = BY_KEY[key].setting if key in BY_KEY and BY_KEY[key].setting in names else next(iter(near), None)
        if meant or setting.startswith("EMAIL_POOL_"):
            yield setting, meant


def unknown_options(keys: Iterable[Any]) -> list[Any]:
    """Return the keys that are not options."""
    return [key for key in keys if key not in KNOWN_KEYS]


def complaint_of_unknown(unknown: Iterable[Any]) -> str:
    """Return the error text for unknown options, with the nearest known ones."""
    names = ", ".join(shown(key, LONGEST_NAME) for key in unknown)  # the first sentence is Django's own
    return " ".join([f"Unknown options {names}.", *filter(None, map(_hint, unknown))])


def _hint(key: Any) -> str | None:
    if not isinstance(key, str) or len(key) > LONGEST_NAME:
        return None
    renamed = {option.nodemailer: option.key for option in OPTIONS if option.nodemailer}
    if key in renamed:
        return f"{key!r} is called {renamed[key]!r} here."
    near = difflib.get_close_matches(key.lower().removeprefix("email_pool_").removeprefix("email_"), BY_KEY, 1)
    return f"Did you mean {near[0]!r} for {key!r}?" if near else None


def settings_now() -> Mapping[str, Any]:
    """Return those of our settings that are set; Django's backend reads its own.

    Every new backend asks for all of our settings, and finding out through `settings` that one is missing is slow. So
    this looks into Django's settings objects.
    """
    found: dict[str, Any] = {}
    deleted: set[str] = set()
    settings.DEFAULT_CHARSET  # noqa: B018 - reading any setting loads them
    layer: Any = vars(settings)["_wrapped"]
    while layer is not global_settings:
        if layer.__class__ is not Settings and layer.__class__ is not UserSettingsHolder:  # a class of the project
            return {name: getattr(settings, name) for name in _SETTINGS if hasattr(settings, name)}
        values = vars(layer)
        for name in values.keys() & _SETTINGS:
            if name not in found and name not in deleted:
                found[name] = values[name]
        deleted |= values.get("_deleted", deleted)
        layer = values.get("default_settings", global_settings)
    return found


def stock_values(options: Mapping[str, Any], *, alias: str | None) -> dict[str, Any]:
    """Return the values that Django's backend would use for its own options, without creating one (for the checks)."""
    values = {key: options.get(key) for key in STOCK_KEYS}
    if alias is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # reading EMAIL_HOST and similar settings warns on Django 6.1
            for key in STOCK_KEYS:
                if values[key] is None:
                    values[key] = getattr(settings, BY_KEY[key].setting)
        resolved = {key: values[key] for key in STOCK_PLACE_KEYS}
        return values | place_by_settings(options, settings_now(), resolved)
    values |= place(options, settings_now(), alias=alias)
    if values["port"] is None:
        values["port"] = 465 if values["use_ssl"] else 587 if values["use_tls"] else 25
    return values


def is_set(setting: str) -> bool:
    """Return whether the user's settings contain a setting. It is not read, so Django warns about nothing."""
    return bool(settings.is_overridden(setting))  # type: ignore[misc]  # django-stubs does not know it


def uses_mailers(alias: str | None) -> bool:
    """Return whether the server and the account come from MAILERS alone."""
    return alias is not None or (django.VERSION >= (6, 1) and hasattr(settings, "MAILERS"))


def complaint(text: str, alias: str | None) -> ImproperlyConfigured:
    """Return the error for an invalid option: InvalidMailer under MAILERS, as Django raises it."""
    if alias is not None and django.VERSION >= (6, 1):
        from django.core.mail import InvalidMailer

        error: ImproperlyConfigured = InvalidMailer(text, alias=alias)
        return error
    return ImproperlyConfigured(text)
