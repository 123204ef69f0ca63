"""The assertion "exactly once, or told"."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from email import message_from_bytes
from email.header import decode_header, make_header
from typing import Any

from ..status import status_of
from .server.fault import FaultServer

# The fewest and most copies that the server may have per recipient, by the outcome that the sender was told.
ALLOWED = {"accepted": (1, 1), "refused": (0, 0), "not_sent": (0, 0), "unknown": (0, 1)}


def assert_once_or_told(server: FaultServer, messages: Iterable[Any]) -> None:
    """Assert that the server has each message once for every recipient, unless its status says otherwise.

    Messages are identified by their subjects, so each subject must be different. Raises AssertionError with every
    message and recipient that is wrong, and ValueError if two messages have the same subject.
    """
    messages = list(messages)
    repeated = [subject for subject, count in Counter(str(each.subject) for each in messages).items() if count > 1]
    if repeated:
        raise ValueError(f"messages are identified by their subjects, but {repeated[0]!r} is used more than once")
    copies = Counter((_subject(each.content), address) for each in server.accepted for address in each.recipients)
    wrong = [problem for message in messages for problem in _problems(message, copies)]
    if wrong:
        raise AssertionError("\n".join(wrong))


def _problems(message: Any, copies: Counter[tuple[str, str]]) -> Iterable[str]:
    status = status_of(message)
    if status is None:
        yield f"{message.subject!r} has no status: it was not sent by the pool"
        return
    for each in status.recipients.values():
        least, most = ALLOWED[each.outcome]
        count = copies[str(message.subject), each.address]
        if not least <= count <= most:
            yield f"{message.subject!r} for {each.address}: the sender was told {each.outcome}, the server has {count}"


def _subject(content: bytes) -> str:
    return str(make_header(decode_header(message_from_bytes(content)["Subject"] or "")))
