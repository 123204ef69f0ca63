"""django-mailer's queue before our backend; it knows nothing of MAILERS."""

from tests.neighbours.project.settings import *  # noqa: F403
from tests.neighbours.project.settings import INSTALLED_APPS, POOLED, as_settings

globals().pop("MAILERS", None)
globals().update(as_settings())

INSTALLED_APPS = [*INSTALLED_APPS, "mailer"]
EMAIL_BACKEND = "mailer.backend.DbBackend"
MAILER_EMAIL_BACKEND = POOLED
MAILER_ERROR_HANDLER = "tests.neighbours.project.mailer_errors.handle_mail_error"
MAILER_USE_FILE_LOCK = False  # a process that was killed leaves its lock behind
