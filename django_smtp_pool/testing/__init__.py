"""For the tests of a project: mail that is kept and answered as told, and a real server that misbehaves on demand."""

from __future__ import annotations

from .assertions import assert_once_or_told
from .local import certificates, local_server
from .recording import Answers, ManualClock, recorded_mail
from .server import faults
from .server.fault import FaultServer
from .server.plan import POINTS, Fault, RandomFaults

__all__ = [
    "POINTS",
    "Answers",
    "Fault",
    "FaultServer",
    "ManualClock",
    "RandomFaults",
    "assert_once_or_told",
    "certificates",
    "faults",
    "local_server",
    "recorded_mail",
]
