"""Settings of the tests' projects. What differs from run to run comes from the environment."""

import os
from pathlib import Path

import django

from tests.neighbours.project.pool import MAX_CONNECTIONS

VAR = Path(os.environ["VAR"])
POOLED = "django_smtp_pool.backend.PooledBackend"

SECRET_KEY = "of the tests, and of no use elsewhere"
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "tests.neighbours.project.web"
INSTALLED_APPS = ["django_smtp_pool"]
USE_TZ = True
DEFAULT_FROM_EMAIL = "from@example.com"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": VAR / "queue.sqlite3",
        # A machine that loses power in a test loses the test: nothing has to reach the disk.
        "OPTIONS": {"init_command": "PRAGMA synchronous=OFF", "timeout": 20},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

EMAIL_POOL_MAX_CONNECTIONS = MAX_CONNECTIONS
EMAIL_POOL_MAX_MESSAGES = 0

SMTP = {
    "host": "127.0.0.1",
    "port": int(os.environ["SMTP_PORT"]),
    "username": "user",
    "password": "secret",
    "use_tls": True,
    "tls_options": {"ca_file": os.environ["CA_FILE"]},
    "local_hostname": "client.example.com",
}


def as_settings():
    """Return the same as EMAIL_* settings, for what does not know MAILERS."""
    names = {"username": "HOST_USER", "password": "HOST_PASSWORD"}
    return {f"EMAIL_{names.get(key, key.upper())}": value for key, value in SMTP.items()}


if django.VERSION >= (6, 1):
    MAILERS = {"default": {"BACKEND": POOLED, "OPTIONS": SMTP}}
else:
    EMAIL_BACKEND = POOLED
    globals().update(as_settings())
