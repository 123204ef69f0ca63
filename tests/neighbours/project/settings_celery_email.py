"""django-celery-email before our backend, its tasks run at once; it knows nothing of MAILERS."""

from celery import Celery

from tests.neighbours.project.settings import *  # noqa: F403
from tests.neighbours.project.settings import INSTALLED_APPS, POOLED, as_settings

globals().pop("MAILERS", None)
globals().update(as_settings())

INSTALLED_APPS = [*INSTALLED_APPS, "djcelery_email"]
EMAIL_BACKEND = "djcelery_email.backends.CeleryEmailBackend"
CELERY_EMAIL_BACKEND = POOLED

app = Celery("project", set_as_current=True)
app.conf.update(task_always_eager=True, task_eager_propagates=True)
