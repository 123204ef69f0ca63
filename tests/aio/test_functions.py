"""`asend_mail()` and `asend_mass_mail()`: Django's functions, in an event loop."""

import asyncio
import inspect
import threading

import django
import pytest
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend

from django_smtp_pool.aio import asend_mail, asend_mass_mail
from tests.mailing import backend_for

MAILERS = django.VERSION >= (6, 1)
ONE = ("Hello", "How are you?", "from@example.com", ["to@example.com"])


@pytest.fixture(name="mailer")
def fixture_mailer(server, settings):
    """Make the server the default mailer's."""
    backend = "django_smtp_pool.backend.PooledBackend"
    if MAILERS:
        options = {"host": server.host, "port": server.port}
        settings.MAILERS = {
            "default": {"BACKEND": backend, "OPTIONS": options},
            "other": {"BACKEND": backend, "OPTIONS": options},
        }
    else:
        settings.EMAIL_BACKEND = backend
        settings.EMAIL_HOST, settings.EMAIL_PORT = server.host, server.port
    return server


def test_one(mailer):
    assert asyncio.run(asend_mail(*ONE, html_message="<p>How are you?</p>")) == 1
    assert b"text/html" in mailer.accepted[0].content


def test_nobody_to_send_to(mailer):
    assert asyncio.run(asend_mail("Hello", "How are you?", None, [])) == 0
    assert mailer.connections == 0


def test_many(mailer):
    assert asyncio.run(asend_mass_mail([ONE, ONE])) == 2
    assert len(mailer.accepted) == 2


@pytest.mark.skipif(not MAILERS, reason="MAILERS came with Django 6.1")
def test_by_the_name_of_a_mailer(mailer):
    assert asyncio.run(asend_mail(*ONE, using="other")) == 1
    with pytest.raises(TypeError, match="fail_silently cannot be used"):
        asyncio.run(asend_mail(*ONE, using="other", fail_silently=True))
    with pytest.raises(TypeError, match="not compatible"):
        asyncio.run(asend_mass_mail([ONE], using="other", connection=backend_for(mailer)))


@pytest.mark.skipif(MAILERS, reason="MAILERS came with Django 6.1")
def test_a_mailer_wants_a_newer_django(mailer):
    with pytest.raises(TypeError, match=r"Django 6\.1"):
        asyncio.run(asend_mail(*ONE, using="other"))
    assert mailer.connections == 0


def test_by_a_connection(server):
    assert asyncio.run(asend_mail(*ONE, connection=backend_for(server))) == 1
    assert asyncio.run(asend_mass_mail([ONE], connection=backend_for(server))) == 1


class Elsewhere(EmailBackend):
    """A backend that knows nothing of loops."""

    def send_messages(self, messages):
        """Take note of the thread."""
        self.seen = threading.get_ident()
        return super().send_messages(messages)


def test_by_a_backend_without_asend_messages():
    mail.outbox = []
    backend = Elsewhere(alias="test") if MAILERS else Elsewhere()
    assert asyncio.run(asend_mail(*ONE, connection=backend)) == 1
    assert backend.seen != threading.get_ident()


@pytest.mark.parametrize(("ours", "djangos"), [(asend_mail, mail.send_mail), (asend_mass_mail, mail.send_mass_mail)])
def test_the_arguments_are_djangos(ours, djangos):
    theirs = set(inspect.signature(djangos).parameters)
    assert set(inspect.signature(ours).parameters) - {"using"} == theirs - {"using"}
