"""Make SSL contexts from options, one per set of TLS options, because loading the CA store is slow."""

from __future__ import annotations

import pkgutil
import ssl
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from ..interrupts import as_failure, foreign, from_signal_handler
from ..options.options import IN_CLEAR, ServerOptions, TLSOptions
from .certificate_files import named

MOST = 32  # contexts to cache; each needs about a megabyte

Stamp = tuple[Any, ...]  # changes if a file is replaced

_contexts: dict[tuple[TLSOptions, str | None, str | None], tuple[Stamp, ssl.SSLContext]] = {}
_inherited: list[object] = []


def context_for(server: ServerOptions) -> ssl.SSLContext:
    """Return the context for a new connection: the same object for the same options, until their files change.

    The value of `tls_options["context"]` is resolved every time.

    Raises OSError or ssl.SSLError if a certificate file cannot be read, and ImportError, TypeError or ValueError if
    `tls_options["context"]` is invalid.
    """
    wanted = server.tls_options
    if wanted.context is not None:
        return _given(wanted.context)
    key = (wanted, server.ssl_certfile, server.ssl_keyfile)
    stamp = tuple(map(_stamp, (wanted.ca_file, server.ssl_certfile, server.ssl_keyfile)))
    known = _contexts.get(key)
    if known is not None and known[0] == stamp:
        return known[1]
    context = _make(server)
    if len(_contexts) >= MOST:
        _contexts.clear()
    _contexts[key] = stamp, context
    return context


def _stamp(path: str | None) -> Stamp | None:
    """Return a value that changes if a file is replaced; None if there is no file, which is reported later."""
    if path is None:
        return None
    try:
        found = Path(path).stat()
    except OSError as error:
        if from_signal_handler(error):
            raise
        return None
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)


def _make(server: ServerOptions) -> ssl.SSLContext:
    wanted = server.tls_options
    with named(server):
        context = foreign(partial(ssl.create_default_context, cafile=wanted.ca_file), ssl.Purpose.SERVER_AUTH)
    context.minimum_version = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}[
        wanted.minimum_version
    ]
    if wanted.ciphers:
        foreign(context.set_ciphers, wanted.ciphers)
    if not wanted.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if server.ssl_certfile:
        # Without this callback, OpenSSL would ask for the password on the terminal, and block.
        with named(server):
            foreign(context.load_cert_chain, server.ssl_certfile, server.ssl_keyfile, _no_password)
    return context


def _no_password() -> NoReturn:
    raise ValueError("the key of the client certificate (ssl_keyfile) is encrypted: store it without a password")


def _given(source: Any) -> ssl.SSLContext:
    target = foreign(found, source, "tls_options['context']")
    if not (isinstance(target, ssl.SSLContext) or callable(target)):
        raise as_failure(TypeError(f"tls_options['context'] names {source!r}, which is neither a context nor callable"))
    context = target if isinstance(target, ssl.SSLContext) else foreign(target)
    if not isinstance(context, ssl.SSLContext):
        raise as_failure(TypeError(f"tls_options['context'] returned {type(context).__name__}, not an SSLContext"))
    return context


def found(source: Any, option: str = "") -> Any:
    """Return the object at a dotted path; any other value is returned unchanged.

    Arguments:
        option: the option that has the path; the error names it.

    Raises ImportError or AttributeError if the path does not exist.
    """
    if not isinstance(source, str):
        return source
    try:
        return pkgutil.resolve_name(source)
    except (ImportError, AttributeError) as error:
        if not option or from_signal_handler(error):
            raise
        kind = ImportError if isinstance(error, ImportError) else AttributeError
        raise kind(f"{option} names {source!r}: {error}") from error


def flaw_of(session: ssl.SSLObject | None) -> str | None:
    """Return why a session is not encrypted to an authenticated server, or None if it is."""
    if session is None or session.version() is None:
        return IN_CLEAR
    if session.context.verify_mode is not ssl.CERT_REQUIRED or not session.context.check_hostname:
        return "the server's certificate is not checked (tls_options)"
    return None


@dataclass(frozen=True, kw_only=True)
class TLSFacts:
    """The results of a TLS handshake, and the server's certificate.

    Arguments:
        subject, names, expires, expires_at: from the server's certificate, empty if it is not checked; `expires_at`
            is in seconds since the epoch.
    """

    version: str
    cipher: str
    subject: str = ""
    names: tuple[str, ...] = ()
    expires: str = ""
    expires_at: float | None = None


def facts_of(session: ssl.SSLObject | None) -> TLSFacts | None:
    """Return the facts of a TLS session, or None if no handshake was completed."""
    version = session.version() if session is not None else None
    if session is None or version is None:
        return None
    cipher = session.cipher()
    certificate: dict[str, Any] = session.getpeercert() or {}
    expires = str(certificate.get("notAfter", ""))
    return TLSFacts(
        version=version,
        cipher=cipher[0] if cipher else "",
        subject=", ".join(f"{name}={value}" for part in certificate.get("subject", ()) for name, value in part),
        names=tuple(value for _, value in certificate.get("subjectAltName", ())),
        expires=expires,
        expires_at=float(ssl.cert_time_to_seconds(expires)) if expires else None,
    )


def after_fork() -> None:
    """Make new contexts in a forked child.

    During the fork, another thread may have held a lock of an old one. The child does not have that thread, so the next
    handshake would wait for the lock for ever. The old ones are kept, because freeing one takes its locks.
    """
    _inherited.append(dict(_contexts))
    _contexts.clear()


def forget_contexts() -> None:
    """Forget all contexts, so that new ones are made (for tests)."""
    _contexts.clear()


# OpenSSL's reasons for an unencrypted reply, and for a server with only old versions; they differ between releases.
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"})
_TOO_OLD = frozenset({"TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "WRONG_SSL_VERSION"})

_DETAILS = ("library", "reason", "verify_code", "verify_message")  # attributes that callers read from an SSLError


def tls_error(error: ssl.SSLError, server_hostname: str) -> ssl.SSLError:
    """Return an error of the same type, with a text that says what is wrong and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        clear: ssl.SSLError = ssl.SSLCertVerificationError(error.errno, _certificate_advice(error, server_hostname))
    elif error.reason in _NOT_TLS:
        clear = ssl.SSLError(
            error.errno,
            f"{server_hostname} does not speak TLS on this port: use_ssl needs port 465; "
            "use_tls (STARTTLS) needs port 587 or 25",
        )
    elif error.reason in _TOO_OLD:
        clear = ssl.SSLError(
            error.errno,
            f"{server_hostname} supports no TLS version that is new enough ({error.reason}): "
            "tls_options['minimum_version'] is TLSv1.2 by default",
        )
    else:
        clear = ssl.SSLError(error.errno, f"the TLS handshake with {server_hostname} failed: {error}")
    for name in _DETAILS:
        if hasattr(error, name):
            setattr(clear, name, getattr(error, name))
    clear.__cause__ = error
    return clear


def _certificate_advice(error: ssl.SSLCertVerificationError, server_hostname: str) -> str:
    advice = {
        10: "it has expired: the server's administrator must renew it",
        18: "it is self-signed: set tls_options['ca_file'] to it, or to its CA",
        19: "its CA is not trusted: set tls_options['ca_file'] to the CA's certificate",
        20: "its CA is not trusted: set tls_options['ca_file'] to the CA's certificate",
        62: "it is for another name: set host to a name in the certificate, or tls_options['server_hostname']",
        64: "it is for another address: set host to a name in the certificate, or tls_options['server_hostname']",
    }.get(error.verify_code, "see tls_options in the documentation")
    return f"the certificate of {server_hostname} was not accepted ({error.verify_message}); {advice}"
