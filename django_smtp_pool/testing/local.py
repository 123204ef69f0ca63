"""Run a real server on the loopback interface, and use it as the project's mailer during a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import django
from django.test import override_settings

from ..conf import BY_KEY
from ..registry import reset
from .server.fault import FaultServer

POOLED = "django_smtp_pool.backend.PooledBackend"
USER, PASSWORD = "user", "secret"


def certificates() -> Any:
    """Return the certificates of this process: a CA, valid and invalid server certificates, and a client certificate.

    Raises ImportError, with the extra to install, if trustme is missing.
    """
    from .server import certificates as made

    return made.certificates()


@contextmanager
def mailer(backend: str, options: dict[str, Any]) -> Iterator[None]:
    """Use this backend as the project's default mailer, in the settings that this Django version uses."""
    if django.VERSION >= (6, 1):
        settings: dict[str, Any] = {"MAILERS": {"default": {"BACKEND": backend, "OPTIONS": options}}}
    else:
        settings = {"EMAIL_BACKEND": backend, **{BY_KEY[key].setting: value for key, value in options.items()}}
    with override_settings(**settings):
        try:
            yield
        finally:
            reset()  # closes idle connections with QUIT while the server is running


@contextmanager
def local_server(
    *, tls: str | None = None, login: bool = False, options: dict[str, Any] | None = None, **server: Any
) -> Iterator[FaultServer]:
    """Run a server, and make it the project's default mailer.

    Arguments:
        tls: "starttls" or "implicit", with a certificate created at run time (the extra `testing`).
        login: whether the server requires a login; the mailer gets the username and password.
        options: further options of the mailer.
        server: options of FaultServer, such as `fault`, `refuse_recipients`, `max_connections`.
    """
    own: dict[str, Any] = dict(options or {})
    if tls is not None:
        server[{"starttls": "starttls", "implicit": "implicit_tls"}[tls]] = certificates().server_context()
        own |= {"use_tls": tls == "starttls", "use_ssl": tls == "implicit"}
        own["tls_options"] = {"context": certificates().client_context(), **own.get("tls_options", {})}
    if login:
        server |= {"require_auth": True, "users": {USER: PASSWORD}}
        own |= {"username": USER, "password": PASSWORD}
    with FaultServer(**server) as running, mailer(POOLED, {"host": running.host, "port": running.port, **own}):
        yield running
