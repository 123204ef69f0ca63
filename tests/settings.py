"""Django settings of the test suite: the least that lets mail be sent."""

import django

SECRET_KEY = "of the tests, and of no use elsewhere"
INSTALLED_APPS = ["django_smtp_pool"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
USE_TZ = True
DEFAULT_FROM_EMAIL = "sender@example.com"

if django.VERSION >= (6, 1):
    MAILERS = {"default": {"BACKEND": "django_smtp_pool.backend.PooledBackend", "OPTIONS": {"host": "localhost"}}}
else:
    EMAIL_BACKEND = "django_smtp_pool.backend.PooledBackend"
