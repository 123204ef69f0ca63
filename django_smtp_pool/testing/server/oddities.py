"""Misbehaviours that are odd, but good: a client has to put up with them."""

from .misbehaviour import code_of, sin

# Replies that are odd, but good


@sin(accepts=True)
def bare_code(session, proper):
    """Send the code with no text nor blank."""
    session.say(proper[:3])
    return code_of(proper)


@sin(accepts=True)
def chopped(session, proper):
    """Send the proper reply in as many segments as it has octets."""
    session.trickle(proper.encode() + b"\r\n", pause=0)
    return code_of(proper)


@sin(accepts=True)
def ticked(session, proper):
    """Send the proper reply, one octet for each tick of the server's."""
    session.trickle(proper.encode() + b"\r\n")
    return code_of(proper)


@sin(accepts=True)
def wordy(session, proper):
    """Send the proper reply behind twenty lines of the same code."""
    session.say("\r\n".join([*(f"{proper[:3]}-line {number}" for number in range(20)), proper]))
    return code_of(proper)


@sin(accepts=True)
def latin_1(session, proper):
    """Send the proper reply, with text in its first line that is not UTF-8."""
    first, *others = proper.split("\r\n")
    session.send("\r\n".join([f"{first} Bon app\xe9tit", *others, ""]).encode("latin-1"))
    return code_of(proper)
