"""Read the content of a message: for DATA up to the final dot, for BDAT by its size."""

END = b"\r\n.\r\n"
PIECE = 4096  # octets at a time, so that a fault in the middle occurs before most of a large message is read


class Middle:
    """The point "body": reached once per content, when enough octets have been read."""

    def __init__(self, session):
        self._session = session
        self._reached = False
        self.answered = False
        self.read(0)

    def read(self, octets):
        """Run a fault if the point is reached now; `octets` is the number read so far."""
        if not self._reached and octets >= self._session.server.body_after:
            self._reached = True
            self.answered = self._session.disturb("body", "552 5.3.4 Error: message file too big")


def until_dot(session):
    """Return DATA's content, dot-unstuffed, or None if a fault answered early."""
    raw = bytearray(b"\r\n")  # as if a line ended before the content: it may be only a dot
    middle = Middle(session)
    searched = 0
    while (end := raw.find(END, searched)) < 0:
        searched = max(0, len(raw) - len(END))
        raw += _take(session, PIECE)
        middle.read(len(raw) - 2)
    session.buffer[:0] = raw[end + len(END) :]  # the next command, if it was pipelined
    content = bytes(raw[: end + 2]).replace(b"\r\n.", b"\r\n")[2:]
    session.record.note(f"C{session.number}> <{len(content)} octets>")
    return None if middle.answered else content


def exactly(session, size):
    """Return the octets of one BDAT chunk, or None if a fault answered early."""
    chunk = bytearray()
    middle = Middle(session)
    while len(chunk) < size:
        chunk += _take(session, min(PIECE, size - len(chunk)))
        middle.read(len(chunk))
    session.record.note(f"C{session.number}> <{size} octets>")
    return None if middle.answered else bytes(chunk)


def _take(session, size):
    if not session.buffer:
        return session.receive("content", size)
    taken = bytes(session.buffer[:size])
    del session.buffer[:size]
    return taken
