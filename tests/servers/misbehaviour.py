"""The package's own, under the name that our tests use."""

from django_smtp_pool.testing.server.misbehaviour import CATALOGUE, Misbehaviour, code_of, sin

__all__ = ["CATALOGUE", "Misbehaviour", "code_of", "sin"]
