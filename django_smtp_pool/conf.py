"""The options: OPTIONS in MAILERS, keyword arguments and EMAIL_* / EMAIL_POOL_* settings, as core options.

`options.py` names them all; what each takes, its default and its meaning stand beside its field in
`core.options`. Settings are read here and in `project.py`. Everywhere the order is: keyword argument or
OPTIONS, then setting, then the preset of `service`, then default; None means "not given", 0 and False mean
themselves.
"""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from django.conf import global_settings, settings
from django.core.exceptions import ImproperlyConfigured

from .core.net.certificate_files import file_problems
from .core.options.fields import BadOptions, shown
from .core.options.host import socket_path
from .core.options.oauth2 import completed
from .core.options.options import TOKEN_KEYS, PoolOptions, ServerOptions
from .libraries import missing_extras
from .options import BY_KEY, NONE_COUNTS, OPTIONS, STOCK_KEYS, MailerOptions, Option
from .project import complaint, is_set, settings_named
from .project import uses_mailers as uses_mailers
from .remembered import PoolKey
from .services import Service, find

__all__ = ["BY_KEY", "NONE_COUNTS", "OPTIONS", "STOCK_KEYS", "MailerOptions", "Option"]

PartT = TypeVar("PartT", ServerOptions, PoolOptions, MailerOptions)

# Settings of this beginning that somebody reads: Django or we.
KNOWN = {option.setting for option in OPTIONS} | {name for name in dir(global_settings) if name.startswith("EMAIL_")}
LONGEST_NAME = 60  # characters of what may be meant for an option
LIKENESS = 0.8  # of a misspelt name to the one that was meant

_SETTINGS = frozenset(option.setting for option in OPTIONS if not option.is_stock)
STOCK_PLACE_KEYS = ("host", "port", "use_tls", "use_ssl")  # where a server is, and how it is reached
TLS_KEYS = ("use_tls", "use_ssl", "opportunistic_tls", "ssl_certfile", "ssl_keyfile", "tls_options")
PLACE_KEYS = (*STOCK_PLACE_KEYS, "opportunistic_tls")
LMTP_PORT = 24  # the one that IANA has set aside for mail systems of one's own; RFC 2033 §5 forbids 25

# What Django's own machinery passes beside options.
PASSED_ON = frozenset({"alias", "fail_silently", "_ignore_unknown_kwargs"})


@dataclass(frozen=True, kw_only=True)
class Config:
    """The options of one mailer."""

    server: ServerOptions
    pool: PoolOptions
    mailer: MailerOptions

    @cached_property
    def key(self) -> PoolKey:
        """What the pool is found by."""
        return PoolKey(server=self.server, pool=self.pool)


def configuration(given: Mapping[str, Any], *, alias: str | None, found: Mapping[str, Any] | None = None) -> Config:
    """Return the options of a mailer.

    Arguments:
        given: values by key; those of Django's own options as its backend resolved them.
        alias: the mailer's name under MAILERS, else None.
        found: what `settings_now` returned at an earlier moment, where that one counts.

    Raises ImproperlyConfigured (under MAILERS its subclass InvalidMailer) for a value that is no good.
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
    """Return one part of the options; where something is wrong with it, None, and say what among the problems."""
    try:
        return part(**{key: value for key, value in values.items() if BY_KEY[key].part is part})
    except BadOptions as error:
        problems += error.problems
    return None


def _drop_defaults(values: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Drop settings that are defaults for every mailer where a mailer has no use for them."""
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
    """Return the error for a problem that Django's backend sees, or we before it, with what else is wrong.

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
    """Return an argument, else the setting, else None; of Django's own options Django reads the settings."""
    value = given.get(one.key)
    if value is None and one.setting in found and not (one.is_identity and uses_mailers(alias)):
        value = found[one.setting]
    return value


def _with_preset(values: dict[str, Any]) -> dict[str, Any]:
    """Put the provider's limits, and how it wants us to log in, below what the user says."""
    try:
        service = find(values["service"]) if "service" in values else None
    except ValueError:  # told with the other values that are no good
        return values
    preset = dict(service.options) if service else {}
    if "oauth2" in values:
        facts = service.oauth2 if service else {}
        values["oauth2"] = completed(values["oauth2"], preset=facts, username=values.get("username"))
    if values.keys() & {"rate_limit", "rate_limits"}:
        for key in ("rate_limit", "rate_delta", "rate_limits"):
            preset.pop(key, None)  # they belong together
    if not values.keys().isdisjoint(TOKEN_KEYS):
        preset.pop("auth_method", None)  # it is one for passwords
    return {**preset, **values}


def place(given: Mapping[str, Any], *, alias: str | None) -> dict[str, Any]:
    """Return where the server is by `service`, and what the user says of it himself; {} where he names none.

    The port of LMTP is another than SMTP's, also where no service is named.
    """
    found = settings_now()
    try:
        service = _service(given, alias, found)
    except ValueError:  # told with the other values that are not valid; Django wants to be told a host
        return {"host": given.get("host") or "localhost"}
    if service is not None:
        return service.place(**{key: _given(BY_KEY[key], given, alias, found) for key in PLACE_KEYS})
    return {"port": LMTP_PORT} if _given(BY_KEY["lmtp"], given, alias, found) and not given.get("port") else {}


def place_by_settings(given: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return where the server is in a project without MAILERS.

    Arguments:
        given: the arguments.
        found: what Django's backend made of arguments and settings. What neither says is left to `service`, and
            the port to the mode of TLS: EMAIL_PORT is 25 by default, also with EMAIL_USE_SSL, where no server listens.
    """
    settled = settings_now()
    if not (found["use_ssl"] or any(_given(BY_KEY[key], given, None, settled) for key in ("service", "lmtp"))):
        return {}
    own = {key: found[key] for key in found if _is_said(key, given.get(key))}
    port = 465 if found["use_ssl"] and "port" not in own else found["port"]
    return place({**given, **dict.fromkeys(found), **own}, alias=None) or {"port": port}


def _is_said(key: str, value: Any) -> bool:
    # Django takes an empty host and the port 0 for none.
    given = bool(value) if key in {"host", "port"} else value is not None
    return given or is_set(BY_KEY[key].setting)


def _service(given: Mapping[str, Any], alias: str | None, found: Mapping[str, Any]) -> Service | None:
    name = _given(BY_KEY["service"], given, alias, found)
    return None if _is_empty(name) else find(name)


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value)


def _name_setting(text: str, given: Mapping[str, Any], alias: str | None) -> str:
    """Put the setting's name before a complaint where the value came from there."""
    option = BY_KEY.get(re.split(r"\W", text, maxsplit=1)[0])
    if option is None or uses_mailers(alias):
        return text
    is_from_there = is_set(option.setting) if option.is_stock else given.get(option.key) is None
    return f"{option.setting}: {text}" if is_from_there else text


def ignored_settings() -> list[str]:
    """Return the settings that say who we are, and that nobody reads: each mailer says that for itself."""
    if not uses_mailers(None):
        return []
    # About Django's own it raises an error itself.
    return [one.setting for one in OPTIONS if one.is_identity and not one.is_stock and is_set(one.setting)]


def misspelt_settings() -> Iterator[tuple[str, str | None]]:
    """Return the settings that look like ours and that nobody reads, each with the one that was probably meant."""
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
    """Return the keys that are no options."""
    return [key for key in keys if key not in BY_KEY and key not in PASSED_ON]


def complaint_of_unknown(unknown: Iterable[Any]) -> str:
    """Return what to say of keys that are no options, with the nearest that is."""
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
    """Return our settings, those that there are; Django's own are read by its backend."""
    return settings_named(_SETTINGS)


def stock_values(options: Mapping[str, Any], *, alias: str | None) -> dict[str, Any]:
    """Return what Django's backend would make of its own options, without constructing one (for the checks)."""
    values = {key: options.get(key) for key in STOCK_KEYS}
    if alias is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # reading EMAIL_HOST and its like warns on Django 6.1
            for key in STOCK_KEYS:
                if values[key] is None:
                    values[key] = getattr(settings, BY_KEY[key].setting)
        return values | place_by_settings(options, {key: values[key] for key in STOCK_PLACE_KEYS})
    values |= place(options, alias=alias)
    if values["port"] is None:
        values["port"] = 465 if values["use_ssl"] else 587 if values["use_tls"] else 25
    return values
