"""Proxies from the distribution: microsocks and Dante speak SOCKS5, tinyproxy HTTP; each on a free port of loopback."""

import contextlib
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tests import ports

from .programs import Daemon, find
from .waiting import eventually

USER = "postman"
# tinyproxy takes letters and digits only.
PASSWORDS = {"microsocks": "a: p@ss/word", "tinyproxy": "pass7word"}

_DANTE = """\
logoutput: {log}
internal: 127.0.0.1 port = {port}
external: 127.0.0.1
user.privileged: root
user.unprivileged: nobody
clientmethod: none
socksmethod: none
client pass {{
    from: 127.0.0.0/8 to: 0.0.0.0/0
}}
{rules}
"""
_DANTE_RULE = """\
socks pass {{
    from: 127.0.0.0/8 to: 127.0.0.0/8 port = {allowed}
    command: connect
    log: connect
}}
"""
_TINYPROXY = """\
Port {port}
Listen 127.0.0.1
Timeout 60
MaxClients 20
Allow 127.0.0.0/8
LogFile "{log}"
LogLevel Connect
{login}
{rules}
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Proxy:
    """A running proxy.

    Arguments:
        password: the one that it wants from USER, if any.
    """

    name: str
    daemon: Daemon
    port: int
    log_file: Path
    password: str | None

    def url(self, scheme: str | None = None, **changed: str | None) -> str:
        """Return its URL, with the login that it wants, or with another `password`, None for no login at all."""
        password = changed.get("password", self.password)
        who = f"{USER}:{quote(password, safe='')}@" if password else ""
        return f"{scheme or ('http' if self.name == 'tinyproxy' else 'socks5')}://{who}127.0.0.1:{self.port}"

    def log(self) -> str:
        """Return what it has logged."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def start(self) -> None:
        """Start the proxy, and wait until it listens."""
        self.daemon.start()
        eventually(lambda: self._listens() or not self.daemon.running, otherwise=self.log)
        assert self.daemon.running, f"{self.name} does not listen: {self.log()}"

    def stop(self) -> None:
        """End the proxy with all its connections."""
        self.daemon.stop()

    def _listens(self) -> bool:
        with (
            contextlib.suppress(ConnectionRefusedError),
            socket.create_connection(("127.0.0.1", self.port), timeout=10),
        ):
            return True
        return False


def create(name: str, directory: Path, *, allowed: Sequence[int], login: bool = False) -> Proxy:
    """Say how a proxy is to run; those that know rules connect to these ports only."""
    directory.mkdir()
    port, log = ports.for_program(), directory / "log"
    make = {"microsocks": _microsocks, "dante": _dante, "tinyproxy": _tinyproxy}[name]
    password = PASSWORDS[name] if login else None
    command = make(directory, port, log, allowed, password)
    # Who has no log of his own writes to where his output goes.
    daemon = Daemon(*command, output=log if name == "microsocks" else directory / "output")
    return Proxy(name=name, daemon=daemon, port=port, log_file=log, password=password)


def _microsocks(directory: Path, port: int, log: Path, allowed: Sequence[int], password: str | None) -> list[str]:
    program = find("microsocks", install="apt-get install microsocks", as_root=False)
    return [program, "-i", "127.0.0.1", "-p", str(port), *(["-u", USER, "-P", password] if password else [])]


def _dante(directory: Path, port: int, log: Path, allowed: Sequence[int], password: str | None) -> list[str]:
    # It knows logins by accounts of the system only, and we make none.
    assert password is None
    rules = "".join(_DANTE_RULE.format(allowed=each) for each in allowed)
    (directory / "conf").write_text(_DANTE.format(port=port, log=log, rules=rules))
    return [find("danted", install="apt-get install dante-server"), "-f", str(directory / "conf"), "-N", "1"]


def _tinyproxy(directory: Path, port: int, log: Path, allowed: Sequence[int], password: str | None) -> list[str]:
    rules = "\n".join(f"ConnectPort {each}" for each in allowed)
    who = f"BasicAuth {USER} {password}" if password else ""
    (directory / "conf").write_text(_TINYPROXY.format(port=port, log=log, rules=rules, login=who))
    program = find("tinyproxy", install="apt-get install tinyproxy", as_root=False)
    return [program, "-d", "-c", str(directory / "conf")]
