"""Servers for tests: SMTP over real sockets that misbehaves on demand and keeps the ground truth."""

from tests.servers import faults
from tests.servers.fault import FaultServer
from tests.servers.plan import POINTS, Fault, RandomFaults
from tests.servers.record import Accepted, Struck

__all__ = ["POINTS", "Accepted", "Fault", "FaultServer", "RandomFaults", "Struck", "faults"]
