"""The catalogue of misbehaviours of servers and networks.

Each is called with the session and the proper reply; misbehaviour.py describes the interface. Unintelligible replies
to the end of data *accept* the message, as the worst server would.
"""

import base64
from dataclasses import replace

from .misbehaviour import CATALOGUE, Misbehaviour, code_of, sin
from .oddities import bare_code, chopped, latin_1, ticked, wordy

__all__ = [
    "CATALOGUE",
    "MIXTURE",
    "Misbehaviour",
    "accepted_then",
    "bare_code",
    "challenge",
    "chopped",
    "latin_1",
    "refused_then",
    "reply",
    "reply_and_close",
    "ticked",
    "wordy",
]

FLOOD = 256 * 2**20  # octets after which an endless reply ends, even if the client still reads

# Silence


@sin(accepts=False)
def hang(session, proper):
    """Never answer again; still read and discard what the client sends."""
    session.hang()


@sin(accepts=False)
def stall(session, proper):
    """Never answer or read again, so that the client's writes fill the buffers and block."""
    # Full buffers also delay the client's FIN: such a session counts as open until the server stops.
    session.stall()


# Closed connections


@sin(accepts=False)
def reset(session, proper):
    """Reset the connection (RST) without a reply."""
    session.close(reset=True)


@sin(accepts=False)
def fin(session, proper):
    """End the connection (FIN) without a reply or TLS close_notify, and discard what the client still sends."""
    session.finish(polite=False)


@sin(accepts=False)
def vanish(session, proper):
    """Close the socket as a killed process does: FIN, or RST if something is unread."""
    session.close()


@sin(accepts=False)
def notify(session, proper):
    """End the connection without a reply, but with TLS close_notify if TLS is in use."""
    session.finish(polite=True)


# Complete replies, but different ones


def reply(text, *, accepts=None):
    """Answer with `text` instead, and continue; as a reply to the end of data, a 2xx accepts the message."""

    def act(session, proper):
        session.say(text)
        return code_of(text)

    return Misbehaviour(name=f"reply {text}", act=act, accepts=text.startswith("2") if accepts is None else accepts)


def reply_and_close(text, *, accepts=False):
    """Answer with `text` instead, then close."""

    def act(session, proper):
        session.say(text)
        session.finish(polite=True)

    return Misbehaviour(name=f"reply {text} and close", act=act, accepts=accepts)


def challenge(change):
    """Answer with a challenge made by `change` from the octets of the proper one."""

    def act(session, proper):
        session.say(f"334 {base64.b64encode(change(base64.b64decode(proper[4:]))).decode()}")
        return 334

    return Misbehaviour(name="another challenge", act=act)


@sin(accepts=False)
def code_421(session, proper):
    """Answer 421 and close."""
    session.say(proper if proper.startswith("421") else "421 4.3.0 fault.test Service not available, closing")
    session.finish(polite=True)


@sin(accepts=False)
def code_4xx(session, proper):
    """Refuse temporarily: 451."""
    session.say("451 4.3.0 Error: queue file write error")
    return 451


@sin(accepts=False)
def code_5xx(session, proper):
    """Refuse permanently: 554."""
    session.say("554 5.7.1 Not this one")
    return 554


# Malformed replies


@sin(accepts=True)
def garbage(session, proper):
    """Answer with a line that does not begin with a code."""
    session.say("HTTP/1.1 400 Bad Request")
    return 0


@sin(accepts=True)
def binary(session, proper):
    """Answer with octets of every value, including NUL and bare line ends."""
    session.send(bytes(range(256)) + b"\r\n")
    return 0


@sin(accepts=True)
def overlong(session, proper):
    """Answer with a line of 100 kB."""
    session.send(proper.encode() + b"x" * 100_000 + b"\r\n")
    return code_of(proper)


@sin(accepts=True)
def endless(session, proper):
    """Answer with an endless multiline reply, until the client closes."""
    block = f"{proper[:3]}-and another thing\r\n".encode() * 4096
    for _ in range(FLOOD // len(block)):
        session.wire.send(block)
    session.finish(polite=False)


@sin(accepts=True)
def torrent(session, proper):
    """Answer with endless minimal replies, until the client closes."""
    for _ in range(FLOOD // 4096):
        session.wire.send(f"{proper[:3]}\n".encode() * 1024)
    session.finish(polite=False)


@sin(accepts=True)
def unending(session, proper):
    """Answer with an endless line, until the client closes."""
    session.wire.send(proper[:4].encode())
    for _ in range(FLOOD // 4096):
        session.wire.send(b"x" * 4096)
    session.finish(polite=False)


@sin(accepts=True)
def differing_codes(session, proper):
    """Answer in two lines with two codes, the proper one in the last line."""
    session.say(f"{'550' if proper[0] == '2' else '250'}-first this\r\n{proper}")
    return 0


@sin(accepts=True)
def code_1xx(session, proper):
    """Answer with a 1xx code, which SMTP does not have."""
    session.say("150 About to")
    return 0


@sin(accepts=True)
def code_2xx(session, proper):
    """Answer 250, whatever is due, for example to DATA."""
    session.say("250 2.0.0 Fine")
    return 250


@sin(accepts=True)
def code_3xx(session, proper):
    """Answer 354, whatever is due, for example to the end of data."""
    session.say("354 go on")
    return 0


@sin(accepts=True)
def code_6xx(session, proper):
    """Answer with a code outside of all classes."""
    session.say("650 6.0.0 Beyond")
    return 0


@sin(accepts=True)
def empty_lines(session, proper):
    """Put empty lines into the reply."""
    session.say(f"{proper[:3]}-first\r\n\r\n{proper}")
    return 0


@sin(accepts=True)
def nothing_but_empty(session, proper):
    """Answer with an empty line."""
    session.say("")
    return 0


# Truncated replies


@sin(accepts=True)
def truncated(session, proper):
    """Send only the code, without a line end, then FIN."""
    session.send(proper[:3].encode())
    session.finish(polite=False)


@sin(accepts=True)
def truncated_text(session, proper):
    """Send the whole reply without its line end, then FIN."""
    session.send(proper.encode())
    session.finish(polite=False)


@sin(accepts=True)
def truncated_multiline(session, proper):
    """Send the first line of a longer reply, then FIN."""
    session.send(f"{proper[:3]}-first\r\n".encode())
    session.finish(polite=False)


@sin(accepts=True)
def truncated_then_hang(session, proper):
    """Send the reply without its line end, then nothing more."""
    session.send(proper.encode())
    session.hang()


@sin(accepts=True)
def drip(session, proper):
    """Send an endless reply, one octet every few milliseconds, so that no single wait is long."""
    line = f"{proper[:3]}-drip\r\n".encode()
    session.trickle((octet for _ in range(FLOOD) for octet in line), pause=0.003)


# Additional replies


@sin(accepts=True)
def stray(session, proper):
    """Send a second reply after the proper one, without a command; at STARTTLS this is an injection."""
    session.say(f"{proper}\r\n250 2.0.0 And one more")
    return code_of(proper)


@sin(accepts=True)
def stray_421(session, proper):
    """Send a 421 directly after the proper reply, then close."""
    session.say(f"{proper}\r\n421 4.4.2 fault.test closing")
    session.finish(polite=True)


@sin(accepts=True)
def proper_then_reset(session, proper):
    """Answer properly, then reset the connection."""
    session.say(proper)
    session.close(reset=True)


@sin(accepts=True)
def proper_then_hang(session, proper):
    """Answer properly, then never answer again."""
    session.say(proper)
    session.hang()


# Early replies, in the middle of the content


@sin(accepts=False)
def early_552(session, proper):
    """Say in the middle of the content that it is too large, and close."""
    session.say("552 5.3.4 Error: message file too big")
    session.finish(polite=True)


@sin(accepts=False)
def early_250(session, proper):
    """Say 250 in the middle of the content, then reset: the message was not accepted."""
    session.say("250 2.0.0 Ok")
    session.close(reset=True)


def accepted_then(misbehaviour):
    """Accept the message, then misbehave: the client cannot know whether it was accepted."""
    return replace(misbehaviour, name=f"accepted_then_{misbehaviour.name}", accepts=True)


def refused_then(misbehaviour):
    """Drop the message, then misbehave: the client cannot know that it was dropped."""
    return replace(misbehaviour, name=f"refused_then_{misbehaviour.name}", accepts=False)


# Everyday faults of networks and servers: none of these delays a client much.
MIXTURE = (
    reset,
    fin,
    vanish,
    code_421,
    code_4xx,
    code_5xx,
    garbage,
    truncated,
    stray,
    accepted_then(reset),
    chopped,
)
