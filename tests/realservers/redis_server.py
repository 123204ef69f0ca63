"""Redis from the distribution, in memory only, on a free port and a socket of its own."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from tests import ports

from .programs import Daemon, find
from .waiting import eventually


@dataclass(frozen=True, kw_only=True, eq=False)
class RedisServer:
    """A Redis: where it is, and a client that looks into it."""

    directory: Path
    port: int
    daemon: Daemon
    client: redis.Redis

    @property
    def uri(self) -> str:
        """Return where it listens."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def patient_uri(self) -> str:
        """Return the same with a time limit that a busy machine does not reach."""
        return f"{self.uri}?socket_timeout=30&socket_connect_timeout=30"

    @property
    def socket(self) -> Path:
        """Return the socket that it listens on as well."""
        return self.directory / "redis.sock"

    def ask(self, *words: Any) -> Any:
        """Say a command, and return the answer."""
        return self.client.execute_command(*words)

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        self.daemon.start()
        eventually(lambda: self._answers() or not self.daemon.running, otherwise=self._output)
        assert self.daemon.running, self._output()

    def stop(self) -> None:
        """End the server; what it kept is gone."""
        self.client.close()
        self.daemon.stop()

    def forget(self) -> None:
        """Begin afresh: running, and empty."""
        if not self.daemon.running:
            self.start()
        self.ask("FLUSHALL")

    def _answers(self) -> bool:
        with contextlib.suppress(redis.ConnectionError):
            return bool(self.ask("PING"))
        return False

    def _output(self) -> str:
        return (self.directory / "output").read_text(errors="replace")


def create(directory: Path, *more: str) -> RedisServer:
    """Say how Redis is to run, with arguments of one's own; nothing runs yet."""
    program, port = find("redis-server", install="apt-get install redis-server", as_root=False), ports.for_program()
    where = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(directory)]
    lasts = ["--unixsocket", str(directory / "redis.sock"), "--save", "", "--appendonly", "no"]
    daemon = Daemon(program, *where, *lasts, *more, output=directory / "output")
    client = redis.Redis(port=port, decode_responses=True, socket_timeout=10)
    return RedisServer(directory=directory, port=port, daemon=daemon, client=client)


def create_sentinel(directory: Path, of: RedisServer) -> RedisServer:
    """Say how a Sentinel is to watch another Redis, which it calls mymaster; nothing runs yet."""
    program, port = find("redis-server", install="apt-get install redis-server", as_root=False), ports.for_program()
    configuration = directory / "sentinel.conf"
    configuration.write_text(f"bind 127.0.0.1\nport {port}\nsentinel monitor mymaster 127.0.0.1 {of.port} 1\n")
    daemon = Daemon(program, str(configuration), "--sentinel", output=directory / "output")
    client = redis.Redis(port=port, decode_responses=True, socket_timeout=10)
    return RedisServer(directory=directory, port=port, daemon=daemon, client=client)
