"""The servers of a soak, in a process of their own: they outlive forks of the client, and do not wait for its GIL."""

import json
import random
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.servers import FaultServer, RandomFaults, faults
from tests.servers.certificates import certificates
from tests.servers.misbehaviour import Misbehaviour

POINTS = (
    *("connect", "banner", "ehlo", "auth", "mail", "next", "rcpt", "data"),
    *("body", "bdat", "end", "after", "rset", "quit"),
)
LIMIT = 3  # connections of one process at the server that limits them
SESSION_LIMIT = 20  # messages on one of its connections
USED_UP = faults.reply("452 4.4.5 Too many messages in this session")
NOT_NOW = [
    faults.reply(text)
    for text in ("454 4.7.0 Temporary failure", "450 4.3.2 Not now", "452 4.3.1 Insufficient system storage")
]
SLOWEST_QUIT = 0.3  # seconds
# Seconds after a QUIT. On a machine as busy as that, the client may have given the place away, after one of its own.
LONGEST_QUIT = 0.5
FORKING = "forking"  # a file that is there until a child has closed the sockets that it has inherited

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a server is, and how many connections of one process it allows; None for any number."""

    host: str
    port: int
    tls: bool
    limit: int | None

    @property
    def forking(self):
        """The file that says so while a fork is under way; None for a server that does not want to know."""
        return Path(self.host.removeprefix("unix:")).with_name(FORKING) if self.limit else None


class Servers:
    """The client's end: starts the process, and asks it for reports."""

    def __init__(self, **plan):
        self._plan = plan

    def __enter__(self):
        command = [sys.executable, "-m", "tests.soak.servers"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
        self.places = [Place(**each) for each in self._ask(self._plan)]
        return self

    def __exit__(self, *_):
        with self._process:
            self._process.stdin.close()

    def report(self):
        """Return what the servers have seen so far."""
        return self._ask("report")

    def _ask(self, what):
        self._process.stdin.write(f"{json.dumps(what)}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


class Server(FaultServer):
    """A fault server that keeps no transcript, and counts the connections of each process of the client.

    Only a Unix socket says which process is at its other end: elsewhere, all of them count as one.
    """

    def __init__(self, *, limit=None, path=None, **options):
        super().__init__(path=path, **options)
        self.limit, self._forking = limit, path and path.with_name(FORKING)
        self.most = 0  # connections of one process at once
        self.crowd = {}  # connections that were one too many: their number, and what the others were doing
        self._owners = {}
        for name in ("note", "command", "strike"):
            setattr(self.record, name, lambda *_: None)
        self.record.accept = self._accept
        self.taken = []  # (number, connection, process) of each message

    def _accept(self, message):
        fields = dict(line.split(b": ", 1) for line in message.content.split(b"\r\n\r\n")[0].split(b"\r\n"))
        number = int(fields[b"Subject"].removeprefix(b"Message "))
        self.taken.append((number, message.connection, int(fields[b"X-Process"])))

    def _admit(self, sock):
        owner, number = _owner(sock), self.record.connections + 1
        present = 1 + self._present(owner)
        while self.limit and present > self.limit and self._forking.exists():
            time.sleep(0.01)  # closed by its owner, and still open in the child
            present = 1 + self._present(owner)
        self.most = max(self.most, present)
        if self.limit and present > self.limit:
            self.crowd[number] = self._doings(owner)
        self._owners[number] = owner
        super()._admit(sock)

    def _doings(self, owner):
        now, mine = time.monotonic(), [each for each in self.sessions if self._owners.get(each.number) == owner]
        return [
            f"#{each.number} {each.state}, {each.delivered} messages"
            + (f", QUIT {now - each.quit_at:.2f} s ago" if hasattr(each, "quit_at") else "")
            for each in mine
        ]

    def _present(self, owner):
        with self.record.changed:
            present = [each.number for each in self.sessions if not (_has_left(each.wire) or _is_leaving(each))]
            self._owners = {number: self._owners[number] for number in present}
        return Counter(self._owners.values())[owner]


def _owner(sock):
    if sock.family != socket.AF_UNIX or not hasattr(socket, "SO_PEERCRED"):
        return 0
    return struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))[0]


def _is_leaving(session):
    return time.monotonic() - getattr(session, "quit_at", float("inf")) > LONGEST_QUIT


def _has_left(wire):
    if wire._sock.family != socket.AF_UNIX:
        return wire.peer_gone()
    poll = select.poll()
    poll.register(wire._sock, getattr(select, "POLLRDHUP", select.POLLHUP))
    return bool(poll.poll(0))


class Limits:
    """The rules of a server with limits, as a fault: alike for the same seed, connection and step."""

    def __init__(self, server, seed, rate):
        self._server, self._seed, self._rate = server, seed, rate

    def pick(self, moment):
        """Return what is to be done at this moment, or None."""
        draw = random.Random(f"{self._seed}/{moment.connection}/{moment.step}")
        if moment.name == "banner" and moment.connection in self._server.crowd:
            return faults.code_421
        if moment.name == "quit":
            return _slow_quit(draw.random() * SLOWEST_QUIT)
        if "next" not in moment.points:
            return None
        carried = next((each.delivered for each in self._server.sessions if each.number == moment.connection), 0)
        if carried >= SESSION_LIMIT:
            return USED_UP
        return draw.choice(NOT_NOW) if draw.random() < self._rate else None


def _slow_quit(seconds):
    def act(session, proper):
        session.quit_at = time.monotonic()
        session.wire.pause(seconds)
        session.say(proper)
        return 221

    return Misbehaviour(name="slow", act=act)


def servers(*, seed, rate, chunking, limited, folder):
    """Yield the servers of a soak."""
    # In one shot the verdict is told from the replies before it by counting alone: there, a reply that nobody
    # asked for is taken for an answer. No client could know better.
    choices = [sin for sin in faults.MIXTURE if sin is not faults.stray or not chunking]
    points = [point for point in POINTS if point != "after" or not chunking]
    for way in ({}, {"implicit_tls": certificates().server_context(), "require_auth": True}):
        fault = RandomFaults(rate=rate, seed=f"{seed}/{len(way)}", points=points, choices=choices)
        yield Server(chunking=chunking, fault=fault, **way)
    if limited:
        server = Server(chunking=chunking, path=Path(folder) / "soak", limit=LIMIT)
        server.fault = Limits(server, f"{seed}/limits", rate / 3)
        yield server


def _report(running):
    return {
        "taken": [(number, (place, *who)) for place, server in enumerate(running) for number, *who in server.taken],
        "connections": [server.connections for server in running],
        "open": [server.open_now for server in running],
        "most": [server.most for server in running],
        "turned_away": [len(server.crowd) for server in running],
        "crowds": [
            f"connection {number} beside {'; '.join(doings)}"
            for each in running
            for number, doings in each.crowd.items()
        ],
    }


def main():
    """Serve until the client has closed its end of the pipe."""
    plan = json.loads(sys.stdin.readline())
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        running = [stack.enter_context(server) for server in servers(**plan, folder=folder)]
        places = [
            {"host": server.host, "port": server.port, "tls": server.implicit_tls is not None, "limit": server.limit}
            for server in running
        ]
        sys.stdout.write(f"{json.dumps(places)}\n")
        sys.stdout.flush()
        for _ in sys.stdin:
            sys.stdout.write(f"{json.dumps(_report(running))}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
