"""Settings from the documentation, loaded into the test's project."""

import re
from types import SimpleNamespace

from django.conf import settings as django_settings

from django_smtp_pool import conf


class Environment(dict):
    """Has every variable."""

    def __missing__(self, name):
        assert re.fullmatch(r"[A-Z]+(_[A-Z0-9]+)+", name)
        return "redis://redis.example.com" if name == "REDIS_URL" else "socks5://p:1" if "PROXY" in name else "secret"


FAKE_OS = SimpleNamespace(environ=Environment())


def loaded(code, *names):
    """Run settings; return what they define in capitals, and these names."""
    code = re.sub(r"(?m)^import os$", "", code)
    defined = {"os": FAKE_OS}
    exec(code, defined)
    return {name: value for name, value in defined.items() if name.isupper() or name in names}


def make_settings(settings, given):
    """Replace the project's settings of mail."""
    for name in ("MAILERS", "EMAIL_BACKEND", *(option.setting for option in conf.OPTIONS)):
        if django_settings.is_overridden(name):
            delattr(settings, name)
    for name, value in given.items():
        if name == "MAILERS" or name.startswith("EMAIL_"):
            setattr(settings, name, value)
