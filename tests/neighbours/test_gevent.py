"""A greenlet that is killed in the middle of a message: nothing is accepted half, and the pool is as good as before."""

import subprocess
import sys

from tests.neighbours.available import need_package
from tests.registry.test_processes import PRELUDE, ROOT
from tests.servers import FaultServer

PATCHED = "from gevent import monkey; monkey.patch_all()\n"
KILLED = """
import gevent
from gevent.fileobject import FileObjectThread

def large():
    content = b"Subject: large\\r\\n\\r\\n" + 80000 * (b"x" * 76 + b"\\r\\n")
    sender().send(Envelope(sender="a@example.com", recipients=("b@example.com",), content=Content.of(content)))

sending = gevent.spawn(large)
FileObjectThread(sys.stdin.buffer).readline()  # the server is in the middle of it
sending.kill()
assert isinstance(sending.value, gevent.GreenletExit), sending.value
stats = sender().pool.stats()
assert (stats.busy, stats.connecting, stats.waiting) == (0, 0, 0), stats
send("small")
"""


def test_a_killed_greenlet_sends_no_half_message():
    need_package("gevent", install="gevent")
    with FaultServer(receive_buffer=65536) as server:
        server.hold("body")
        command = [sys.executable, "-c", PATCHED + PRELUDE + KILLED, str(server.port)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
            assert server.wait_for(lambda: server.held == 1)
            process.stdin.write("now\n")
            process.stdin.flush()
            assert server.wait_for(lambda: server.open_now < 1 or server.connections == 2)
            server.release()
            _, error = process.communicate(timeout=60)
        assert (process.returncode, error) == (0, "")
        assert [each.content.split(b"\r\n")[0] for each in server.accepted] == [b"Subject: small"]
