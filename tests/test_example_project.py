"""The example site, run as its users run it: in processes of its own."""

import fcntl
import importlib.util
import mailbox
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import textwrap
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "example_project"

LETTERS = 104  # more than max_messages, so that one connection is not enough


@pytest.fixture(name="var", scope="module")
def fixture_var(tmp_path_factory):
    """Give the site an empty directory for its database and mailboxes, as in a fresh clone."""
    return tmp_path_factory.mktemp("var")


def environment(var):
    """Return our environment, without what others may have set for the site, and with its directory.

    In Python's development mode asyncio would report on standard error what took it long on a busy machine.
    """
    foreign = ("DJANGO_", "EXAMPLE_", "PYTHONDEVMODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    path = os.pathsep.join(map(str, [ROOT, EXAMPLE]))
    return {**kept, "PYTHONPATH": path, "EXAMPLE_VAR_DIR": str(var)}


def python(var, *args):
    """Run Python in the site's place; warnings are errors there too."""
    command = [sys.executable, "-W", "error", *map(str, args)]
    return subprocess.run(command, env=environment(var), capture_output=True, text=True, timeout=60)


def manage(var, *args):
    return python(var, EXAMPLE / "manage.py", *args)


def in_site(var, code):
    """Run code in the configured site and return what it printed."""
    script = "import os, django\nos.environ['DJANGO_SETTINGS_MODULE'] = 'example.settings'\ndjango.setup()\n"
    done = python(var, "-c", script + textwrap.dedent(code))
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(name="migrated", scope="module")
def fixture_migrated(tmp_path_factory):
    """Make an empty database, once."""
    directory = tmp_path_factory.mktemp("migrated")
    in_site(directory, "from django.core.management import call_command\ncall_command('migrate', verbosity=0)\n")
    return directory / "example.sqlite3"


@pytest.fixture(name="site")
def fixture_site(migrated, tmp_path):
    """Give a test a directory for the site with an empty database in it, which saves the time to migrate."""
    shutil.copy(migrated, tmp_path)
    return tmp_path


@pytest.fixture(name="newsletter", scope="module")
def fixture_newsletter(var):
    """Send the newsletter, once for all tests."""
    return manage(var, "newsletter", f"--count={LETTERS}", "--delay=0", "--rounds=1")


def letters_in(mbox):
    return mbox.read_bytes().count(b"\nMessage-ID: ") if mbox.exists() else 0


def rows(output):
    """Return the table as {label: [cells]}."""
    found = re.findall(r"^(\S.*?)  +(\d[\d.]*(?:  +[\d.-]+){5})$", output, re.MULTILINE)
    return {label: cells.split() for label, cells in found}


def test_newsletter_arrives(newsletter, var):
    assert newsletter.returncode == 0, newsletter.stderr
    box = mailbox.mbox(var / "newsletter.mbox")
    try:
        recipients = {message["Delivered-To"] for message in box}
        assert len(box) == len(recipients) == LETTERS
        letter = next(message for message in box if message["Delivered-To"] == "jurgen.gross@example.org")
        kinds = [part.get_content_type() for part in letter.walk()]
        text = letter.get_payload(0).get_payload(decode=True).decode()
    finally:
        box.close()
    assert kinds == ["multipart/alternative", "text/plain", "text/html"]
    assert "Guten Tag, Jürgen Groß," in text
    assert f"{LETTERS} of {LETTERS} messages were accepted." in newsletter.stdout


def test_text_is_not_escaped_as_if_it_were_html(newsletter, var):
    assert newsletter.returncode == 0, newsletter.stderr
    assert "Siobhán O'Sullivan" in (var / "newsletter.mbox").read_text(encoding="utf-8")


def test_table_compares_like_with_like(newsletter):
    table = rows(newsletter.stdout)
    assert list(table) == [
        "django-smtp-pool, one send_messages()",
        "django-smtp-pool, a send() each",
        "stock Django, one send_messages()",
        "stock Django, a send() each",
    ]
    messages, server_count, pool_count, *_ = zip(*table.values(), strict=True)
    assert set(messages) == {str(LETTERS)}
    assert pool_count[2:] == ("-", "-")
    assert server_count[:2] == pool_count[:2], "the server and the pool count the same connections"
    assert int(server_count[1]) == 2, "one thread needs one connection, replaced after max_messages = 100"
    assert 2 < int(server_count[0]) <= 5, "a batch goes over several connections, never more than max_connections"
    assert server_count[2:] == ("1", str(LETTERS))
    assert "django-smtp-pool, a send() each: 2 connections where stock" in newsletter.stdout


def test_it_says_what_it_is_doing(newsletter):
    lines = newsletter.stdout.splitlines()
    assert lines[0] == f"Sending the newsletter: {LETTERS} messages ..."
    for row in rows(newsletter.stdout):
        assert any(re.fullmatch(rf"  1/1  {re.escape(row)}: \d+\.\d\d s", line) for line in lines)


def test_a_row_is_the_median_of_its_runs(site):
    done = manage(site, "newsletter", "--count=3", "--delay=0", "--rounds=3")
    assert done.returncode == 0, done.stderr
    for label, cells in rows(done.stdout).items():
        seconds = re.findall(rf"  \d/3  {re.escape(label)}: (\S+) s", done.stdout)
        assert len(seconds) == 3
        assert sorted(seconds, key=float)[1] in cells
    assert "3 times. Each row is the median run." in done.stdout


def test_no_progress_bar_where_there_is_no_terminal(newsletter):
    assert newsletter.stderr == ""
    assert "\r" not in newsletter.stdout


def test_deliveries_are_recorded(newsletter, var):
    assert newsletter.returncode == 0, newsletter.stderr
    code = """
    from newsletter.models import Delivery
    done = Delivery.objects.filter(subscriber__email="jurgen.gross@example.org").get()
    print(Delivery.objects.filter(outcome="accepted").count(), done.outcome, done.attempts, done.reply)
    """
    assert re.match(rf"{LETTERS} accepted 1 .*queued as", in_site(var, code))


@pytest.mark.parametrize("way", ["batch", "each"])
def test_refusal_of_one_does_not_stop_the_rest(site, way):
    refused = "siobhan.osullivan@example.org"
    done = manage(site, "newsletter", "--refuse", refused, "--count=40", f"--way={way}", "--no-comparison")
    assert done.returncode == 1
    assert f"refused: Siobhán O'Sullivan <{refused}>: 550 5.1.1" in done.stdout
    assert done.stderr == "CommandError: 39 of 40 messages were accepted.\n"
    assert letters_in(site / "newsletter.mbox") == 39


def test_no_server_is_an_error_that_says_so(site):
    done = manage(site, "newsletter", "--host=127.0.0.1", "--port=1", "--count=3")
    assert done.returncode == 1
    assert "ConnectionRefusedError" in done.stdout
    assert done.stderr == "CommandError: 0 of 3 messages were accepted.\n"


def test_password_comes_from_the_environment_or_not_at_all(site):
    done = manage(site, "newsletter", "--host=127.0.0.1", "--username=letter")
    assert done.returncode == 1
    assert "The environment has no EXAMPLE_SMTP_PASSWORD" in done.stderr


def test_csv_that_is_no_list_of_subscribers(site):
    (site / "people.csv").write_text(
        "name,email,language\nZoë,zoe@example.com,en\nMax,max at home,de\n", encoding="utf-8"
    )
    done = manage(site, "newsletter", "--csv", site / "people.csv")
    assert done.returncode == 1
    assert "people.csv, line 3: 'max at home' is not an email address" in done.stderr


def start_on_terminal(var, *args):
    """Start the command with a terminal for its standard error, where the progress bar goes."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 25, 100, 0, 0))  # rows, columns
    command = [sys.executable, EXAMPLE / "manage.py", "newsletter", "--no-comparison", *args]
    process = subprocess.Popen(command, env=environment(var), stdout=subprocess.PIPE, stderr=its, text=True)
    os.close(its)
    return process, ours


def read_terminal(descriptor):
    """Read until the other side is closed, which Linux reports as an error."""
    shown = b""
    try:
        while block := os.read(descriptor, 4096):
            shown += block
    except OSError:
        pass
    finally:
        os.close(descriptor)
    return shown.decode()


def test_progress_bar_on_a_terminal(site):
    process, terminal = start_on_terminal(site, "--count=20")
    shown = read_terminal(terminal)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, shown
    assert "20/20" in shown
    assert "20 of 20 messages were accepted." in output


def test_interrupt_tells_how_many_were_sent(site):
    process, terminal = start_on_terminal(site, "--count=2000", "--delay=5")
    mbox = site / "newsletter.mbox"
    deadline = time.monotonic() + 30
    # More than there are connections: each may have one that is kept and not acknowledged yet.
    while letters_in(mbox) < 10 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    shown = read_terminal(terminal)
    process.communicate(timeout=60)
    assert process.returncode == 130, shown
    said = re.search(r"Interrupted: (\d+) of 2000 messages were accepted, for (\d+) the outcome is unknown", shown)
    assert said, shown
    assert "Traceback" not in shown
    kept = letters_in(mbox)
    accepted, in_doubt = map(int, said.groups())
    assert 1 <= accepted <= kept <= accepted + in_doubt
    code = """
    from newsletter.models import Delivery
    print(Delivery.objects.filter(outcome="accepted").count())
    """
    assert int(in_site(site, code)) == accepted


CONTACT = """
from pathlib import Path
from django.test import Client
from newsletter import mailers
from newsletter.embedded_server import EmbeddedServer

visitor = Client(SERVER_NAME="localhost")
typed = {"name": "Zoë Ångström", "email": "zoe@example.net", "message": "Are the leeks ready?"}
"""


def test_contact_form_sends(site):
    code = """
    with EmbeddedServer(Path(r"%s")) as server:
        with mailers.mail_server(host="127.0.0.1", port=server.port):
            for _ in range(3):
                answer = visitor.post("/contact/", typed)
            if pool := mailers.pool():
                pool.close()
    print(answer.status_code, answer.url, server.received.messages, server.received.connections)
    """
    said = in_site(site, CONTACT + textwrap.dedent(code % (site / "mbox")))
    assert said == "302 /contact/thanks/ 3 1\n"
    assert "Are the leeks ready?" in (site / "mbox").read_text()


def test_contact_form_keeps_what_was_typed_when_mail_fails(site):
    code = """
    with mailers.mail_server(host="127.0.0.1", port=1):
        answer = visitor.post("/contact/", typed)
    print(answer.status_code, answer.content.decode())
    """
    said = in_site(site, CONTACT + textwrap.dedent(code))
    assert said.startswith("503 ")
    assert "nothing is lost" in said
    assert "Are the leeks ready?</textarea>" in said
    assert 'value="Zoë Ångström"' in said


def test_admin_sends_and_shows_what_became_of_each(site):
    code = """
    from django.contrib.auth.models import User
    from newsletter.models import Subscriber

    gone = Subscriber.objects.create(name="Zoë", email="gone@example.net", language="xx")
    here = Subscriber.objects.create(name="Ôba", email="here@example.net", language="de-AT")
    left = Subscriber.objects.create(name="Max", email="left@example.net", active=False)
    visitor.force_login(User.objects.create_superuser("editor"))
    action = {"action": "send_newsletter", "_selected_action": [gone.pk, here.pk, left.pk]}
    with EmbeddedServer(Path(r"%s"), refuse=["gone@example.net"]) as server:
        with mailers.mail_server(host="127.0.0.1", port=server.port):
            answer = visitor.post("/admin/newsletter/subscriber/", action, follow=True)
            if pool := mailers.pool():
                pool.close()
    print(answer.content.decode())
    for page in ("delivery/", f"subscriber/{gone.pk}/change/"):
        print(page, visitor.get(f"/admin/newsletter/{page}").content.decode())
    """
    said = in_site(site, CONTACT + textwrap.dedent(code % (site / "mbox")))
    listing, rest = said.split("delivery/ ", 1)
    deliveries, person = rest.split("/change/ ", 1)
    assert "1 of 2 messages were accepted." in listing
    for page in (listing, deliveries, person):
        assert "550 5.1.1 &lt;gone@example.net&gt;: no such mailbox here" in page
    assert "queued as 000001" in deliveries


def test_pages_and_checks(site):
    code = """
    from django.core.management import call_command

    call_command("check", fail_level="DEBUG")
    call_command("makemigrations", check_changes=True)
    for page in ("/", "/letter/", "/letter/?language=es", "/contact/", "/contact/thanks/", "/admin/login/"):
        print(page, visitor.get(page).status_code)
    """
    said = in_site(site, CONTACT + textwrap.dedent(code))
    assert "No changes detected" in said
    assert said.count(" 200\n") == 6


def test_a_mailing_at_the_workbench_and_the_pool_meanwhile(site):
    code = """
    from django.contrib.auth.models import User
    from newsletter import workbench

    workbench.MESSAGES, workbench.DELAY = 300, 0  # so many that each spread over connections meets a refusal
    settings.SMTP_PORT = 0  # a free one
    print(visitor.get("/workbench/").url)
    visitor.force_login(User.objects.create_superuser("editor"))
    visitor.post("/workbench/", {"do": "behave", "behaviour": "refuse"})
    server = workbench.bench.server
    with mailers.mail_server(host="127.0.0.1", port=server.port):
        visitor.post("/workbench/", {"do": "mailing"})
        assert workbench.bench.wait(30)
        visitor.post("/workbench/", {"do": "behave", "behaviour": "well"})
        one = visitor.post("/workbench/", {"do": "one"})
        print(visitor.get("/workbench/").content.decode())
        print(f"taken: {len(server.accepted)}", "The message was accepted." in one.content.decode())
        if settings.HAS_METRICS:
            print("metrics:", *visitor.get("/metrics/").content.decode().splitlines(), sep=chr(10))
        print("live:", visitor.get("/admin/smtp_pool/pool/").content.decode())
        mailers.pool().close()
        visitor.post("/workbench/", {"do": "stop"})
    """
    said = in_site(site, "from django.conf import settings\n" + CONTACT + textwrap.dedent(code))
    assert said.startswith("/admin/login/?next=/workbench/")
    accepted, refused = map(int, re.search(r"(\d+) of 300 accepted, (\d+) not", said).groups())
    assert accepted + refused == 300
    assert refused
    assert f"taken: {accepted + 1} True" in said
    if importlib.util.find_spec("prometheus_client"):
        counted = re.findall(r"(?m)^smtp_pool_messages_total{.*outcome=\"accepted\".*} (\S+)$", said)
        assert sum(map(float, counted)) == accepted + 1
    live = said.split("live:")[1]
    assert "550 5.1.1 No such mailbox here" in live
    assert f"<dt>accepted</dt><dd>{accepted + 1}</dd>" in live
