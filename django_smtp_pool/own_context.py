"""The TLS context of a subclass that overrides `ssl_context`, and when two such contexts count as the same.

Two mailers share connections only if they have the same class, alias and attributes, and their contexts show no
difference. A client certificate inside a context cannot be read: that is why the attributes are compared too.
"""

from __future__ import annotations

import hashlib
import logging
import ssl
from collections.abc import Hashable, Mapping
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from django.core.exceptions import ImproperlyConfigured

from .core.events import records
from .core.options.oauth2 import Same
from .remembered import frozen

logger = logging.getLogger("django_smtp_pool.pool")

# Attributes that do not identify the context.
_PASSING = frozenset({"connection", "_partial_connection", "_lock", "ssl_context", "fail_silently", "_settings"})
_MARK = "_django_smtp_pool_identity"


class OwnContext:
    """The current context of all backends with one identity: new connections use the newest."""

    def __init__(self, key: Hashable) -> None:
        self._key = key
        self.newest: Any = None

    def __call__(self) -> Any:
        return self.newest

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OwnContext) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


_known: WeakValueDictionary[Hashable, OwnContext] = WeakValueDictionary()
_last: WeakKeyDictionary[type, tuple[Any, Any]] = WeakKeyDictionary()  # (the compared values, the others)
_warned: WeakKeyDictionary[type, bool] = WeakKeyDictionary()


def own_context(backend: Any) -> OwnContext:
    """Return the object that represents the `ssl_context` of a backend: the same object for the same identity."""
    context = backend.ssl_context
    if not hasattr(context, "wrap_bio"):  # Django's backend takes None for a connection that verifies nothing
        place = f"{type(backend).__qualname__}.ssl_context"
        raise ImproperlyConfigured(f"{place} is {type(context).__name__}, and must be an SSLContext")
    known = vars(context).get(_MARK) if type(context) is ssl.SSLContext else None
    if known is None:
        key = _key_of(backend, context)
        known = _known.setdefault(key, OwnContext(key))
        if type(context) is ssl.SSLContext:
            # Kept on the context itself, so that both have one lifetime, and the same context is recognised again.
            setattr(context, _MARK, known)
    known.newest = context
    return known


def _key_of(backend: Any, context: Any) -> Hashable:
    incomparable: list[Same] = []

    def other(value: Any) -> Any:
        if _is_comparable(value):
            return value
        incomparable.append(Same(value))
        return None

    attributes = _attributes(vars(backend), context)
    shown = _fingerprint(context)
    if shown is None:
        incomparable.append(Same(context))
    compared = (backend.alias, frozen((*attributes, *attributes.values()), other), shown)
    _warn_if_not_shared(type(backend), compared, tuple(incomparable))
    return type(backend), compared, tuple(incomparable)


def _attributes(given: Mapping[str, Any], context: Any) -> dict[str, Any]:
    return {name: given[name] for name in sorted(given) if name not in _PASSING and given[name] is not context}


def _is_comparable(value: Any) -> bool:
    """Return whether equality of a value means more than identity."""
    compare: object = type(value).__eq__
    if compare is object.__eq__:
        return False
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _fingerprint(context: Any) -> Hashable:
    """Return what can be read of a context; None if it is not a plain SSLContext."""
    if type(context) is not ssl.SSLContext:
        return None
    authorities = hashlib.sha256(b"".join(sorted(context.get_ca_certs(binary_form=True)))).digest()
    return (
        authorities,
        tuple(sorted(context.cert_store_stats().items())),
        tuple(cipher["name"] for cipher in context.get_ciphers()),
        tuple(
            getattr(context, name, None)
            for name in (
                "protocol",
                "verify_mode",
                "check_hostname",
                "verify_flags",
                "options",
                "minimum_version",
                "maximum_version",
                "post_handshake_auth",
                "hostname_checks_common_name",
                "security_level",
                "keylog_filename",
            )
        ),
    )


def _warn_if_not_shared(kind: type, compared: Any, incomparable: Any) -> None:
    """Warn once if backends that look the same share no connections, because something cannot be compared."""
    last = _last.get(kind)
    _last[kind] = (compared, incomparable)
    if last is None or last[0] != compared or last[1] == incomparable or kind in _warned:
        return
    _warned[kind] = True
    records.write(
        logger,
        logging.WARNING,
        "Each %s has its own pool, and they share no connections: its ssl_context or one of its attributes cannot be "
        "compared. Keep one context for the class, or define __eq__ and __hash__ on the object",
        kind.__qualname__,
    )
