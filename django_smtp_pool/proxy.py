"""`backend.connection`: what Django's own `_send` and packages call, each call on a connection borrowed for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from .core.envelope import Envelope
from .core.sender import Sender
from .transfer import seven_bit


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

        Raises ValueError for options other than those we set ourselves (BODY=, SIZE=, SMTPUTF8).
        """
        options = [option.upper() for option in (*mail_options, *rcpt_options)]
        strange = [option for option in options if option.partition("=")[0] not in {"BODY", "SIZE", "SMTPUTF8"}]
        if strange:
            raise ValueError(f"options of MAIL and RCPT are not supported here: {', '.join(strange)}")
        content = msg.encode("ascii") if isinstance(msg, str) else msg
        recipients = (to_addrs,) if isinstance(to_addrs, str) else tuple(to_addrs)
        envelope = Envelope(
            sender=from_addr,
            recipients=recipients,
            content=content,
            smtputf8="SMTPUTF8" in options,
            seven_bit=partial(seven_bit, content),
        )
        delivery = self._sender().send(envelope)
        if delivery.error is not None:
            raise delivery.error
        refused = delivery.receipt.refused if delivery.receipt else {}
        return {address: (reply.code, reply.message) for address, reply in refused.items()}

    def noop(self) -> tuple[int, bytes]:
        """Say NOOP on a connection of the pool and return (code, text)."""
        lease = self._sender().pool.acquire()
        try:
            reply = lease.connection.noop()
        finally:
            lease.give_back()
        return reply.code, reply.message

    def quit(self) -> tuple[int, bytes]:
        """Do nothing: the connections are the pool's, and it says QUIT in its time."""
        return 221, b"the pool keeps the connection"

    def close(self) -> None:
        """Do nothing, as `quit`."""
