"""A site that is measured, with the page of docs/metrics.rst."""

from tests.neighbours.project.settings import *  # noqa: F403
from tests.neighbours.project.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "django_smtp_pool.metrics.prometheus"]
ROOT_URLCONF = "tests.neighbours.project.web_prometheus"
LOGGING = {  # why a request failed
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"django.request": {"handlers": ["console"], "level": "ERROR"}},
}
