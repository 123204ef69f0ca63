"""Check the files and ciphers in TLS options, and name the option and the file in errors."""

from __future__ import annotations

import contextlib
import functools
import ssl
from collections.abc import Iterator
from pathlib import Path

from ..interrupts import from_signal_handler
from ..options.fields import LONGEST_PATH_SHOWN, shown
from ..options.options import ServerOptions

CERTIFICATE, KEY = b"CERTIFICATE-----", b"PRIVATE KEY-----"  # the end of the first line of each in PEM


def _files(server: ServerOptions) -> Iterator[tuple[str, str, bytes]]:
    """Return the option, the path and the expected content of each file."""
    wanted = (
        ("tls_options['ca_file']", server.tls_options.ca_file, CERTIFICATE),
        ("ssl_certfile", server.ssl_certfile, CERTIFICATE),
        ("ssl_keyfile" if server.ssl_keyfile else "ssl_certfile", server.ssl_keyfile or server.ssl_certfile, KEY),
    )
    return ((option, path, kind) for option, path, kind in wanted if path is not None)


def file_problems(server: ServerOptions) -> list[str]:
    """Return the problems of files and ciphers that can be found without OpenSSL; `context` replaces them."""
    if server.tls_options.context is not None or not server.may_encrypt:
        return []
    problems = [problem for option, path, _ in _files(server) if (problem := _look(option, path))]
    if server.tls_options.ciphers and not _are_ciphers(server.tls_options.ciphers):
        problems.append(f"tls_options['ciphers'] has no cipher that OpenSSL knows: {shown(server.tls_options.ciphers)}")
    return list(dict.fromkeys(problems))


def _look(option: str, path: str) -> str | None:
    try:
        if Path(path).stat().st_size == 0:
            return f"{option} {_name(path)} is empty"
        with Path(path).open("rb"):
            return None
    except (OSError, ValueError) as error:
        if from_signal_handler(error):
            raise
        return f"{option} {_name(path)} cannot be read: {getattr(error, 'strerror', None) or error}"


def _name(path: str | None) -> str:
    return shown(path, LONGEST_PATH_SHOWN)


def problem_of(error: Exception) -> str:
    """Return the text of an error of this module, without the errno of an OSError."""
    return getattr(error, "strerror", None) or str(error)


@functools.lru_cache(maxsize=32)
def _are_ciphers(ciphers: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_ciphers(ciphers)
    except ssl.SSLError as error:
        if from_signal_handler(error):
            raise
        return False
    return True


@contextlib.contextmanager
def named(server: ServerOptions) -> Iterator[None]:
    """Add the option and the file to an OpenSSL error about one of them; its type stays the same."""
    try:
        yield
    except OSError as error:  # SSLError is a subclass
        if from_signal_handler(error) or (flaw := _flaw(server, error)) is None:
            raise
        raise type(error)(error.errno, flaw) from None


def _flaw(server: ServerOptions, error: OSError) -> str | None:
    for option, path, kind in _files(server):
        problem = _look(option, path)
        if problem is None and kind not in Path(path).read_bytes():
            what = "certificate" if kind is CERTIFICATE else "private key"
            problem = f"{option} {_name(path)} contains no {what} in PEM format"
        if problem is not None:
            return problem
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return f"ssl_keyfile {_name(server.ssl_keyfile)} does not belong to ssl_certfile {_name(server.ssl_certfile)}"
    names = " or ".join(dict.fromkeys(f"{option} {_name(path)}" for option, path, _ in _files(server)))
    return f"{names} cannot be used: {error}" if names else None
