"""`manage.py smtp_pool`."""

import io
import json
import os
import re
import subprocess
import sys
from email import message_from_bytes
from pathlib import Path

import pytest
from django.core.mail import EmailMessage
from django.core.management import CommandError, call_command

from django_smtp_pool.services import all_services
from tests.backend.project import HAS_MAILERS, mailer, project
from tests.servers import Fault, faults

pytestmark = pytest.mark.filterwarnings("ignore:The EMAIL_", "ignore:get_connection", "ignore:Django 2028")


def run(*arguments):
    out = io.StringIO()
    call_command("smtp_pool", *arguments, stdout=out)
    return out.getvalue()


def test_it_lists_every_provider():
    lines = run("services").splitlines()
    assert [line.split("  ")[0] for line in lines] == [service.name for service in all_services()]


def test_it_searches():
    assert run("services", "office", "365") == (
        "Outlook365  smtp.office365.com:587 STARTTLS; Microsoft 365 / Office 365; also Office 365, Microsoft 365, "
        "outlook.office365.com; max_connections=3; rate_limit=30; rate_delta=60\n"
    )


def test_nothing_found_is_an_error():
    with pytest.raises(CommandError, match="no provider matches 'no such thing'"):
        run("services", "no", "such", "thing")


def test_providers_as_json():
    assert [each["name"] for each in json.loads(run("services", "office", "365", "--json"))] == ["Outlook365"]


def test_without_a_subcommand_it_shows_help_with_examples():
    text = run()
    assert "manage.py smtp_pool verify --to me@example.com" in text
    assert all(re.search(rf"(?m)^    {tool} ", text) for tool in ("verify", "send", "services", "stats"))


@pytest.mark.skipif(not HAS_MAILERS, reason="MAILERS came with Django 6.1")
@pytest.mark.parametrize("tool", [("verify",), ("stats",), ("send", "a@example.com")])
def test_an_unknown_alias_lists_those_that_there_are(settings, server, tool):
    project(settings, server)
    settings.MAILERS = {**settings.MAILERS, "bulk": settings.MAILERS["default"]}
    with pytest.raises(CommandError) as caught:
        run(*tool, "--using", "blk")
    assert str(caught.value) == "there is no mailer blk; MAILERS has: default, bulk"


@pytest.mark.skipif(HAS_MAILERS, reason="Django 6.1 has MAILERS")
def test_an_alias_without_mailers():
    with pytest.raises(CommandError, match=r"there is no mailer 'blk': Django [56].* has no MAILERS"):
        run("verify", "--using", "blk")


def test_the_figures_are_those_of_this_process(settings, server):
    project(settings, server)
    mailer().send_messages([EmailMessage("subject", "body", to=["a@example.com"])])
    text = run("stats")
    assert re.search(r"messages_accepted +1\n", text)
    assert f"this command's own process ({os.getpid()})" in text
    figures = json.loads(run("stats", "--json"))
    assert figures["process"] == os.getpid()
    assert figures["messages_accepted"] == 1
    assert figures["server"] == f"127.0.0.1:{server.port}"


def test_a_test_message_with_everything(settings, server, tmp_path):
    server.extensions = [*server.extensions, "DSN", "REQUIRETLS"]
    project(settings, server)
    (tmp_path / "figures.csv").write_text("a;b")
    out = run(
        *("send", "a@example.com", "b@example.com", "--cc", "c@example.com", "--bcc", "d@example.com"),
        *("--from", "me@example.com", "--subject", "Hello", "--body", "plain", "--html", "<p>rich</p>"),
        *("--header", "X-Test: yes", "--attach", str(tmp_path / "figures.csv"), "--dsn", "failure,delay"),
    )
    (message,) = server.accepted
    assert message.sender == "me@example.com"
    assert message.recipients == tuple(f"{name}@example.com" for name in "abcd")
    assert message.rcpt_parameters["a@example.com"][0] == "NOTIFY=FAILURE,DELAY"
    content = message_from_bytes(message.content)
    assert (content["Subject"], content["X-Test"], content["Bcc"]) == ("Hello", "yes", None)
    assert [part.get_filename() for part in content.walk() if part.get_filename()] == ["figures.csv"]
    assert [part.get_content_type() for part in content.walk()][2:4] == ["text/plain", "text/html"]
    assert f"queued as {message.queue_id}" in out


def test_a_test_message_as_json(settings, server):
    server.refuse_recipients = {"no@example.com": "550 5.1.1 no such user"}
    project(settings, server)
    status = json.loads(run("send", "a@example.com", "no@example.com", "--json"))
    assert (status["ok"], status["outcome"], status["attempts"]) == (True, "accepted", 1)
    assert status["recipients"]["no@example.com"] == {"outcome": "refused", "reply": "550 5.1.1 no such user"}


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_test_message_that_is_refused(settings, server, as_json):
    server.fault = Fault(at="end", do=faults.code_5xx)
    project(settings, server)
    out = io.StringIO()
    with pytest.raises(CommandError, match=r"refused: \(554, b'5.7.1 Not this one'\)"):
        call_command("smtp_pool", "send", "a@example.com", *as_json, stdout=out)
    assert "554 5.7.1 Not this one" in out.getvalue()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--header", "nonsense"], "--header takes NAME:VALUE"),
        (["--attach", "no-such-file.pdf"], "no-such-file.pdf"),
        (["--dsn", "tomorrow"], "tomorrow"),
    ],
)
def test_a_test_message_that_cannot_be_made(settings, server, options, problem):
    project(settings, server)
    with pytest.raises(CommandError, match=problem):
        run("send", "a@example.com", *options)
    assert not server.connections


PROJECT = """
import django
SECRET_KEY = "x"
INSTALLED_APPS = ["django_smtp_pool"]
DEFAULT_FROM_EMAIL = "me@example.com"
BACKEND = "django_smtp_pool.backend.PooledBackend"
if django.VERSION >= (6, 1):
    MAILERS = {{"default": {{"BACKEND": BACKEND, "OPTIONS": {{"host": "127.0.0.1", "port": {port}}}}}}}
else:
    EMAIL_BACKEND, EMAIL_HOST, EMAIL_PORT = BACKEND, "127.0.0.1", {port}
"""


@pytest.mark.parametrize(
    ("arguments", "shown", "code"),
    [
        ([], "examples:", 0),
        (["verify"], "ok    QUIT", 0),
        (["send", "a@example.com"], "accepted  a@example.com", 0),
        (["send", "no@example.com"], "refused   no@example.com  550 no", 1),
        (["services", "gmail.com"], "Gmail", 0),
        (["stats"], "max_connections", 0),
    ],
)
def test_in_a_project(tmp_path, server, arguments, shown, code):
    server.refuse_recipients = {"no@example.com": "550 no"}
    (tmp_path / "project.py").write_text(PROJECT.format(port=server.port))
    root = Path(__file__).parents[2]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "project", "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"}
    done = subprocess.run(
        [sys.executable, "-m", "django", "smtp_pool", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, shown in done.stdout) == (code, True), done
