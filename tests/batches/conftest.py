"""What the tests of batches share: backends in a registry with a clock of the test's own."""

import pytest

from django_smtp_pool.core.clock import SystemClock
from django_smtp_pool.core.events import Observer
from django_smtp_pool.registry import Registry
from tests.mailing import backend_for


@pytest.fixture
def mailer(monkeypatch):
    """Return a function that makes a backend whose pool has the clock and the observer it is given."""
    registries = []

    def make(server, clock=None, observer=None, **options):
        registry = Registry(clock=clock or SystemClock(), observer=observer or Observer())
        registries.append(registry)
        monkeypatch.setattr("django_smtp_pool.backend.registry", registry)
        return backend_for(server, **{"idle_timeout": 0, "max_lifetime": 0, **options})

    yield make
    for registry in registries:
        registry.at_exit()
