"""The admin with the live page of the pools."""

from tests.dashboard import site
from tests.neighbours.project.settings import *  # noqa: F403

globals().update({name: value for name, value in site.SETTINGS.items() if name != "ROOT_URLCONF"})
ROOT_URLCONF = "tests.neighbours.project.live_page"
EMAIL_POOL_IDLE_TIMEOUT = 600
