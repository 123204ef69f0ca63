"""Test utilities for projects: a backend that keeps mail, a local server with faults, and an assertion."""

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
