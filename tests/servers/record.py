"""The package's own, under the name that our tests use."""

from django_smtp_pool.testing.server.record import Accepted, Gate, Record, Struck

__all__ = ["Accepted", "Gate", "Record", "Struck"]
