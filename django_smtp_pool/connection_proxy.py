"""`backend.connection`: what Django's own `_send` and packages call, each call on a connection borrowed for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from .core.sender import Sender
from .core.smtp.envelope import Envelope
from .message.smtp_options import asked_in_words
from .message.transfer import seven_bit


class ConnectionProxy:
    """Looks like an open smtplib connection and pins none.

    Arguments:
        sender: gives the sender over the pool of the moment: it outlives `close_all()`.
    """

    def __init__(self, sender: Callable[[], Sender]) -> None:
        self._sender = sender

    def sendmail(
        self,
        from_addr: str,
        to_addrs: str | Sequence[str],
        msg: bytes | str,
        mail_options: Sequence[str] = (),
        rcpt_options: Sequence[str] = (),
    ) -> dict[str, tuple[int, bytes]]:
        """Send a message; return the refused recipients with (code, text), as smtplib does.

        Options are those of DSN (RET=, ENVID=, NOTIFY=, ORCPT=) and REQUIRETLS; BODY=, SIZE= and SMTPUTF8 are set by
        ourselves. Raises ValueError for others, and NotOffered where the server does not offer what they ask for.
        """
        content = msg.encode("ascii") if isinstance(msg, str) else msg
        recipients = (to_addrs,) if isinstance(to_addrs, str) else tuple(to_addrs)
        asked = asked_in_words(mail_options, rcpt_options, recipients)
        envelope = Envelope(
            sender=from_addr,
            recipients=recipients,
            content=content,
            smtputf8="SMTPUTF8" in map(str.upper, mail_options),
            seven_bit=partial(seven_bit, content),
            dsn=asked.dsn,
            require_tls=asked.require_tls,
        )
        delivery = self._sender().send(envelope)
        if delivery.error is not None:
            raise delivery.error
        refused = delivery.receipt.refused if delivery.receipt else {}
        return {address: (reply.code, reply.message) for address, reply in refused.items()}

    def noop(self) -> tuple[int, bytes]:
        """Say NOOP on a connection of the pool and return (code, text)."""
        reply = self._sender().noop()
        return reply.code, reply.message

    def quit(self) -> tuple[int, bytes]:
        """Do nothing: the connections are the pool's, and it says QUIT in its time."""
        return 221, b"the pool keeps the connection"

    def close(self) -> None:
        """Do nothing, as `quit`."""
