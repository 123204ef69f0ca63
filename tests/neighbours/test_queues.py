"""Under the packages that keep mail in the database and send it by a command: each message leaves once.

None of them is told anything but the name of the backend. Their commands are ended in the middle of the work.
"""

import signal

import django
import pytest

from tests.neighbours.available import need_package
from tests.neighbours.processes import python
from tests.neighbours.project.pool import MAX_CONNECTIONS
from tests.servers import Fault, faults

MESSAGES = 500
BATCH = 100  # of django-post-office, by its settings

# django-mailer and django-email-relay ask for a backend by its dotted path. Under MAILERS (Django 6.1) that is an
# error; with the EMAIL_* settings Django 6.1 warns of them, and so warnings are errors on the older ones only.
HAS_MAILERS = django.VERSION >= (6, 1)
BY_PATH = pytest.param("EMAIL_BACKEND", id=f"django{django.VERSION[0]}.{django.VERSION[1]}-EMAIL_BACKEND")


def send_in_two_processes(project, ledger, loop, last_pass):
    """Kill a loop between two messages, and let another process send the rest."""
    project.enqueue(MESSAGES, strict=not HAS_MAILERS)
    with project.start(*python(*loop, strict=not HAS_MAILERS), name="loop") as process:
        ledger.wait_for_messages(MESSAGES // 3, process)
        ledger.hold("mail")  # whoever stands here has put down that the message before was sent
        ledger.wait_for_held(process)
        process.signal(signal.SIGTERM)
        process.assert_clean_end(status=-signal.SIGTERM)
    ledger.release()
    with project.start(*python(*last_pass, strict=not HAS_MAILERS), name="last") as process:
        process.assert_clean_end()
    ledger.assert_exactly_once(MESSAGES)
    ledger.assert_all_gone()
    assert ledger.connections == 2
    assert ledger.quits() == 1  # a signal that kills runs no exit handlers


@pytest.mark.parametrize("settings_used", [BY_PATH])
def test_django_mailer(settings_used, ledger, make_project):
    need_package("mailer", install="django-mailer")
    loop, last_pass = ["-m", "django", "runmailer"], ["-m", "django", "send_mail"]
    send_in_two_processes(make_project("settings_django_mailer"), ledger, loop, last_pass)


@pytest.mark.parametrize("settings_used", [BY_PATH])
def test_django_mailer_does_not_send_again_what_may_have_arrived(settings_used, ledger, make_project):
    need_package("mailer", install="django-mailer")
    project = make_project("settings_django_mailer")
    project.enqueue(1, strict=not HAS_MAILERS)
    ledger.fault = Fault(at="end", do=faults.reset)
    for name, *command in (("first", "send_mail"), ("later", "retry_deferred"), ("second", "send_mail")):
        with project.start(*python("-m", "django", *command, strict=not HAS_MAILERS), name=name) as process:
            assert process.wait() == 0, process.errors
    assert len(ledger.struck) == 1
    assert len(ledger.commands("MAIL")) == 1


@pytest.mark.skipif(django.VERSION >= (6, 0), reason="django-celery-email does not work on Django 6.0")
@pytest.mark.parametrize("settings_used", [BY_PATH])
def test_django_celery_email(settings_used, ledger, make_project):
    need_package("djcelery_email", install="django-celery-email")
    make_project("settings_celery_email").enqueue(50, strict=False)
    ledger.assert_exactly_once(50)
    ledger.assert_all_gone()
    assert ledger.connections <= MAX_CONNECTIONS


@pytest.mark.parametrize("settings_used", [BY_PATH])
def test_django_email_relay(settings_used, ledger, make_project):
    need_package("email_relay", install="django-email-relay")
    loop, last_pass = ["-m", "django", "runrelay"], ["-m", "tests.neighbours.project.relay_once"]
    send_in_two_processes(make_project("settings_email_relay"), ledger, loop, last_pass)


@pytest.mark.parametrize("processes", [1, 2])
def test_django_post_office(processes, ledger, make_project):
    need_package("post_office", install="django-post-office")
    project = make_project("settings_post_office")
    project.enqueue(MESSAGES)
    lock = project.directory / "post_office"
    command = ["-m", "django", "send_queued_mail", "--lockfile", lock, "--processes", processes]
    with project.start(*python(*command), name="command") as process:
        process.assert_clean_end()
    ledger.assert_exactly_once(MESSAGES)
    ledger.assert_all_gone()
    # Of one process five threads share the pool. Two are forked anew for each batch, and killed after it.
    forked = 1 if processes == 1 else processes * MESSAGES // BATCH
    assert forked <= ledger.connections <= forked * MAX_CONNECTIONS
    assert ledger.quits() == (ledger.connections if processes == 1 else 0)
