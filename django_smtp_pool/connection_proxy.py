"""`backend.connection`: what Django's own `_send` and packages call. Each call borrows a connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from email.utils import parseaddr
from functools import partial
from typing import NoReturn

from .core.errors import RecipientsRefused, Stage
from .core.sender import Sender
from .core.smtp.content import Content
from .core.smtp.envelope import Envelope
from .message.smtp_options import asked_in_words
from .message.transfer import seven_bit


class ConnectionProxy:
    """Looks like an open smtplib connection, but holds no connection.

    Arguments:
        sender: returns the current sender over the pool, so that the proxy also works after `close_all()`.
        timeout: the backend's `timeout`, for code that reads it as on an smtplib connection.
    """

    def __init__(self, sender: Callable[[], Sender], *, timeout: float | None = None) -> None:
        self._sender = sender
        self.timeout = timeout

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"backend.connection has no {name!r}: the connections belong to the pool, and each call borrows one. "
            "It has sendmail(), noop(), quit(), close() and timeout. "
            "A subclass with a connection_class has one of smtplib's.",
            name=name,
            obj=self,
        )

    @property
    def is_changed(self) -> bool:
        """Whether `sendmail` has been replaced, as a mock does."""
        return "sendmail" in vars(self)

    def sendmail(
        self,
        from_addr: str,
        to_addrs: str | Sequence[str],
        msg: bytes | str,
        mail_options: Sequence[str] = (),
        rcpt_options: Sequence[str] = (),
    ) -> dict[str, tuple[int, bytes]]:
        """Send a message; return the refused recipients with (code, text), as smtplib does.

        Addresses may have a display name or angle brackets, as in smtplib. Options may be those of DSN (RET=, ENVID=,
        NOTIFY=, ORCPT=) and REQUIRETLS; BODY=, SIZE= and SMTPUTF8 are set automatically. Raises ValueError for other
        options, and NotOffered if the server does not offer an option.
        """
        content = Content.of(msg.encode("ascii") if isinstance(msg, str) else msg)
        given = (to_addrs,) if isinstance(to_addrs, str) else tuple(to_addrs)
        recipients = tuple(map(_addr_spec, given))
        if not recipients:
            raise RecipientsRefused({}, stage=Stage.RCPT)  # as smtplib does
        asked = asked_in_words(mail_options, rcpt_options, recipients)
        envelope = Envelope(
            sender=_addr_spec(from_addr),
            recipients=recipients,
            content=content,
            smtputf8="SMTPUTF8" in map(str.upper, mail_options),
            seven_bit=partial(seven_bit, content),
            dsn=asked.dsn,
            require_tls=asked.require_tls,
        )
        delivery = self._sender().send(envelope)
        names = dict(zip(recipients, given, strict=True))
        if isinstance(delivery.error, RecipientsRefused):
            refused = {names.get(address, address): said for address, said in delivery.error.recipients.items()}
            delivery.error.recipients, delivery.error.args = refused, (refused,)
        if delivery.error is not None:
            raise delivery.error.with_traceback(None)
        replies = delivery.receipt.refused if delivery.receipt else {}
        return {names[address]: (reply.code, reply.message) for address, reply in replies.items()}

    def noop(self) -> tuple[int, bytes]:
        """Send NOOP on a connection of the pool and return (code, text)."""
        reply = self._sender().noop()
        return reply.code, reply.message

    def quit(self) -> tuple[int, bytes]:
        """Do nothing: the connections belong to the pool, which sends QUIT when it closes them."""
        return 221, b"the pool keeps the connection"

    def close(self) -> None:
        """Do nothing, as `quit`."""


def _addr_spec(address: str) -> str:
    """Return the address in a text such as `Ann <ann@example.com>`, as smtplib finds it; "" for `<>`."""
    return parseaddr(address)[1] or address.strip().removeprefix("<").removesuffix(">")
