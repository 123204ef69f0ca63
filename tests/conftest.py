"""What every test may use, and the isolation of all: no pool outlives a test."""

import pytest
from hypothesis import HealthCheck, settings

from django_smtp_pool import registry
from tests.servers import FaultServer

# How long an example takes says how busy the machine is, and nothing of the code.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


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
