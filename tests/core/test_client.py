"""The pool without Django: its client, and the recipes of the documentation."""

import os
import subprocess
import sys
import types
from email.message import EmailMessage
from pathlib import Path

import pytest

from django_smtp_pool.core.client import Client, envelope_of
from django_smtp_pool.core.errors import ConnectionLost, Outcome, RateLimited, RecipientsRefused
from django_smtp_pool.core.options.options import PoolOptions, ServerOptions
from tests.servers import Fault, FaultServer, faults

ROOT = Path(__file__).parents[2]
WITHOUT_DJANGO = (
    "import sys; sys.modules['django'] = None; import runpy; runpy.run_path(sys.argv[1], run_name='__main__')"
)


def letter(**fields):
    """Return a message of the standard library."""
    message = EmailMessage()
    for name, value in {"From": "Shop <shop@example.com>", "To": "to@example.com", "Subject": "x", **fields}.items():
        if value is not None:
            message[name] = value
    message.set_content("Hello\n.dot\n")
    return message


@pytest.fixture
def client(server):
    """A client for the test's server."""
    made = Client(ServerOptions(host=server.host, port=server.port, local_hostname="client.example"))
    yield made
    made.close(timeout=0)


def test_it_sends_over_one_warm_connection(server, client):
    for _ in range(3):
        assert client.send(letter()).outcome is Outcome.ACCEPTED
    assert (server.connections, len(server.accepted)) == (1, 3)
    assert server.accepted[0].content.endswith(b"Hello\r\n.dot\r\n")
    assert client.stats().messages_accepted == 3


def test_addresses_come_from_the_header_and_bcc_is_not_shown():
    fields = {"To": "A <a@x.com>, b@x.com", "Cc": "c@x.com", "Bcc": "d@x.com, a@x.com", "Sender": "s@x.com"}
    message = letter(**fields)
    envelope = envelope_of(message)
    assert (envelope.sender, envelope.recipients) == ("s@x.com", ("a@x.com", "b@x.com", "c@x.com", "d@x.com"))
    assert b"bcc" not in bytes(envelope.content).lower()
    assert b"d@x.com" not in bytes(envelope.content)
    assert message["Bcc"] == "d@x.com, a@x.com"
    assert envelope_of(envelope) is envelope


@pytest.mark.parametrize("missing", ["From", "To"])
def test_a_message_without_addresses(missing):
    with pytest.raises(ValueError, match="needs a From and a recipient"):
        envelope_of(letter(**{missing: None}))


def test_what_stands_in_the_way_is_raised(server, client):
    server.fault = Fault(at="rcpt", do=faults.code_5xx)
    with pytest.raises(RecipientsRefused):
        client.send(letter())
    assert client.send(letter()).outcome is Outcome.ACCEPTED


def test_many_side_by_side(server, client):
    server.fault = Fault(at="rcpt", do=faults.code_5xx)
    deliveries = client.send_many(letter() for _ in range(20))
    assert sorted(each.outcome.value for each in deliveries) == ["accepted"] * 19 + ["refused"]
    assert len(server.accepted) == 19


def test_a_rate_limit():
    with FaultServer() as server:
        options = ServerOptions(host=server.host, port=server.port, local_hostname="client.example")
        client = Client(options, PoolOptions(rate_limits=["2/hour"]))
        assert [each.outcome.value for each in client.send_many([letter(), letter()])] == ["accepted"] * 2
        with pytest.raises(RateLimited):
            client.send(letter())
        client.close(timeout=0)


def test_a_closed_client_says_goodbye(server, client):
    client.send(letter())
    client.close()
    assert server.wait_for(lambda: server.commands("QUIT"))
    with pytest.raises(Exception, match="closed") as caught:
        client.send(letter())
    assert not isinstance(caught.value, ConnectionLost)


def environment(server):
    return {**os.environ, "SMTP_HOST": server.host, "SMTP_PORT": str(server.port), "PYTHONPATH": str(ROOT)}


def test_the_script_runs_where_there_is_no_django(server):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_DJANGO, str(ROOT / "tests/recipes/script.py")],
        input="".join(f"to{number}@example.com\n" for number in range(7)), env=environment(server),
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["accepted"] * 7
    assert sorted(mail.recipients[0] for mail in server.accepted) == [f"to{number}@example.com" for number in range(7)]
    # One that was still being opened when the last message had gone is closed without QUIT.
    carriers = {mail.connection for mail in server.accepted}
    assert len(carriers) <= len(server.commands("QUIT")) <= server.connections <= 3


class Web:
    """As much of Flask and FastAPI as the recipes use."""

    def __init__(self, *args, **kwargs):
        self.views = {}

    def post(self, path):
        def register(view):
            self.views[path] = view
            return view

        return register


def load(name, monkeypatch, server):
    """Return a recipe's module."""
    for variable, value in environment(server).items():
        monkeypatch.setenv(variable, value)
    form = types.SimpleNamespace(form={"address": "to@example.com"})
    for module in (types.SimpleNamespace(Flask=Web, request=form), types.SimpleNamespace(FastAPI=Web)):
        monkeypatch.setitem(sys.modules, "flask" if hasattr(module, "Flask") else "fastapi", module)
    space = types.ModuleType(name)
    exec(compile((ROOT / f"tests/recipes/{name}.py").read_text(), name, "exec"), vars(space))
    return space


def test_the_recipe_for_flask(server, monkeypatch):
    recipe = load("flask_app", monkeypatch, server)
    assert recipe.app.views["/welcome"]() == {"sent": True}
    server.fault = Fault(at="rcpt", do=faults.code_5xx)
    assert recipe.app.views["/welcome"]()[1] == 503
    server.fault = Fault(at="end", do=faults.reset)
    assert recipe.app.views["/welcome"]() == ({"sent": None}, 202)
    recipe.client.close(timeout=0)


def test_the_recipe_for_fastapi(server, monkeypatch):
    recipe = load("fastapi_app", monkeypatch, server)
    assert recipe.app.views["/welcome"]("to@example.com") == {"attempts": 1}
    recipe.client.close(timeout=0)
