"""django-post-office's queue before our backend, each Django in its own way."""

import django

from tests.neighbours.project.settings import *  # noqa: F403
from tests.neighbours.project.settings import INSTALLED_APPS, POOLED, SMTP

INSTALLED_APPS = [*INSTALLED_APPS, "django.contrib.contenttypes", "django.contrib.auth", "post_office"]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
POST_OFFICE = {"BATCH_SIZE": 100, "THREADS_PER_PROCESS": 5}

if django.VERSION >= (6, 1):
    POST_OFFICE["DEFAULT_MAILER"] = "smtp"
    MAILERS = {"default": {"BACKEND": "post_office.EmailBackend"}, "smtp": {"BACKEND": POOLED, "OPTIONS": SMTP}}
else:
    POST_OFFICE["BACKENDS"] = {"default": POOLED}
    EMAIL_BACKEND = "post_office.EmailBackend"
