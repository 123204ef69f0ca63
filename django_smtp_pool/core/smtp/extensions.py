"""What a server offers: the extensions of its reply to EHLO (RFC 5321 §4.1.1.1) or LHLO."""

from __future__ import annotations

from dataclasses import dataclass

from ..replies import Reply


@dataclass(frozen=True, kw_only=True)
class Offer:
    """The extensions of one session; all absent after HELO.

    Arguments:
        size: largest message in octets (RFC 1870); 0 = SIZE offered without a limit, None = not offered.
        auth: SASL mechanisms, upper case.
        mail_max: messages in one session (RFC 9422), None = not said.
        others: every keyword with its parameters, upper case, for display.
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
    def from_reply(cls, reply: Reply) -> Offer:
        """Read the lines of a reply to EHLO; the first is the server's name, lines that say nothing are ignored."""
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

    def is_last_message(self, number: int) -> bool:
        """Tell whether the server will not take a message after this one of the session, counted from 1."""
        return self.mail_max is not None and number >= self.mail_max


def _words(line: bytes) -> list[str]:
    """Return the words of a line, which are shown in logs and on terminals: nothing in them moves a cursor."""
    words = line.decode("ascii", "replace").upper().split()
    return ["".join(char if char.isprintable() else "\ufffd" for char in word) for word in words]


def _limit(parameters: list[str] | None, name: str) -> int | None:
    """Return a limit such as MAILMAX=100 (RFC 9422 §4); those that make no sense are ignored."""
    values = [word.partition("=")[2] for word in parameters or () if word.partition("=")[0] == name]
    digits = [value for value in values if value.isascii() and value.isdigit() and len(value) <= 9]
    return int(digits[0]) or None if digits else None


def _size(parameters: list[str] | None) -> int | None:
    if parameters is None:
        return None
    return int(parameters[0]) if parameters and parameters[0].isascii() and parameters[0].isdigit() else 0


def _mechanisms(words: list[list[str]]) -> frozenset[str]:
    # Old Exchange servers write "AUTH=LOGIN" beside "AUTH LOGIN"; smtplib reads both.
    mechanisms: set[str] = set()
    for word in words:
        if word and word[0] == "AUTH":
            mechanisms.update(word[1:])
        elif word and word[0].startswith("AUTH="):
            mechanisms.update([word[0][5:], *word[1:]])
    return frozenset(mechanisms)
