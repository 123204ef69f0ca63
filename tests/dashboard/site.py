"""A site with the admin and the live page, in this process, for the time of a test module."""

from contextlib import contextmanager

from django.contrib.auth import get_user_model
from django.core.checks.registry import registry as checks
from django.core.management import call_command
from django.test import override_settings

PAGE = "/admin/smtp_pool/pool/"
PASSWORD = "correct horse battery staple"
SETTINGS = {
    "INSTALLED_APPS": [
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "django.contrib.staticfiles",
        "django_smtp_pool",
        "django_smtp_pool.dashboard",
    ],
    "MIDDLEWARE": [
        "tests.dashboard.site.strict",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    "TEMPLATES": [
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
    ],
    "ROOT_URLCONF": "tests.dashboard.urls",
    "SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies",
    "MESSAGE_STORAGE": "django.contrib.messages.storage.cookie.CookieStorage",
    "PASSWORD_HASHERS": ["django.contrib.auth.hashers.MD5PasswordHasher"],
    "STATIC_URL": "/static/",
    "MEDIA_URL": "/media/",
    "ALLOWED_HOSTS": ["*"],
    "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'"
)


def strict(get_response):
    """Forbid everything that is inline or foreign."""

    def answer(request):
        response = get_response(request)
        response["Content-Security-Policy"] = POLICY
        return response

    return answer


@contextmanager
def checks_as_before():
    """Forget the system checks of apps that are installed meanwhile."""
    before = set(checks.registered_checks), set(checks.deployment_checks)
    yield
    checks.registered_checks, checks.deployment_checks = before


@contextmanager
def site(blocker):
    """Have the site's apps and tables, with the users manager, staff, reader and superuser."""
    with checks_as_before(), override_settings(**SETTINGS), blocker.unblock():
        from django.contrib.auth.models import Permission  # which needs the app

        call_command("migrate", verbosity=0, run_syncdb=True)
        users = get_user_model().objects
        if not users.exists():
            users.create_user("reader", password=PASSWORD)
            users.create_user("staff", password=PASSWORD, is_staff=True)
            manager = users.create_user("manager", password=PASSWORD, is_staff=True)
            manager.user_permissions.add(Permission.objects.get(codename="manage_pool"))
            users.create_superuser("superuser", password=PASSWORD)
        yield
