"""Ports of the loopback interface that stay what they are, however busy the machine is.

A port that was free a moment ago may be anybody's: another test's server, or this end of any connection.
"""

import contextlib
import itertools
import os
import socket

_below_those_given_out = itertools.count(10_000 + os.getpid() % 200 * 100)


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


def for_program() -> int:
    """Return a port of 127.0.0.1 for a program that is started now, and opens it some time later.

    The system gives it to nobody meanwhile: those that it gives out begin at 32768 (ip(7), ip_local_port_range).
    """
    while True:
        port = next(_below_those_given_out)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
