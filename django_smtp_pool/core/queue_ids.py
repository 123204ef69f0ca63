"""Find the server's queue id of a message in the reply that accepted it.

No RFC defines its place, so these are patterns for known servers. No decision depends on it: it helps people to find
the message in the server's log.
"""

from __future__ import annotations

import re

_ID = r"[<(]?([A-Za-z0-9][\w.@/+=$-]*)"
_WORDINGS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf".*\bqueued (?:on \S+ )?as {_ID}",  # Postfix, also behind a content filter; SendGrid; Yandex
        rf".*\bInternalId={_ID}",  # Exchange, Microsoft 365
        rf".*\bid={_ID}",  # Exim, GMX, mail.ru
        rf".*\bmessage id {_ID}",  # IceWarp
        rf".*\bqueued with id {_ID}",  # Stalwart
        rf".*\bmessage queued \({_ID}\)",  # Haraka
        r".*\bok \d+ qp (\d+)",  # qmail
        rf".*\bok +\d+ {_ID} - gsmtp",  # Gmail
        rf"{_ID}:? message accepted",  # sendmail, OpenSMTPD, Kerio, CommuniGate
        r"<[^>]*> ([\w+/=-]+(?::\w+)*) saved",  # Dovecot, by LMTP: its session
        r"ok ([0-9a-f]{16}-[0-9a-f-]{20,})",  # Amazon SES
        r"ok ([0-9A-F]{2}/[0-9A-F]{2}-[0-9A-F-]+)",  # SparkPost (Momentum)
    )
)
_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}:? +")


def queue_id_of(text: str) -> str | None:
    """Return the queue id in the text of a 250 reply, or None if no pattern matches."""
    text = _ENHANCED.sub("", text, count=1) if _ENHANCED.match(text) else text
    found = (wording.match(text) for wording in _WORDINGS)
    return next((match[1].rstrip(".") for match in found if match), None)
