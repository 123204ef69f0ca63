"""The cases of a quick run and of a full run."""

import itertools
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Case:
    """One situation in which all senders are measured.

    Arguments:
        rtt: seconds of a round trip to the server.
        is_secure: with STARTTLS and a login.
        content: one of `project.CONTENTS`.
        delay: seconds that the server needs for each message.
    """

    content: str = "html"
    rtt: float = 0.0
    is_secure: bool = False
    connections: int = 5
    delay: float = 0.0

    def __str__(self):
        kinds = {"html": "text + html, 2 KB", "text": "text, 1 KB", "282K": "282 KB", "20M": "20 MB attachment"}
        words = [kinds[self.content], f"RTT {self.rtt * 1000:g} ms", "TLS + AUTH" if self.is_secure else "plain"]
        if self.delay:
            words.append(f"server needs {self.delay * 1000:g} ms")
        return ", ".join([*words, f"{self.connections} connection{'s' if self.connections > 1 else ''}"])


SLOW = 0.02
QUICK = [
    Case(connections=1),
    Case(),
    Case(rtt=0.05, is_secure=True),
    Case(content="282K"),
    Case(delay=SLOW, connections=10),
]
WIDTHS = (1, 5, 10)
FULL = [
    *(
        Case(rtt=rtt, is_secure=is_secure, connections=connections)
        for rtt, is_secure, connections in itertools.product((0.0, 0.01, 0.05), (False, True), WIDTHS)
    ),
    *(Case(content=content, connections=each) for content, each in itertools.product(("text", "282K", "20M"), WIDTHS)),
    *(Case(delay=SLOW, connections=each) for each in WIDTHS),
]
