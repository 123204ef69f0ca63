"""What there is to see: pools of this process in a certain state, with real connections to a real server."""

from contextlib import contextmanager, suppress

from django_smtp_pool.testing.server import faults
from tests.core.fakes import in_thread, until
from tests.mailing import backend_for, message
from tests.servers import Fault

HOSTILE = '550 5.7.1 <script>alert(1)</script><img src=x onerror=alert(2)> "&amp; \u202eevil'


def pool_of(server, name, **options):
    """Return a backend with a pool of its own."""
    return backend_for(server, **{"max_connections": 8, "local_hostname": f"{name}.example", **options})


@contextmanager
def every_state(server):
    """Have connections in all four states, messages that wait, and something in each part of the page."""
    busy = pool_of(server, "busy", max_connections=3, rate_limits=["600/minute"])
    idle, leaving, connecting = (pool_of(server, name) for name in ("idle", "leaving", "connecting"))
    for backend in (idle, leaving):
        fill(server, backend, 4)
    server.fault = [
        Fault(at="mail", do=faults.reply("450 4.7.1 Too much mail, slow down"), times=2),
        Fault(at="rcpt", do=faults.reply(HOSTILE), times=3),
    ]
    with suppress(Exception):
        idle.send_messages([message(n) for n in range(40)])
    server.fault = None
    server.hold("quit", "end")
    workers = [in_thread(busy.send_messages, [message(n)]) for n in range(5)]
    assert server.wait_for(lambda: server.held == 3)
    until(lambda: busy.pool.stats().waiting == 2)
    server.hold("banner")
    workers.append(in_thread(connecting.send_messages, [message()]))
    assert server.wait_for(lambda: server.held == 4)
    leaving.pool.drain()  # for two seconds, which is how long QUIT is waited for
    yield {"busy": busy.pool, "idle": idle.pool, "leaving": leaving.pool, "connecting": connecting.pool}
    server.release()
    for worker in workers:
        assert worker.join() == 1


def fill(server, backend, connections):
    """Open so many connections, and leave them idle."""
    server.hold("end")
    worker = in_thread(backend.send_messages, [message(n) for n in range(connections)])
    assert server.wait_for(lambda: server.held == connections)
    server.release()
    assert worker.join() == connections
    server.settle()
