"""From what went wrong on the network to the error that callers know."""

from __future__ import annotations

import ssl

from ..errors import ConnectionLost, ProtocolError
from ..net.tls import explained
from ..net.trouble import PeerClosed, Trouble
from ..replies import MalformedReply
from ..smtp.steps import Connect, SecureChannel, Step

WRONG = (Trouble, MalformedReply, ProtocolError)  # whatever else comes out of a step is an interrupt


def explain(wrong: Exception, step: Step | None) -> Exception:
    """Return the error that callers know, for what went wrong below during a step."""
    if isinstance(wrong, MalformedReply):
        return ProtocolError(str(wrong))
    if not isinstance(wrong, Trouble):
        return wrong
    if isinstance(step, Connect):
        # Failing to connect keeps its type (ConnectionRefusedError, gaierror): callers know those.
        return wrong.error
    if isinstance(wrong, PeerClosed):
        return ConnectionLost("the server closed the connection")
    if isinstance(wrong.error, ssl.SSLError) and isinstance(step, SecureChannel):
        return explained(wrong.error, step.server_hostname)
    return ConnectionLost(f"the connection was lost: {wrong.error}")
