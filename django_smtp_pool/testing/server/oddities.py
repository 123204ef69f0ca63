"""Unusual but valid replies, which a client must accept."""

from .misbehaviour import code_of, sin

# Unusual but valid replies


@sin(accepts=True)
def bare_code(session, proper):
    """Send the code without a text and space."""
    session.say(proper[:3])
    return code_of(proper)


@sin(accepts=True)
def chopped(session, proper):
    """Send the proper reply one octet per segment."""
    session.trickle(proper.encode() + b"\r\n", pause=0)
    return code_of(proper)


@sin(accepts=True)
def ticked(session, proper):
    """Send the proper reply, one octet for each tick of the server."""
    session.trickle(proper.encode() + b"\r\n")
    return code_of(proper)


@sin(accepts=True)
def wordy(session, proper):
    """Send the proper reply after twenty lines with the same code."""
    session.say("\r\n".join([*(f"{proper[:3]}-line {number}" for number in range(20)), proper]))
    return code_of(proper)


@sin(accepts=True)
def latin_1(session, proper):
    """Send the proper reply, with text that is not UTF-8 in its first line."""
    first, *others = proper.split("\r\n")
    session.send("\r\n".join([f"{first} Bon app\xe9tit", *others, ""]).encode("latin-1"))
    return code_of(proper)
