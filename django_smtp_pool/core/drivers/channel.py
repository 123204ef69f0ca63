"""A transport and the replies read from it; it outlives the runs that use it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from ..net.transport import Transport
from ..replies import Reply, ReplyParser


@dataclass(kw_only=True)
class Channel:
    """A transport and the replies read from it; it outlives the runs that use it."""

    transport: Transport | None = None
    parser: ReplyParser = field(default_factory=ReplyParser)
    inbox: deque[Reply] = field(default_factory=deque)
    is_closed: bool = False

    @property
    def in_step(self) -> bool:
        """Whether there may be a next command: not closed, and every reply read so far was asked for."""
        return not self.is_closed and self.parser.is_empty and not self.inbox

    @property
    def is_quiet(self) -> bool:
        """Whether the server is still there and has said nothing that nobody asked for."""
        return self.transport is not None and self.in_step and self.transport.is_quiet()

    def read(self) -> bool:
        """Move what has arrived into the inbox; return False where nothing had."""
        if self.transport is None:
            raise AssertionError("the dialogue connects first")
        data = self.transport.receive()
        self.inbox.extend(self.parser.feed(data))
        return bool(data)

    def close(self) -> None:
        """Close the socket at once."""
        self.is_closed = True
        if self.transport is not None:
            self.transport.close()
