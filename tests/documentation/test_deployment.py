"""What docs/deployment.rst tells people to put into their projects, run as it stands."""

import asyncio

import pytest
from asgiref.sync import sync_to_async

from tests.backend.project import project
from tests.documentation.blocks import blocks
from tests.mailing import message
from tests.servers import FaultServer

pytestmark = pytest.mark.filterwarnings("ignore:The EMAIL_", "ignore:get_connection", "ignore:Django 2028")


def block(beginning):
    """Return the names that the block of Python defines in which a line begins so."""
    (code,) = [each.code for each in blocks("docs/deployment.rst") if f"\n{beginning}" in f"\n{each.code}"]
    names = {}
    exec(code, names)
    return names


def test_the_asgi_application_says_goodbye_at_its_end(settings):
    with FaultServer() as server:
        project(settings, server)
        application = block("async def application")["application"]
        told, said = ["startup", "shutdown"], []

        async def receive():
            if told[0] == "shutdown":
                await sync_to_async(message().send)()
                assert not server.commands("QUIT")
            return {"type": f"lifespan.{told.pop(0)}"}

        async def send(event):
            said.append((event["type"], len(server.commands("QUIT"))))

        asyncio.run(application({"type": "lifespan"}, receive, send))
        assert said == [("lifespan.startup.complete", 0), ("lifespan.shutdown.complete", 1)]


def test_the_asynchronous_view_sends(settings):
    with FaultServer() as server:
        project(settings, server)
        asyncio.run(block("async def order")["order"](None))
        assert len(server.accepted) == 1
