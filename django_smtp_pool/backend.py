"""`PooledBackend`: Django's email backend contract, implemented over the pool."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable
from operator import attrgetter
from typing import Any

import django
from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.core.mail.backends.smtp import EmailBackend

from . import conf
from .connection_proxy import ConnectionProxy
from .core.delivery.connection import Connection
from .core.drivers import aio
from .core.errors import Outcome, is_failure, outcome_of
from .core.events import records
from .core.options.options import ServerOptions
from .core.pool.pool import Pool
from .core.sender import Sender
from .mailing import Mailing, add_note, check_messages, shortened
from .oauth2.cache import strip_frames
from .own_context import own_context
from .registry import registry
from .remembered import configurations, frozen
from .status import status_without_delivery
from .verify.advice import advice_for

logger = logging.getLogger("django_smtp_pool.sender")

# The arguments that Django's backend also takes by position.
_ARGUMENTS = tuple(inspect.signature(EmailBackend).parameters)[:-1]
_OWN_KEYS = conf.BY_KEY.keys() - set(conf.STOCK_KEYS)
_stock_values = attrgetter(*conf.STOCK_KEYS)


class PooledBackend(EmailBackend):
    """Send mail over warm, authenticated connections that all threads of the process share.

    A backend object is cheap: the pool belongs to the options, not to the object. It takes the options of Django's
    SMTP backend and those of this package, as keyword arguments or OPTIONS.

    Raises ImproperlyConfigured (InvalidMailer with MAILERS) for unknown options and invalid values.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if "alias" not in kwargs:
            _warn_about_direct_construction()
        try:
            self._set_up(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - raised below
            problem = strip_frames(error)
        else:
            return
        # Django's debug page prints the variables of every frame, so keep no frame that held the password.
        del args, kwargs
        raise problem

    def _set_up(self, *args: Any, **kwargs: Any) -> None:
        alias = kwargs.setdefault("alias", None)
        if args:
            if kwargs.keys() & _ARGUMENTS[: len(args)] or len(args) > len(_ARGUMENTS):
                super().__init__(*args, **kwargs)  # raises TypeError, as Python does for any function
            kwargs.update(zip(_ARGUMENTS, args, strict=False))
        if not kwargs.keys() <= conf.KNOWN_KEYS:
            _check_unknown(kwargs)
        self._settings = conf.settings_now()
        own = {key: kwargs.pop(key) for key in kwargs.keys() & _OWN_KEYS}
        if alias is not None:
            kwargs.update(conf.place({**own, **kwargs}, self._settings, alias=alias))  # Django requires a host
        try:
            super().__init__(**kwargs)
        except (ImproperlyConfigured, ValueError) as error:
            raise conf.all_problems(error, {**own, **kwargs}, alias=alias) from None
        if alias is None:
            resolved = {key: getattr(self, key) for key in conf.STOCK_PLACE_KEYS}
            vars(self).update(conf.place_by_settings({**own, **kwargs}, self._settings, resolved))
        given = {key: value for key, value in own.items() if value is not None or key in conf.NONE_COUNTS}
        vars(self).update(given)
        self.alias = alias  # Django 5.2 and 6.0 do not set this attribute
        if type(self).__init__ is PooledBackend.__init__:  # a subclass may complete the options after this
            self._configured({})  # report invalid options here, not at the first message

    @property
    def config(self) -> conf.Config:
        """The current options, complete and checked. As in Django's backend, they are read when it connects."""
        try:
            return self._configured(self._own_context())
        except ImproperlyConfigured as error:
            problem = strip_frames(error)
        raise problem

    def _configured(self, context: dict[str, Any]) -> conf.Config:
        given, key = self._given(context)
        config: conf.Config | None = configurations.get(key)
        if config is None:
            made = conf.configuration(given, alias=self.alias, found=self._settings)
            config = configurations.keep(key, made)
        return config

    def _given(self, context: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """Return the current values of the options, and the key of their configuration."""
        own, found = vars(self), self._settings
        given = dict(zip(conf.STOCK_KEYS, _stock_values(self), strict=True))
        given.update({key: own[key] for key in own.keys() & _OWN_KEYS})
        given.update(context)
        return given, (self.alias, tuple(given), tuple(found), frozen((*given.values(), *found.values())))

    def _own_context(self) -> dict[str, Any]:
        """Return the `tls_options` for a backend that overrides `ssl_context`: that context replaces the options."""
        is_overridden = type(self).ssl_context is not _STOCK_CONTEXT
        if not is_overridden and "ssl_context" not in vars(self):
            return {}
        if not (self.use_tls or self.use_ssl or self._own("opportunistic_tls")):
            return {}
        wanted = self._own("tls_options")
        kept = {key: wanted[key] for key in ("server_hostname",) if isinstance(wanted, dict) and key in wanted}
        context = own_context(self) if is_overridden else vars(self)["ssl_context"]
        return {"tls_options": {**kept, "context": context}}

    def _own(self, key: str) -> Any:
        return vars(self).get(key, self._settings.get(conf.BY_KEY[key].setting))

    @property
    def _sender(self) -> Sender:
        return registry.sender(self.config.key)

    @property
    def pool(self) -> Pool[Connection]:
        """The pool that this backend's messages currently go through."""
        return self._sender.pool

    # -- Django's contract -----------------------------------------------------------------------------

    def open(self) -> bool | None:
        """Make sure that a connection is available, and leave it in the pool.

        Returns True if this backend was not open before, False if it was, and None if no connection is available and
        `fail_silently` is set. Otherwise raises the error. If a subclass sets `connection_class`, that class is opened
        as Django opens it, outside the pool.
        """
        if self._has_own_class:
            return super().open()
        if self.connection:
            return False
        config = self.config
        try:
            registry.sender(config.key).warm_up()
        except OSError as error:
            if not self.fail_silently or not is_failure(error):
                raise _with_advice(error, config.server)  # noqa: B904 - the same error
            return None
        self.connection: Any = ConnectionProxy(lambda: self._sender, timeout=self.timeout)
        return True  # even if the pool had an idle connection: the caller that gets True closes what it opened

    def close(self) -> None:
        """Forget the proxy; the connections stay in the pool. A connection that you set yourself is closed."""
        if type(self.connection) is not ConnectionProxy:
            super().close()
        self.connection = None

    def send_messages(self, email_messages: Iterable[Any]) -> int:
        """Send messages and return how many of them the server accepted, each for at least one recipient.

        A refused message does not stop the others. At the end, the first error is raised. Its `failures` maps the
        index of each failed message to its error, and its `batch` lists the messages by outcome. If no connection is
        available, the remaining messages are not tried. With `fail_silently`, network and server errors are not raised.

        Raises TypeError for an object that is not a message.
        """
        if not email_messages:
            return 0
        check_messages(email_messages)
        if records.are_being_handled():
            return _drop(email_messages)
        if self._is_customised:
            return int(super().send_messages(email_messages))  # type: ignore[arg-type]
        mailing = self._mailing()
        mailing.send(email_messages)
        self._raise_first(mailing)
        return len(mailing.accepted)

    async def asend_messages(self, email_messages: Iterable[Any]) -> int:
        """Do what `send_messages` does in the running event loop, without blocking it.

        Threads and tasks share the connections, the limits and the queue. If a subclass overrides how messages are
        sent, it is called in a thread.
        """
        if not email_messages:
            return 0
        check_messages(email_messages)
        if records.are_being_handled():
            return _drop(email_messages)
        if self._is_customised or self._sends_its_own_way or not aio.can_watch():
            return int(await sync_to_async(self.send_messages)(email_messages))
        if self._given(self._own_context())[1] not in configurations:  # building the configuration reads files
            await sync_to_async(lambda: self.config, thread_sensitive=False)()
        if registry.must_wait(key := self.config.key):
            await sync_to_async(registry.sender, thread_sensitive=False)(key)
        mailing = self._mailing()
        await mailing.asend(email_messages)
        self._raise_first(mailing)
        return len(mailing.accepted)

    def _mailing(self) -> Mailing:
        config = self.config
        prep_address = self.prep_address if _HAS_PREP_ADDRESS else None
        return Mailing(type(self), registry.sender(config.key), config, prep_address)

    @property
    def _is_customised(self) -> bool:
        """Whether a subclass or the object overrides how each message is sent, or brings its own connection."""
        own = vars(self)
        if _hooks_of(type(self)) != _STOCK_HOOKS or not own.keys().isdisjoint(_HOOKS):
            return True
        return self.connection is not None and self._has_own_connection

    @property
    def _sends_its_own_way(self) -> bool:
        """Whether `send_messages` is overridden and `asend_messages` is not."""
        is_overridden = "send_messages" in vars(self) or type(self).send_messages is not _SEND_MESSAGES
        return is_overridden and type(self).asend_messages is _ASEND_MESSAGES

    @property
    def _has_own_class(self) -> bool:
        return type(self).connection_class is not _STOCK_CLASS

    @property
    def _has_own_connection(self) -> bool:
        """Whether the connection is not our proxy, or is a proxy that was changed (for example by a mock)."""
        connection = self.connection
        return connection is not None and (type(connection) is not ConnectionProxy or connection.is_changed)

    def _raise_first(self, mailing: Mailing) -> None:
        failures, loud = dict(sorted(mailing.failures.items())), []
        for index, error in failures.items():
            # An attachment that cannot be read raises an OSError too, but `fail_silently` does not hide that.
            if self.fail_silently and isinstance(error, OSError) and index not in mailing.unrendered:
                _report_silenced(error, self.config.server.place)
            else:
                loud.append(error)
        if loud:
            loud[0].failures = failures  # type: ignore[attr-defined]
            mailing.mark(loud[0])
            raise _with_advice(loud[0], mailing.server)

    def _send(self, email_message: Any) -> bool:
        """Send one message; a subclass may override it and call this one."""
        if self._has_own_connection:
            return bool(super()._send(email_message))  # type: ignore[misc]
        check_messages([email_message])
        mailing = self._mailing()
        mailing.send([email_message])
        self._raise_first(mailing)
        return bool(mailing.accepted)


# As they are now: a test may replace them later, on this class or on Django's.
_HOOKS = ("_send", "open", "close", "connection_class")
_hooks_of = attrgetter(*_HOOKS)
_STOCK_HOOKS = _hooks_of(PooledBackend)
_SEND_MESSAGES, _ASEND_MESSAGES = PooledBackend.send_messages, PooledBackend.asend_messages
_STOCK_CLASS, _STOCK_CONTEXT = EmailBackend.connection_class, EmailBackend.ssl_context
_HAS_PREP_ADDRESS = hasattr(EmailBackend, "prep_address")  # Django 6.0 and later


def _with_advice(error: Exception, server: ServerOptions) -> Exception:
    """Return the error to raise, with the advice that `manage.py smtp_pool verify` would give."""
    add_note(error, advice_for(error, server))
    return shortened(error)


def _report_silenced(error: Exception, server: str) -> None:
    """Log an error that `fail_silently` hides from the caller. An unknown outcome has been logged already."""
    if outcome_of(error) is not Outcome.UNKNOWN:
        outcome = outcome_of(error).value
        text, extra = "A message was %s, and fail_silently hides it: %s", {"server": server, "outcome": outcome}
        records.write(logger, logging.WARNING, text, outcome.replace("_", " "), error, extra=extra)


def _drop(messages: Iterable[Any]) -> int:
    """Do not send mail that a log handler creates for one of our own records: a failing mail must not cause another."""
    for message in messages:
        message.smtp_pool_status = status_without_delivery(message, None)
    return 0


def _check_unknown(kwargs: dict[str, Any]) -> None:
    """Raise the error for unknown options, except for those that Django's `get_connection` says to ignore."""
    ignored = kwargs.get("_ignore_unknown_kwargs") or ()
    if unknown := conf.unknown_options([key for key in kwargs if key not in ignored]):
        known = {key: value for key, value in kwargs.items() if key not in unknown}
        raise conf.all_problems(conf.complaint_of_unknown(unknown), known, alias=kwargs["alias"])


def _warn_about_direct_construction() -> None:
    """Warn as Django 6.1's own backend does: its check does not look past a subclass's `__init__`."""
    if django.VERSION < (6, 1):
        return
    from django.utils import deprecation

    deprecation.warn_about_external_use(
        "Directly creating EmailBackend instances is deprecated. Use mail.mailers instead.",
        getattr(deprecation, "RemovedInDjango2028Warning", DeprecationWarning),
        # Blame the caller of the constructor, not the constructor itself or what decorates it.
        skip_name_prefixes=f"{__name__}.",
    )
