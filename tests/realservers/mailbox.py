"""Delivered mail, read from a Maildir."""

import email.policy
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

_CRLF_READER = email.policy.SMTP


@dataclass(frozen=True)
class Mail:
    """One delivered message: the octets in the mailbox, and the same parsed."""

    raw: bytes
    message: EmailMessage

    @property
    def subject(self) -> str:
        """Return the subject, decoded."""
        return str(self.message["Subject"])

    def is_exactly(self, sent: bytes) -> bool:
        """Tell whether these octets (lines end in CRLF) were sent: servers only put fields before."""
        return self.raw.replace(b"\n", b"\r\n").endswith(b"\r\n" + sent)


def read(path: Path) -> Mail:
    """Parse one file of a Maildir."""
    raw = path.read_bytes()
    message = email.message_from_bytes(raw, policy=_CRLF_READER)
    assert isinstance(message, EmailMessage)
    return Mail(raw=raw, message=message)


def mails(maildir: Path) -> list[Mail]:
    """Return the delivered messages, in the order of their file names."""
    # A file moves from tmp/ to new/ when it is complete: new/ never shows half a message.
    return [read(path) for path in sorted((maildir / "new").glob("*"))]


def empty(maildir: Path) -> None:
    """Delete what was delivered."""
    for path in (maildir / "new").glob("*"):
        path.unlink()
