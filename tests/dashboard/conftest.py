"""The site of these tests, and its users."""

import pytest
from django.test import Client

from django_smtp_pool.dashboard.recorder import recorder
from django_smtp_pool.registry import registry
from tests.dashboard.site import PASSWORD, site


@pytest.fixture(scope="module", autouse=True)
def _site(django_db_setup, django_db_blocker):
    with site(django_db_blocker):
        yield
    registry.watchers.remove(recorder.watch)  # it was installed by the app


@pytest.fixture
def visit():
    """Return a function that logs a user in."""

    def log_in(name, **options):
        client = Client(**options)
        assert client.login(username=name, password=PASSWORD)
        return client

    return log_in
