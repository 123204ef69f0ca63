"""Plays a dialogue against a transcript, without a socket.

C: MAIL FROM:<a@example.com>     what the dialogue says; lines that follow each other are one write
C: <listens>                     it says nothing, and waits for one reply more
S: 250 ok                        what it hears
S: <gone>                        the connection ends instead, when all has been said
S: <gone early>                  the connection ends before the last octet has left
S: <early> 552 too much          a reply that came before the last octet had left
* connect mail.example:25        the dialogue wants a connection
* TLS mail.example               the dialogue wants the channel secured
"""

import textwrap

from django_smtp_pool.core.errors import ConnectionLost, Stage
from django_smtp_pool.core.replies import ReplyParser
from django_smtp_pool.core.smtp.steps import Connect, Heard, SecureChannel


class End:
    """How a dialogue ended."""

    def __init__(self, value=None, error=None):
        self._value, self._error = value, error

    def __str__(self):
        return f"the end: {self._error!r}" if self._error else "the end"

    def result(self):
        """Return what it returned, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._value


def play(dialogue, transcript=""):
    """Return what the dialogue returns, or raise what it raises, after exactly this conversation."""
    step = resumed(lambda: next(dialogue))
    for said, heard in exchanges(transcript):
        assert shown(step) == said
        step = answered(dialogue, step, heard)
    assert isinstance(step, End), f"the dialogue goes on with {shown(step)}"
    return step.result()


def resumed(go_on):
    """Return the next step of a dialogue, or its end."""
    try:
        return go_on()
    except StopIteration as stop:
        return End(value=stop.value)
    except Exception as error:
        return End(error=error)


def exchanges(transcript):
    """Return pairs: the lines of one write, and what is heard then."""
    pairs = []
    last = "S:"
    for line in textwrap.dedent(transcript).strip("\n").splitlines():
        kind = line[:2]
        if kind == "* " or (last, kind) in {("S:", "C:"), ("* ", "C:"), ("* ", "S:")} or not pairs:
            pairs.append(([], []))
        said, heard = pairs[-1]
        (heard if kind == "S:" else said).append(line.rstrip())
        last = kind
    return pairs


def shown(step):
    """Return a step as the lines of a transcript."""
    if isinstance(step, Connect):
        return [f"* connect {step.target.host}:{step.target.port}"]
    if isinstance(step, SecureChannel):
        return [f"* TLS {step.server_hostname}"]
    if isinstance(step, End):
        return [str(step)]
    if not step.pieces and step.stage is not Stage.GREETING:
        return ["C: <listens>"]
    said = b"".join(step.pieces).decode()
    assert not said or said.endswith("\r\n")
    return [f"C: {line}".rstrip() for line in said.split("\r\n")[:-1]]


def answered(dialogue, step, heard):
    """Resume a dialogue with what it hears; return its next step."""
    lines = [line.removeprefix("S:").strip() for line in heard]
    replies = replies_of(*(line.removeprefix("<early> ") for line in lines if not line.startswith("<gone")))
    if lines and lines[-1].startswith("<gone"):
        lost = ConnectionLost("the server closed the connection")
        lost.stage, lost.heard, lost.all_said = step.stage, replies, lines[-1] == "<gone>"
        return resumed(lambda: dialogue.throw(lost))
    ended = any(reply.closes_connection for reply in replies)
    assert ended or len(replies) == getattr(step, "hear", 0), "the transcript answers too much or too little"
    early = any(line.startswith("<early>") for line in lines)
    return resumed(lambda: dialogue.send(Heard(replies=replies, all_said=not early)))


def replies_of(*lines):
    """Return the replies that a server's lines make."""
    return tuple(ReplyParser().feed("".join(f"{line}\r\n" for line in lines).encode()))


def reply_of(*lines):
    """Return the one reply that a server's lines make."""
    (reply,) = replies_of(*lines)
    return reply
