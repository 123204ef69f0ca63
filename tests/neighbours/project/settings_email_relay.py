"""django-email-relay's queue before our backend; it knows nothing of MAILERS."""

import os

from tests.neighbours.project.settings import *  # noqa: F403
from tests.neighbours.project.settings import INSTALLED_APPS, POOLED, as_settings

globals().pop("MAILERS", None)
globals().update(as_settings())

INSTALLED_APPS = [*INSTALLED_APPS, "email_relay"]
DJANGO_EMAIL_RELAY = {"DATABASE_ALIAS": "default"}
# The queue's two sides are two projects, with one database.
EMAIL_BACKEND = "email_relay.backend.RelayDatabaseEmailBackend" if os.environ.get("QUEUE") else POOLED
