"""What a fault server offers and requires; every field may be changed while it runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ssl import SSLContext


@dataclass(kw_only=True, eq=False)
class Options:
    """The behaviour of the server apart from faults."""

    # The contents of the EHLO reply. AUTH is offered only under TLS, if there is a `starttls`.
    pipelining: bool = True
    chunking: bool = False
    starttls: SSLContext | None = None
    implicit_tls: SSLContext | None = None
    auth: Sequence[str] = ("PLAIN", "LOGIN", "CRAM-MD5")
    auth_before_tls: bool = False
    extensions: Sequence[str] = ("SIZE 10485760", "8BITMIME", "ENHANCEDSTATUSCODES", "SMTPUTF8")
    advertise: Sequence[str] | None = None  # the lines of EHLO, instead of those from the fields above; may be untrue

    users: Mapping[str, str] = field(default_factory=lambda: {"user": "secret"})  # username: password or token
    require_auth: bool = False  # 530 to MAIL otherwise
    require_tls: bool = False
    refuse_recipients: Mapping[str, str] = field(default_factory=dict)  # address: reply to RCPT
    refuse_content: Mapping[str, str] = field(default_factory=dict)  # address: reply after the data, for LMTP
    lmtp: bool = False  # RFC 2033: LHLO, and a reply for each recipient after the data
    refuse_bdat: str | None = None  # reply to BDAT, sent without reading the chunk, which is then read as commands
    swallows: int = 0  # octets of a refused chunk that are discarded nevertheless
    patient: bool = False  # accept commands that did not wait for a reply, against the RFCs
    lenient_data: bool = False  # 354 though every recipient was refused
    max_connections: int | None = None  # the next connection gets a 421 instead of a banner
    max_messages: int | None = None  # per connection; the next MAIL gets a 421
    body_after: int = 1  # octets of content after which the point "body" is reached; 0: before the first
    receive_buffer: int | None = None  # octets, for connections accepted later; with a small buffer, writers must wait

    @property
    def size_limit(self):
        """Return the limit that SIZE announces, in octets."""
        announced = [line.split()[1] for line in self.extensions if line.startswith("SIZE ")]
        return int(announced[0]) if announced and int(announced[0]) else 2**62

    def offers(self, conversation):
        """Return the lines of EHLO's reply after the first."""
        if self.advertise is not None:
            return list(self.advertise)
        optional = {
            "PIPELINING": self.pipelining,
            "CHUNKING": self.chunking,
            "STARTTLS": self.starttls is not None and not conversation.tls,
            f"AUTH {' '.join(self.auth)}": self.mechanisms(conversation),
        }
        return [*self.extensions, *(line for line, offered in optional.items() if offered)]

    def mechanisms(self, conversation):
        """Return the mechanisms that AUTH accepts now."""
        usable = conversation.tls or self.starttls is None or self.auth_before_tls
        return tuple(self.auth) if usable else ()
