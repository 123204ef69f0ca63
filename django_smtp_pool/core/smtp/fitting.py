"""What a message needs and what a server offers, compared before anything is said. Pure."""

from __future__ import annotations

from ..errors import NotOffered, SenderRefused, Stage, refusal
from ..replies import Reply
from .envelope import Envelope, with_crlf
from .extensions import Offer

IN_CLEAR = "the connection is not encrypted"


def fit(offer: Offer, envelope: Envelope, *, tls_flaw: str | None = IN_CLEAR) -> bytes:
    """Return the content in the form this server takes, or raise before anything is said.

    Arguments:
        tls_flaw: what keeps the session from being encrypted to a server that has shown who it is; None for nothing.

    Raises NotOffered where the message asks for what the server does not offer: SMTPUTF8 by an address, REQUIRETLS,
    DSN strictly; SenderRefused (552) where it is larger than the server said it takes, ValueError where it cannot be
    made 7-bit.
    """
    _check_smtputf8(offer, envelope)
    _check_require_tls(offer, envelope, tls_flaw)
    _check_dsn(offer, envelope)
    content = with_crlf(_content_for(offer, envelope))
    _check_size(offer, envelope, len(content))
    return content


def _check_smtputf8(offer: Offer, envelope: Envelope) -> None:
    if envelope.smtputf8 and not offer.smtputf8:
        raise _not_offered("an address has non-ASCII characters, and the server does not offer SMTPUTF8")


def _check_require_tls(offer: Offer, envelope: Envelope, tls_flaw: str | None) -> None:
    """Refuse to send what must stay encrypted all the way where it would not even begin so (RFC 8689 §4.2.1)."""
    if not envelope.require_tls:
        return
    missing = [tls_flaw] if tls_flaw else []
    if not offer.require_tls:
        missing.append("the server does not offer REQUIRETLS")
    if missing:
        raise _not_offered(f"the message requires TLS all the way (require_tls), and {' and '.join(missing)}")


def _check_dsn(offer: Offer, envelope: Envelope) -> None:
    if envelope.dsn is not None and envelope.dsn.strict and not offer.dsn:
        raise _not_offered("the message asks for notifications (dsn, strict), and the server does not offer DSN")


def _not_offered(text: str) -> NotOffered:
    error = NotOffered(f"{text}: it was not sent")
    error.stage, error.session_survives = Stage.MAIL, True
    return error


def _content_for(offer: Offer, envelope: Envelope) -> bytes:
    if envelope.is_eight_bit and not offer.eight_bit_mime and envelope.seven_bit is not None:
        return envelope.seven_bit()
    return envelope.content


def _check_size(offer: Offer, envelope: Envelope, size: int) -> None:
    """Refuse what the server has said it will refuse, before MAIL (RFC 1870 §6.1)."""
    if offer.size and size > offer.size:
        text = f"5.3.4 the message has {size} octets, the server takes at most {offer.size}".encode()
        error = refusal(SenderRefused, Reply(code=552, lines=(text,)), envelope.sender, stage=Stage.MAIL)
        error.is_final = error.session_survives = True
        raise error
