"""Reading the content of a message: DATA's until the dot, BDAT's by count."""

END = b"\r\n.\r\n"
PIECE = 4096  # octets at a time, so that a fault in the middle finds most of a large message still unread


class Middle:
    """The point "body": reached once for each content, when enough octets of it have been read."""

    def __init__(self, session):
        self._session = session
        self._reached = False
        self.answered = False
        self.read(0)

    def read(self, octets):
        """Misbehave if it is time to, `octets` having been read."""
        if not self._reached and octets >= self._session.server.body_after:
            self._reached = True
            self.answered = self._session.befall("body", "552 5.3.4 Error: message file too big")


def until_dot(session):
    """Return DATA's content without its dots, or None after an early answer."""
    raw = bytearray(b"\r\n")  # as if before the first line: a dot may be the whole content
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
    """Return the octets of one BDAT chunk, or None after an early answer."""
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
