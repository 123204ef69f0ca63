"""The extensions that a server offers in its reply to EHLO (RFC 5321 §4.1.1.1) or LHLO. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import NotOffered, SenderRefused, Stage, refusal
from ..interrupts import foreign
from ..options.options import IN_CLEAR
from ..replies import Reply
from .content import Content
from .envelope import Envelope


@dataclass(frozen=True, kw_only=True)
class Extensions:
    """The extensions of one session; none after HELO.

    Arguments:
        size: largest message in octets (RFC 1870); 0: SIZE without a limit; None: not offered.
        auth: SASL mechanisms, upper case.
        mail_max: maximum number of messages per session (RFC 9422); None if not announced.
        keywords: every keyword with its parameters, upper case, for display.
    """

    starttls: bool = False
    pipelining: bool = False
    chunking: bool = False
    eight_bit_mime: bool = False
    smtputf8: bool = False
    size: int | None = None
    auth: frozenset[str] = frozenset()
    mail_max: int | None = None
    dsn: bool = False
    require_tls: bool = False
    keywords: tuple[str, ...] = ()

    @classmethod
    def from_reply(cls, reply: Reply) -> Extensions:
        """Parse the lines of a reply to EHLO; the first is the server's name. Lines without a keyword are ignored."""
        words = [_words(line) for line in reply.lines[1:]]
        offered = {word[0]: word[1:] for word in words if word}
        return cls(
            starttls="STARTTLS" in offered,
            pipelining="PIPELINING" in offered,
            chunking="CHUNKING" in offered,
            eight_bit_mime="8BITMIME" in offered,
            smtputf8="SMTPUTF8" in offered,
            size=_size(offered.get("SIZE")),
            auth=_mechanisms(words),
            mail_max=_limit(offered.get("LIMITS"), "MAILMAX"),
            dsn="DSN" in offered,
            require_tls="REQUIRETLS" in offered,
            keywords=tuple(" ".join(word) for word in words if word),
        )


def _words(line: bytes) -> list[str]:
    """Return the words of a line, with escaped control characters, since logs and terminals show them."""
    words = line.decode("ascii", "replace").upper().split()
    return ["".join(char if char.isprintable() else "\ufffd" for char in word) for word in words]


def _limit(parameters: list[str] | None, name: str) -> int | None:
    """Return a limit such as MAILMAX=100 (RFC 9422 §4); invalid values are ignored."""
    values = [word.partition("=")[2] for word in parameters or () if word.partition("=")[0] == name]
    digits = [value for value in values if value.isascii() and value.isdigit() and len(value) <= 9]
    return int(digits[0]) or None if digits else None


def _size(parameters: list[str] | None) -> int | None:
    if parameters is None:
        return None
    return int(parameters[0]) if parameters and parameters[0].isascii() and parameters[0].isdigit() else 0


def _mechanisms(words: list[list[str]]) -> frozenset[str]:
    # Old Exchange servers send "AUTH=LOGIN" as well as "AUTH LOGIN"; smtplib reads both.
    mechanisms: set[str] = set()
    for word in words:
        if word and word[0] == "AUTH":
            mechanisms.update(word[1:])
        elif word and word[0].startswith("AUTH="):
            mechanisms.update([word[0][5:], *word[1:]])
    return frozenset(mechanisms)


def fit(extensions: Extensions, envelope: Envelope, *, tls_flaw: str | None = IN_CLEAR) -> Content:
    """Return the content in the form that this server accepts, or raise before anything is sent.

    Arguments:
        tls_flaw: why the session is not encrypted to an authenticated server, or None if it is.

    Raises NotOffered if the message needs something that the server does not offer (SMTPUTF8 for an address,
    REQUIRETLS, strict DSN), SenderRefused (552) if it is larger than the server's limit, and ValueError if it cannot be
    made 7-bit.
    """
    if (missing := _missing(extensions, envelope, tls_flaw)) is not None:
        raise NotOffered(f"{missing}; the message was not sent", stage=Stage.MAIL, session_survives=True)
    content = envelope.content
    if envelope.seven_bit is not None and not extensions.eight_bit_mime and not content.is_ascii:
        content = Content.of(foreign(envelope.seven_bit, kinds=ValueError))
    if extensions.size and content.size > extensions.size:
        raise _too_large(envelope.sender, content.size, extensions.size)
    return content


def _missing(extensions: Extensions, envelope: Envelope, tls_flaw: str | None) -> str | None:
    """Return what the message needs and the server does not offer, in words; None if nothing is missing."""
    if envelope.smtputf8 and not extensions.smtputf8:
        return "an address has non-ASCII characters, but the server does not offer SMTPUTF8"
    if envelope.require_tls:
        # A message that must stay encrypted on the whole way is not sent if the first hop is not (RFC 8689 §4.2.1).
        flaws = [tls_flaw] if tls_flaw else []
        if not extensions.require_tls:
            flaws.append("the server does not offer REQUIRETLS")
        if flaws:
            return f"the message requires TLS on the whole way (require_tls), but {' and '.join(flaws)}"
    if envelope.dsn is not None and envelope.dsn.strict and not extensions.dsn:
        return "the message requires notifications (dsn, strict), but the server does not offer DSN"
    return None


def _too_large(sender: str, size: int, limit: int) -> SenderRefused:
    """Return the error that the server's reply to MAIL would be (RFC 1870 §6.1)."""
    text = f"5.3.4 the message has {size} octets, but the server accepts at most {limit}".encode()
    error = refusal(SenderRefused, Reply(code=552, lines=(text,)), sender, stage=Stage.MAIL)
    error.is_final = error.session_survives = True
    return error
