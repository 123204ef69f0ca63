"""Servers for tests: the package's own, SMTP over real sockets, and what only our tests need."""

from django_smtp_pool.testing.server import content, faults, login
from django_smtp_pool.testing.server.fault import FaultServer
from django_smtp_pool.testing.server.plan import POINTS, Fault, RandomFaults
from django_smtp_pool.testing.server.record import Accepted, Struck

__all__ = ["POINTS", "Accepted", "Fault", "FaultServer", "RandomFaults", "Struck", "content", "faults", "login"]
