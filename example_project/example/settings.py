"""Settings of the example site, for Django 5.2, 6.0 and 6.1."""

import importlib.util
import os
from pathlib import Path

import django

BASE_DIR = Path(__file__).resolve().parent.parent

# All files that the site writes (the database, the mailboxes) are here; git ignores them.
VAR_DIR = Path(os.environ.get("EXAMPLE_VAR_DIR", BASE_DIR / "var"))
VAR_DIR.mkdir(parents=True, exist_ok=True)

SECRET_KEY = "for an example on loopback only; a site that others can reach makes its own"  # noqa: S105
DEBUG = True
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_smtp_pool",
    "django_smtp_pool.dashboard",  # the pools as a live page in the admin
    "newsletter",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

# With the toolbar, each page shows the mail that its request has sent.
HAS_TOOLBAR = importlib.util.find_spec("debug_toolbar") is not None
if HAS_TOOLBAR:
    INSTALLED_APPS.append("debug_toolbar")
    MIDDLEWARE.insert(0, "debug_toolbar.middleware.DebugToolbarMiddleware")
    INTERNAL_IPS = ["127.0.0.1", "::1"]
    DEBUG_TOOLBAR_PANELS = [
        "django_smtp_pool.toolbar.MailPanel",
        "debug_toolbar.panels.timer.TimerPanel",
        "debug_toolbar.panels.request.RequestPanel",
        "debug_toolbar.panels.sql.SQLPanel",
        "debug_toolbar.panels.templates.TemplatesPanel",
    ]

# With prometheus_client, /metrics/ has the figures of the pools, for Prometheus to scrape.
HAS_METRICS = importlib.util.find_spec("prometheus_client") is not None
if HAS_METRICS:
    INSTALLED_APPS.append("django_smtp_pool.metrics.prometheus")

ROOT_URLCONF = "example.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": VAR_DIR / "example.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "static/"

# Mail. POOLED_BACKEND is what a project puts into its settings; the rest says where the mail server is.
POOLED_BACKEND = "django_smtp_pool.backend.PooledBackend"
STOCK_BACKEND = "django.core.mail.backends.smtp.EmailBackend"

# The environment can set another SMTP backend instead, such as Django's, to see the difference.
SITE_BACKEND = os.environ.get("EXAMPLE_EMAIL_BACKEND", POOLED_BACKEND)
SMTP_HOST = os.environ.get("EXAMPLE_SMTP_HOST", "localhost")
SMTP_PORT = int(os.environ.get("EXAMPLE_SMTP_PORT", "1025"))
SMTP_OPTIONS = {"host": SMTP_HOST, "port": SMTP_PORT}
# The whole dialogue with the server goes to the log and to the toolbar, which makes sending slower.
SMTP_DEBUG = bool(os.environ.get("EXAMPLE_SMTP_DEBUG"))

if django.VERSION >= (6, 1):
    MAILERS = {
        "default": {
            "BACKEND": SITE_BACKEND,
            "OPTIONS": {**SMTP_OPTIONS, "debug": True} if SMTP_DEBUG else SMTP_OPTIONS,
        },
        # Django's own backend, for the comparison at the end of `manage.py newsletter`.
        "stock": {"BACKEND": STOCK_BACKEND, "OPTIONS": {**SMTP_OPTIONS, "timeout": 30}},
    }
else:
    EMAIL_BACKEND = SITE_BACKEND
    EMAIL_HOST = SMTP_HOST
    EMAIL_PORT = SMTP_PORT
    EMAIL_TIMEOUT = 30
    EMAIL_POOL_DEBUG = SMTP_DEBUG

DEFAULT_FROM_EMAIL = "The Allotment Letter <letter@example.com>"
CONTACT_EMAIL = "editors@example.com"
