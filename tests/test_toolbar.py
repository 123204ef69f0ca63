"""The panel for django-debug-toolbar, in a site with the real toolbar."""

import asyncio
import re
import subprocess
import sys
from contextlib import suppress

import pytest
from django.http import HttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import include, path

from django_smtp_pool import registry as registries
from django_smtp_pool.aio import asend_mail
from tests.backend.project import mailer, project
from tests.dashboard.site import checks_as_before
from tests.mailing import message
from tests.servers import FaultServer

pytest.importorskip("debug_toolbar", reason="the extra test brings it")

SETTINGS = {
    "DEBUG": True,
    "STATIC_URL": "/static/",
    "MIDDLEWARE": ["debug_toolbar.middleware.DebugToolbarMiddleware"],
    "TEMPLATES": [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
    "ROOT_URLCONF": __name__,
    "DEBUG_TOOLBAR_PANELS": ["django_smtp_pool.toolbar.MailPanel"],
    "DEBUG_TOOLBAR_CONFIG": {"SHOW_TOOLBAR_CALLBACK": lambda request: True, "IS_RUNNING_TESTS": False},
}
APPS = ["django.contrib.staticfiles", "debug_toolbar", "django_smtp_pool"]
PAGE = "<html><body>Done</body></html>"
to_send = []


def send(request):
    """Send mail, whatever becomes of it."""
    for each in to_send:
        with suppress(Exception):
            mailer().send_messages([each])
    return HttpResponse(PAGE)


async def asend(request):
    """Send mail in the event loop."""
    await asend_mail("A message by asyncio", "Hello", "from@example.com", ["to@example.com"])
    return HttpResponse(PAGE)


def nothing(request):
    """Send no mail."""
    return HttpResponse(PAGE)


urlpatterns = [
    path("send/", send),
    path("asend/", asend),
    path("nothing/", nothing),
]


@pytest.fixture(autouse=True)
def _site():
    to_send.clear()
    # The toolbar reads the other settings when it is installed.
    with checks_as_before(), override_settings(**SETTINGS), override_settings(INSTALLED_APPS=APPS):
        urlpatterns[3:] = [path("__debug__/", include("debug_toolbar.urls"))]  # which needs the app
        yield
    from django_smtp_pool import signals

    for signal in (signals.message_sent, signals.message_failed):
        signal.disconnect(dispatch_uid="django_smtp_pool.toolbar")


def panel(answer, client=None):
    """Return what the toolbar's bar and our panel show for a response."""
    bar = answer.content.decode()
    found = re.search(r'data-(?:request|store)-id="([^"]+)"', bar)
    query = {"request_id": found[1], "store_id": found[1], "panel_id": "MailPanel"}
    content = (client or Client()).get("/__debug__/render_panel/", query).json()["content"]
    return " ".join(re.sub(r"<[^>]*>", " ", bar).split()), content


def cells(content):
    """Return the rows of the table."""
    rows = re.findall(r"(?s)<tr>(.*?)</tr>", content)[1:]
    return [re.findall(r"(?s)<td>(.*?)</td>", row) for row in rows]


def test_the_mail_of_a_request(settings, server):
    project(settings, server)
    to_send[:] = [message(1), message(2)]
    bar, content = panel(Client().get("/send/"))
    assert re.search(r"2 messages, \d+ ms", bar)
    first, second = cells(content)
    assert first[:4] == ["Message 1", "to@example.com", "accepted", "new"]
    assert second[:4] == ["Message 2", "to@example.com", "accepted", "reused"]
    assert float(first[5].removesuffix(" ms")) > 0
    assert second[5] == "0.0 ms"
    assert float(second[6].removesuffix(" ms")) > 0
    assert first[7].startswith("250 2.0.0 ")
    assert "The option <code>debug</code> is off" in content


def test_a_refusal_in_the_words_of_the_server(settings, server):
    project(settings, server)
    server.refuse_recipients = {"to@example.com": "550 5.1.1 <b>Nobody</b>"}
    to_send[:] = [message(1, subject="<i>Hello</i>")]
    _, content = panel(Client().get("/send/"))
    ((subject, _, outcome, *_, words),) = cells(content)
    assert (subject, outcome, words) == (
        "&lt;i&gt;Hello&lt;/i&gt;",
        "refused",
        "550 5.1.1 &lt;b&gt;Nobody&lt;/b&gt;",
    )


def test_a_message_that_no_connection_carried(settings, server):
    project(settings, server)
    to_send[:] = [message(1, to=["not an address"])]
    _, content = panel(Client().get("/send/"))
    ((_, _, outcome, connection, *_),) = cells(content)
    assert (outcome, connection) == ("not sent", "none")


def test_the_dialogue_without_secrets(settings):
    with FaultServer(users={"ann": "open sesame"}, require_auth=True) as server:
        project(settings, server, username="ann", password="open sesame", debug=True)
        to_send[:] = [message(1)]
        _, content = panel(Client().get("/send/"))
        registries.reset()
    lines = re.search(r"(?s)<pre>(.*?)</pre>", content)[1]
    assert re.search(r"(?m)^#\d+ &lt; 220 fault.test ESMTP$", lines)
    assert re.search(r"(?m)^#\d+ &gt; MAIL FROM:&lt;from@example.com&gt;", lines)
    assert "AUTH" in lines
    assert "sesame" not in content
    assert "AGFubgBvcGVu" not in content, "nor in base64"


def test_each_request_has_its_own(settings, server):
    project(settings, server)
    to_send[:] = [message(1)]
    _, content = panel(Client().get("/nothing/"))
    assert "This request sent no mail through a pool." in content
    Client().get("/send/")
    mailer().send_messages([message(2)])
    _, content = panel(Client().get("/send/"))
    assert len(cells(content)) == 1


def test_mail_of_an_asynchronous_view(settings, server):
    project(settings, server)
    answer = asyncio.run(AsyncClient().get("/asend/"))
    _, content = panel(answer)
    assert cells(content)[0][:3] == ["A message by asyncio", "to@example.com", "accepted"]


def test_more_messages_than_one_wants_to_read(settings, server, monkeypatch):
    from django_smtp_pool import toolbar

    monkeypatch.setattr(toolbar, "MOST_MESSAGES", 2)
    project(settings, server)
    to_send[:] = [message(n) for n in range(5)]
    bar, content = panel(Client().get("/send/"))
    assert "5 messages" in bar
    assert "And 3 more." in content


def test_without_the_toolbar_the_error_says_what_to_install():
    script = "import sys; sys.modules['debug_toolbar'] = None; import django_smtp_pool.toolbar"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert "pip install 'django-smtp-pool[toolbar]'" in done.stderr.splitlines()[-1]
