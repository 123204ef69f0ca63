"""`backend.connection`: what Django's own `_send` and packages call, each call on a connection borrowed for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from email.utils import parseaddr
from functools import partial
from typing import NoReturn

from .core.errors import RecipientsRefused, Stage
from .core.sender import Sender
from .core.smtp.envelope import Envelope, with_crlf
from .message.smtp_options import asked_in_words
from .message.transfer import seven_bit


class ConnectionProxy:
    """Looks like an open smtplib connection and pins none.

    Arguments:
        sender: gives the sender over the pool of the moment: it outlives `close_all()`.
        timeout: the backend's, for those who ask, as they may ask an smtplib connection.
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
        """Whether somebody has put another `sendmail` in place of ours, as a mock does."""
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

        Addresses may have a display name or angle brackets, as smtplib takes them. Options are those of DSN (RET=,
        ENVID=, NOTIFY=, ORCPT=) and REQUIRETLS; BODY=, SIZE= and SMTPUTF8 are set by ourselves. Raises ValueError
        for others, and NotOffered where the server does not offer what they ask for.
        """
        content = with_crlf(msg.encode("ascii") if isinstance(msg, str) else bytes(msg))
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
        """Say NOOP on a connection of the pool and return (code, text)."""
        reply = self._sender().noop()
        return reply.code, reply.message

    def quit(self) -> tuple[int, bytes]:
        """Do nothing: the connections are the pool's, and it says QUIT in its time."""
        return 221, b"the pool keeps the connection"

    def close(self) -> None:
        """Do nothing, as `quit`."""


def _addr_spec(address: str) -> str:
    """Return the address that smtplib finds in a text such as `Ann <ann@example.com>`; "" for `<>`."""
    return parseaddr(address)[1] or address.strip().removeprefix("<").removesuffix(">")
