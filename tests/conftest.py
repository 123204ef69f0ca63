"""What every test may use, and the isolation of all: no pool outlives a test."""

import pytest

from django_smtp_pool import registry
from tests.servers import FaultServer


@pytest.fixture(autouse=True)
def _no_pool_outlives_a_test():
    yield
    registry.reset()


@pytest.fixture
def server():
    """A well-behaved SMTP server that can be told to misbehave."""
    with FaultServer() as running:
        yield running
        registry.reset()  # before the server goes: what is said goodbye to is still there
