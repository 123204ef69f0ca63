"""System checks: what would fail at the first mail is told by `manage.py check`. They connect nowhere.

smtp_pool.E001  the options of a mailer are not valid
smtp_pool.E002  a password would travel in clear
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from . import conf
from .backend import PooledBackend
from .core.tls import found


def check_mailers(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:  # noqa: ARG001
    """Check the options of every mailer that uses this backend or a subclass of it."""
    return [problem for alias, options in _mailers() for problem in _check(alias, options)]


def _mailers() -> Iterator[tuple[str | None, Mapping[str, Any]]]:
    if conf.uses_mailers(None):
        mailers: Mapping[str, Any] = settings.MAILERS
        for alias, mailer in mailers.items():
            if _is_ours(mailer.get("BACKEND", "")):
                yield alias, mailer.get("OPTIONS", {})
    elif _is_ours(_email_backend()):
        yield None, {}


def _email_backend() -> str:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # reading EMAIL_BACKEND warns on Django 6.1
        return str(settings.EMAIL_BACKEND)


def _is_ours(path: str) -> bool:
    try:
        backend = import_string(path)
    except ImportError:
        return False
    return isinstance(backend, type) and issubclass(backend, PooledBackend)


def _check_context(source: Any, place: str) -> Iterator[CheckMessage]:
    try:
        found(source)
    except (ImportError, AttributeError) as error:
        yield Error(f"{place}: tls_options['context'] names {source!r}: {error}", id="smtp_pool.E001")


def _check(alias: str | None, options: Mapping[str, Any]) -> Iterator[CheckMessage]:
    place = f"MAILERS[{alias!r}]" if alias is not None else "EMAIL_BACKEND"
    try:
        conf.refuse_unknown(options, alias=alias)
        config = conf.configuration({**options, **conf.stock_values(options, alias=alias)}, alias=alias)
    except ImproperlyConfigured as error:
        text = str(error).removeprefix(f"{place}: ")
        yield Error(f"{place}: {text}", id="smtp_pool.E001")
        return
    server = config.server
    yield from _check_context(server.tls_options.context, place)
    in_clear = server.has_login and not (server.may_encrypt or server.may_reveal_secret)
    if in_clear and server.auth_method != "CRAM-MD5":
        yield Error(
            f"{place}: the password would travel to {server.host} in clear.",
            hint="Set use_tls (STARTTLS) or use_ssl; or allow_insecure_auth, if you really want that.",
            id="smtp_pool.E002",
        )
