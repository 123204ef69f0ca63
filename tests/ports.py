"""Ports of the loopback interface that stay what they are, however busy the machine is.

A port that was free a moment ago may be anybody's: another test's server, or this end of any connection.
"""

import contextlib
import os
import socket


@contextlib.contextmanager
def refusing(host="127.0.0.1"):
    """Yield a socket address that refuses connections: its port is taken, and nobody listens."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as held:
        held.bind((host, 0))
        yield held.getsockname()


def free():
    """Return a socket address that is free to be bound: its host is this process's own, out of 127.0.0.0/8."""
    number = os.getpid()
    with socket.socket() as held:
        held.bind((f"127.{64 + (number >> 16) % 64}.{number >> 8 & 255}.{number & 255}", 0))
        return held.getsockname()
