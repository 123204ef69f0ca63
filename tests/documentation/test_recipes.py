"""The recipes of the documentation, used as their readers use them."""

import itertools
import json
import logging
import re
from types import SimpleNamespace

import pytest
from django.core import mail

from django_smtp_pool import DeliveryUnknown
from tests.backend.project import mailer, project
from tests.documentation.blocks import ROOT, blocks
from tests.documentation.test_pages import _modules_of_the_reader, _signals_as_before  # noqa: F401 - fixtures
from tests.mailing import message
from tests.servers import Fault, FaultServer, faults

NUMBERS = itertools.count()  # Celery knows its tasks by the names of their modules

pytestmark = pytest.mark.filterwarnings("ignore:The EMAIL_", "ignore:get_connection", "ignore:Django 2028")


@pytest.fixture(name="server")
def fixture_server(settings):
    with FaultServer() as running:
        project(settings, running)
        yield running


def recipe(page, name, *, containing=""):
    """Return what a block of a page defines by that name."""
    (code,) = [
        block.code
        for block in blocks(f"docs/{page}.rst")
        if re.search(rf"(?m)^(?:async )?(?:def|class) {name}\b", block.code) and containing in block.code
    ]
    names = {"__name__": f"recipe_{next(NUMBERS)}", "send_mail": mail.send_mail}
    exec(code, names)
    return names[name]


def test_a_django_task_sends(settings, server):
    pytest.importorskip("django.tasks", reason="Django 6.0 brings tasks")
    settings.TASKS = {"default": {"BACKEND": "django.tasks.backends.immediate.ImmediateBackend"}}
    result = recipe("background-tasks", "send_receipt", containing="django.tasks").enqueue("ann@example.com", 4711)
    assert result.status == "SUCCESSFUL"
    assert [each.recipients for each in server.accepted] == [("ann@example.com",)]


@pytest.fixture(name="celery_task")
def fixture_celery_task():
    celery = pytest.importorskip("celery", reason="Celery is not installed")
    app = celery.Celery("tests", set_as_current=True)
    app.conf.update(task_always_eager=True, task_eager_propagates=False)
    task = recipe("background-tasks", "send_receipt", containing="celery")
    task.bind(app)
    return task


def test_a_celery_task_sends(server, celery_task):
    assert celery_task.apply(args=("ann@example.com", 4711)).state == "SUCCESS"
    assert len(server.accepted) == 1


def test_a_celery_task_does_not_send_again_what_may_have_arrived(server, celery_task):
    server.fault = Fault(at="end", do=faults.reset)
    result = celery_task.apply(args=("ann@example.com", 4711))
    assert isinstance(result.result, DeliveryUnknown)
    assert len(server.commands("MAIL")) == 1


def test_sentry_groups_by_cause(server):
    from django_smtp_pool.core.errors import Failure

    group = recipe("sentry", "group_mail_errors")
    server.fault = Fault(at="rcpt", do=faults.reply("550 5.1.1 No such user"))
    with pytest.raises(Failure) as caught:
        message().send()
    event = group({}, {"exc_info": (caught.type, caught.value, caught.tb)})
    assert event["fingerprint"] == ["smtp", "RecipientsRefused", "RCPT", "550"]
    assert event["tags"] == {"mail.outcome": "refused"}
    assert group({}, {}) == {}


def test_the_health_check_answers(server):
    message().send()
    response = recipe("monitoring", "mail_health")(SimpleNamespace())
    assert response.status_code == 200
    assert json.loads(response.content) == {"open": 1, "busy": 0, "waiting": 0}


def test_metrics_count_every_outcome(server, caplog):
    receiver = recipe("monitoring", "count")  # a signal holds its receivers weakly
    with caplog.at_level(logging.INFO, logger="metrics"):
        message().send()
    assert [record.message.split()[0] for record in caplog.records if record.name == "metrics"] == ["mail.accepted"]
    assert receiver.__name__ == "count"


def test_a_mailing_counts_what_was_accepted(server):
    server.fault = Fault(at="rcpt", do=faults.reply("550 5.1.1 No such user"))
    sent = recipe("mailings", "send_newsletter")(mailer(), [message(1), message(2), message(3)])
    assert sent == 2
    assert len(server.accepted) == 2


def test_the_caller_learns_that_a_message_may_have_been_delivered(server, capsys):
    server.fault = Fault(at="end", do=faults.reset)
    recipe("errors", "send")(message())
    assert "may have been delivered; look for <" in capsys.readouterr().out


def test_the_table_of_connections_is_divided_right():
    text = (ROOT / "docs" / "choosing-connections.rst").read_text(encoding="utf-8")
    table = text.split(".. list-table::", 1)[1].split("\n\n\n", 1)[0]
    rows = [re.findall(r"- (\S.*)$", row, re.MULTILINE) for row in table.split("\n   * ")[1:]]
    limits = [int(cell.removeprefix("Limit ")) for cell in rows[0][1:]]
    for processes, *cells in rows[1:]:
        assert cells == [str(limit // int(processes)) if limit >= int(processes) else "none" for limit in limits]
