"""The page in the admin: who sees it, what it shows, and what its buttons do."""

import re
from contextlib import suppress

import pytest
from django.contrib import admin
from django.core.management import call_command
from django.test import Client

from django_smtp_pool.dashboard.apps import check_admin
from django_smtp_pool.dashboard.models import Pool
from django_smtp_pool.dashboard.processes import MOST_TRIES
from django_smtp_pool.dashboard.recorder import recorder
from django_smtp_pool.registry import registry
from django_smtp_pool.testing.server import faults
from tests.backend.project import HAS_MAILERS, mailer, project
from tests.core.fakes import in_thread, until
from tests.dashboard.site import PAGE
from tests.mailing import backend_for, message
from tests.servers import Fault, FaultServer


def send(server, *messages, **options):
    """Send messages through the process's own pools; what becomes of them is on the page."""
    with suppress(Exception):
        backend_for(server, **options).send_messages(list(messages or [message()]))
    server.settle()


def text_of(response):
    """Return what a reader sees, on one line."""
    assert response.status_code == 200
    page = re.sub(r"</?strong>", "", response.content.decode())
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


def number():
    """Return the number of the only pool."""
    (key,) = registry.open_pools()
    return recorder.watch(key).number


def press(client, button, **options):
    """Press a button of the only pool, as the page in this process has it."""
    return client.post(f"{PAGE}{number()}/{button}/?process={recorder.process}", **options)


# Who sees it


def test_the_admin_lists_it_and_nothing_else_about_it(visit):
    index = visit("staff").get("/admin/").content.decode()
    assert f'href="{PAGE}"' in index
    assert "SMTP pools" in index
    assert f"{PAGE}add/" not in index


def test_without_staff_status_there_is_only_the_login(visit):
    for client in (Client(), visit("reader")):
        response = client.get(PAGE)
        assert (response.status_code, response.url.split("?")[0]) == (302, "/admin/login/")


@pytest.mark.parametrize("name", ["manager", "superuser"])
def test_buttons_take_the_permission(visit, server, name):
    send(server)
    assert f'id="drain-{number()}"' in visit(name).get(PAGE).content.decode()
    assert "<form" not in visit("staff").get(f"{PAGE}?part=1").content.decode()


@pytest.mark.parametrize("button", ["verify", "drain"])
def test_a_button_is_refused_without_the_permission(visit, server, button):
    send(server)
    connections = server.connections
    assert press(visit("staff"), button).status_code == 403
    assert press(Client(), button).url.startswith("/admin/login/")
    assert (server.connections, server.idle_now) == (connections, 1)


@pytest.mark.parametrize("button", ["verify", "drain"])
def test_a_button_takes_post_and_the_token(visit, server, button):
    send(server)
    address = f"{PAGE}{number()}/{button}/"
    assert visit("manager").get(address).status_code == 405
    assert visit("manager", enforce_csrf_checks=True).post(address).status_code == 403
    assert server.connections == 1


# What it shows


def test_a_process_that_has_sent_nothing(visit):
    assert "This process has no pool yet." in text_of(visit("staff").get(PAGE))


def test_a_pool_with_its_connections_and_counts(visit, server):
    send(server, message(1), message(2), message(3), batch_connections=1)
    seen = text_of(visit("staff").get(PAGE))
    assert f"{server.host}:{server.port}" in seen
    assert "1 idle, at most 5. No message waits." in seen
    assert re.search(r"idle #\d+ \d+ (ms|s) 3 msg", seen)
    assert "accepted 3" in seen
    assert "Messages per second" in seen


@pytest.mark.skipif(not HAS_MAILERS, reason="MAILERS came with Django 6.1")
def test_the_mailers_of_a_pool_are_named(visit, settings, server):
    project(settings, server)
    broken = {"BACKEND": "no.such.Backend", "OPTIONS": {}}
    settings.MAILERS = {**settings.MAILERS, "news": settings.MAILERS["default"], "broken": broken}
    mailer().send_messages([message()])
    assert f"{server.host}:{server.port} (default, news)" in text_of(visit("staff").get(PAGE))


def test_busy_connections_and_messages_that_wait(visit, server):
    server.hold("end")
    backend = backend_for(server, max_connections=2)
    workers = [in_thread(backend.send_messages, [message(n)]) for n in range(3)]
    assert server.wait_for(lambda: server.held == 2)
    until(lambda: backend.pool.stats().waiting == 1)
    seen = text_of(visit("staff").get(PAGE))
    server.release()
    assert [worker.join() for worker in workers] == [1, 1, 1]
    assert "2 busy, at most 2. 1 waiting." in seen


def test_two_accounts_on_one_server_have_a_history_each(visit):
    with FaultServer(users={"ann": "one", "bob": "two"}, require_auth=True) as server:
        send(server, username="ann", password="one")
        send(server, username="bob", password="wrong-secret")
        page = visit("staff").get(PAGE).content.decode()
    assert "as ann" in page
    assert "wrong-secret" not in page
    first, second = sorted(re.findall(r"(?s)<section.*?</section>", page), key=lambda section: "as bob" in section)
    assert "Last failures" not in first
    assert "535 5.7.8" in second


def test_failures_in_the_words_of_the_server(visit, server):
    server.fault = Fault(at="end", do=faults.reply("550 5.7.1 <b>Spam</b> from ann@example.com"), times=None)
    send(server, message(1), message(2))
    page = visit("staff").get(PAGE).content.decode()
    words = "<code>550 5.7.1 &lt;b&gt;Spam&lt;/b&gt; from ann@example.com</code>"
    assert re.search(rf"<li><span>[\d:]+ <b>refused</b>, 2 times</span> {words}</li>", page)
    assert "to@example.com" not in page


def test_some_recipients_refused(visit, server):
    server.refuse_recipients = {"bob@example.com": "550 5.1.1 No such user"}
    send(server, message(to=["ann@example.com", "bob@example.com"]))
    page = visit("staff").get(PAGE).content.decode()
    assert "<b>partly refused</b></span> <code>550 5.1.1 No such user</code>" in page
    assert "bob@example.com" not in page


def test_a_server_that_is_not_there(visit, server):
    server.refuse()
    send(server, max_requeues=0)
    page = visit("staff").get(PAGE).content.decode()
    assert "<b>no connection</b>" in page
    assert "Connection refused" in page


def test_what_was_learnt_and_for_how_long(visit, server):
    server.fault = Fault(at="mail", do=faults.reply("454 4.7.0 Try again later"), times=1)
    send(server, max_requeues=0)
    seen = text_of(visit("staff").get(PAGE))
    assert re.search(
        r"pause (for \d+ m?s more|until the next message): new messages wait 1 s: 454 4.7.0 Try again", seen
    )


def test_rate_limits_and_what_is_left(visit, server):
    send(server, rate_limits=["30/minute", "100/day recipients"])
    page = visit("staff").get(PAGE)
    assert "29 left of 30/minute" in text_of(page)
    assert '<meter min="0" max="100" value="99" aria-label="100/day recipients">' in page.content.decode()


def test_numbers_in_the_markup_are_not_localized(visit, settings, server):
    settings.LANGUAGE_CODE, settings.USE_THOUSAND_SEPARATOR = "de", True
    send(server, rate_limits=["10000/minute"])
    assert '<meter min="0" max="10000" value="9999"' in visit("staff").get(PAGE).content.decode()


# The buttons


def test_verify_shows_each_step(visit, server):
    send(server)
    response = press(visit("manager"), "verify", follow=True)
    seen = text_of(response)
    assert f"{server.host}:{server.port} works as configured." in seen
    assert "ok greeting: 220 fault.test ESMTP" in seen
    assert server.connections == 2
    assert response.redirect_chain[-1][0] == f"{PAGE}?process={recorder.process}#pool-{number()}"


def test_verify_shows_the_step_that_failed_and_what_to_do(visit, server):
    send(server)
    server.fault = Fault(at="banner", do=faults.reply_and_close("554 5.7.1 Your address is blocked"))
    seen = text_of(press(visit("manager"), "verify", follow=True))
    assert "does not work as configured" in seen
    assert "FAIL greeting" in seen
    assert "Your address is blocked" in seen


def test_drain_closes_idle_connections_and_refuses_nothing(visit, server):
    send(server)
    seen = text_of(press(visit("manager"), "drain", follow=True))
    assert "closes as soon as it carries no message" in seen
    assert server.wait_for(lambda: not server.open_now)
    send(server)
    assert (server.connections, len(server.accepted)) == (2, 2)


def test_a_pool_that_has_gone(visit):
    seen = text_of(visit("manager").post(f"{PAGE}999999/drain/?process={recorder.process}", follow=True))
    assert "Nothing was done: this pool is no longer in use." in seen


# Several processes


def test_it_says_which_process_it_shows(visit):
    seen = text_of(visit("staff").get(PAGE))
    assert f"This is process {recorder.pid} on {recorder.host}, recorded since" in seen
    assert "Each process of the site has separate pools." in seen


def test_another_process_sends_the_browser_back_until_it_gives_up(visit):
    client, address, hops = visit("staff"), f"{PAGE}?process=1-abc", 0
    while (response := client.get(address)).status_code == 307:
        address, hops = response.url, hops + 1
        assert address.startswith(f"{PAGE}?process=1-abc&tries={hops}")
    assert hops == MOST_TRIES
    assert "The process that you viewed has ended" in text_of(response)


def test_a_button_for_another_process_does_nothing_here(visit, server):
    send(server)
    client, address = visit("manager"), f"{PAGE}{number()}/drain/?process=1-abc"
    assert client.post(address).status_code == 307  # the browser posts again
    seen = text_of(client.post(f"{address}&tries={MOST_TRIES}", follow=True))
    assert f"Nothing was done: another process of the site answered, {recorder.pid}." in seen
    assert server.idle_now == 1


@pytest.mark.parametrize("tries", ["x", "-1", "99999999999999999999", "\u0663"])
def test_a_count_that_makes_no_sense_ends_the_search(visit, tries):
    response = visit("staff").get(PAGE, {"process": "1-abc", "tries": tries})
    assert response.status_code in {200, 307}
    assert response.status_code == 200 or response.url.endswith("tries=4")


# The app


def test_the_database_is_never_asked(visit, capsys):
    assert not Pool.objects.exists()
    call_command("dumpdata", "smtp_pool")
    assert capsys.readouterr().out.strip() == "[]"
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


def test_checks(settings):
    call_command("check", fail_level="WARNING")
    assert admin.site.is_registered(Pool)
    assert check_admin(None) == []
    settings.INSTALLED_APPS = ["django_smtp_pool.dashboard"]
    assert [each.id for each in check_admin(None)] == ["smtp_pool.E006"]
