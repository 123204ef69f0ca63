"""What every test may use, and the isolation of all: no pool outlives a test."""

import pytest
from hypothesis import HealthCheck, settings

from django_smtp_pool import registry as registries
from django_smtp_pool.core.clock import SystemClock
from django_smtp_pool.core.events.events import Observer
from django_smtp_pool.registry import Registry
from tests.mailing import backend_for
from tests.servers import FaultServer

# How long an example takes says how busy the machine is, and nothing of the code.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


@pytest.fixture(autouse=True)
def _no_pool_outlives_a_test():
    yield
    registries.reset()


@pytest.fixture
def server():
    """A well-behaved SMTP server that can be told to misbehave."""
    with FaultServer() as running:
        yield running
        registries.reset()  # before the server goes: what is said goodbye to is still there


@pytest.fixture
def mailer(monkeypatch):
    """Return a function that makes a backend whose pool has the clock and the observer it is given."""
    made = []

    def make(server, clock=None, observer=None, **options):
        registry = Registry(clock=clock or SystemClock(), observer=observer or Observer())
        made.append(registry)
        monkeypatch.setattr("django_smtp_pool.backend.registry", registry)
        # Nothing is to be done after a while: whoever waits on the clock waits for the server.
        return backend_for(server, **{"idle_timeout": 0, "max_lifetime": 0, **options})

    yield make
    for registry in made:
        registry.at_exit()
