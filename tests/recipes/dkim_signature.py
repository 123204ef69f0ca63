"""project/mail.py: sign every message by DKIM (RFC 6376)."""

import os
from pathlib import Path

import dkim


def sign_by_dkim(content: bytes) -> bytes:
    """Put a DKIM-Signature before the header."""
    signature = dkim.sign(
        content,
        selector=b"mail",
        domain=b"example.com",
        privkey=Path(os.environ["DKIM_KEY"]).read_bytes(),
        include_headers=[b"from", b"to", b"subject", b"date", b"message-id"],
    )
    return bytes(signature) + content
