"""Django with asynchronous views only."""

from tests.neighbours.project.settings import *  # noqa: F403

ROOT_URLCONF = "tests.neighbours.project.asgi"
