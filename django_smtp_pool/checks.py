"""System checks: `manage.py check` reports what would fail at the first message. They open no connection.

smtp_pool.E001  the options of a mailer are not valid
smtp_pool.E002  a password or an access token would be sent unencrypted
smtp_pool.E003  the generator of access tokens cannot be imported
smtp_pool.E004  the files of the TLS options cannot be used
smtp_pool.E005  a finisher cannot be imported
smtp_pool.W001  a password is set but not used, because an access token or a client certificate is used
smtp_pool.W002  a setting for the server or account is ignored, because MAILERS is defined
smtp_pool.W003  more connections than the provider allows
smtp_pool.W004  a client certificate is set but not used, because a context is set
smtp_pool.W005  a short timeout that also applies to the reply to the end of a message
smtp_pool.W006  an unknown setting has a name similar to a known one
smtp_pool.W007  a username without a password or an access token
smtp_pool.W008  the server's certificate is not checked
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's name
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from . import conf
from .backend import PooledBackend
from .core.net.certificate_files import problem_of
from .core.net.tls import context_for, found
from .core.options.options import PROOF_MECHANISMS, ServerOptions
from .services import find

SHORT = 30  # seconds: servers often need as long to answer the end of a message


def check_mailers(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:  # noqa: ARG001
    """Check the options of every mailer that uses this backend or a subclass of it."""
    mailers = list(_mailers())
    problems = [problem for alias, options in mailers for problem in _check(alias, options)]
    return problems + list(_check_settings() if mailers else ())


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


def _check_context(server: ServerOptions, place: str) -> Iterator[CheckMessage]:
    source = server.tls_options.context
    try:
        found(source)
    except (ImportError, AttributeError) as error:
        yield Error(f"{place}: tls_options['context'] names {source!r}: {error}", id="smtp_pool.E001")
    if source is not None and server.ssl_certfile:
        yield Warning(
            f"{place}: ssl_certfile is not used: tls_options['context'] replaces it.",
            hint="Load the certificate into the context (load_cert_chain), and remove ssl_certfile and ssl_keyfile.",
            id="smtp_pool.W004",
        )


def _check(alias: str | None, options: Mapping[str, Any]) -> Iterator[CheckMessage]:
    place = f"MAILERS[{alias!r}]" if alias is not None else "EMAIL_BACKEND"
    try:
        if unknown := conf.unknown_options(options):
            known = {key: value for key, value in options.items() if key not in unknown}
            raise conf.all_problems(conf.complaint_of_unknown(unknown), known, alias=alias)
        config = conf.configuration({**options, **conf.stock_values(options, alias=alias)}, alias=alias)
    except ImproperlyConfigured as error:
        text = str(error).removeprefix(f"{place}: ")
        yield Error(f"{place}: {text}", id="smtp_pool.E001")
        return
    server = config.server
    yield from _check_context(server, place)
    yield from _check_verification(server, place)
    yield from _check_login(server, place)
    yield from _check_secret(server, place)
    yield from _check_callable("oauth2_generator", server.oauth2_generator, "smtp_pool.E003", place)
    for finisher in config.mailer.finishers:
        yield from _check_callable("finishers", finisher, "smtp_pool.E005", place)
    yield from _check_limit(config, place)
    yield from _check_timeout(server, place)


def _check_verification(server: ServerOptions, place: str) -> Iterator[CheckMessage]:
    if server.tls_options.context is None and server.may_encrypt and _names_files(server):
        try:
            context_for(server)
        except (OSError, ValueError) as error:
            yield Error(f"{place}: {problem_of(error)}", id="smtp_pool.E004")
    if not server.tls_options.verify:
        yield Warning(
            f"{place}: tls_options['verify'] is False: anyone on the network path to {server.host} can read the "
            "password and the mail.",
            hint="Remove it. If the server's certificate is from a private CA, set tls_options['ca_file'].",
            id="smtp_pool.W008",
        )


def _names_files(server: ServerOptions) -> bool:
    return bool(server.tls_options.ca_file or server.ssl_certfile)


def _check_login(server: ServerOptions, place: str) -> Iterator[CheckMessage]:
    if server.lacks_secret:
        yield Warning(
            f"{place}: username is set without a password or an access token, so the backend does not log in.",
            hint="Set the password (is an environment variable missing?), or remove username.",
            id="smtp_pool.W007",
        )


def _check_secret(server: ServerOptions, place: str) -> Iterator[CheckMessage]:
    means = "client certificate" if server.uses_certificate else "access token"
    secret = "access token" if server.uses_token else "password"
    in_clear = server.has_login and not (server.may_encrypt or server.may_reveal_secret)
    if in_clear and server.auth_method not in PROOF_MECHANISMS:
        yield Error(
            f"{place}: the {secret} would be sent to {server.host}{server.detour} unencrypted.",
            hint="Set use_tls (STARTTLS) or use_ssl. To send it unencrypted on purpose, set allow_insecure_auth.",
            id="smtp_pool.E002",
        )
    if server.password and (server.uses_token or server.uses_certificate):
        yield Warning(
            f"{place}: the password is not used: the backend logs in with the {means}.",
            hint="Remove the password.",
            id="smtp_pool.W001",
        )


def _check_timeout(server: ServerOptions, place: str) -> Iterator[CheckMessage]:
    if server.timeout is not None and server.timeout < SHORT and server.data_timeout is None:
        yield Warning(
            f"{place}: timeout is {server.timeout:g} seconds, and it also applies to the reply to the end of a "
            "message. If the server needs longer, the outcome of the message is unknown (DeliveryUnknown).",
            hint=f"Set data_timeout to 120 or more, or timeout to {SHORT} or more.",
            id="smtp_pool.W005",
        )


def _check_callable(option: str, source: Any, identity: str, place: str) -> Iterator[CheckMessage]:
    if not isinstance(source, str):
        return
    try:
        named = found(source)
    except Exception as error:  # noqa: BLE001 - importing it runs the project's code
        yield Error(f"{place}: {option} names {source!r}: {error}", id=identity)
    else:
        if not callable(named):
            yield Error(f"{place}: {option} names {source!r}, which is not callable.", id=identity)


def _check_limit(config: conf.Config, place: str) -> Iterator[CheckMessage]:
    service = find(config.mailer.service) if config.mailer.service else None
    allowed = service.options.get("max_connections") if service else None
    processes = _processes()
    if service is not None and allowed is not None and config.pool.max_connections * processes > allowed:
        yield Warning(
            f"{place}: {service.name} allows {allowed} connections at once, and max_connections is "
            f"{config.pool.max_connections} in each of {processes} processes.",
            hint="Lower max_connections, or the number of processes that send mail.",
            id="smtp_pool.W003",
        )


def _processes() -> int:
    """Return the number of worker processes that the environment sets for servers such as gunicorn."""
    told = os.environ.get("WEB_CONCURRENCY", "")
    return max(1, int(told)) if told.isascii() and told.isdecimal() else 1


def _check_settings() -> Iterator[CheckMessage]:
    for setting, nearest in conf.misspelt_settings():
        meant = f" Did you mean {nearest}?" if nearest else ""
        yield Warning(
            f"{setting} is not a setting of Django or django-smtp-pool.{meant}",
            hint="Correct its name, or remove it.",
            id="smtp_pool.W006",
        )
    for setting in conf.ignored_settings():
        yield Warning(
            f"{setting} is ignored: MAILERS is defined.",
            hint="Move it into the OPTIONS of the mailer that needs it.",
            id="smtp_pool.W002",
        )
