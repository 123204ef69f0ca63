"""Fixtures for pytest: `smtp_pool_mail` and `smtp_pool_server`. Their modules are imported when a test uses one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .testing import Answers, FaultServer


@pytest.fixture
def smtp_pool_mail() -> Iterator[Answers]:
    """Keep mail in `mail.outbox` with a status, and answer as configured: see `django_smtp_pool.testing.Answers`."""
    from .testing import recorded_mail

    with recorded_mail() as answers:
        yield answers


@pytest.fixture
def smtp_pool_server() -> Iterator[FaultServer]:
    """Run a real server on the loopback interface, and make it the project's mailer."""
    from .testing import local_server

    with local_server() as server:
        yield server
