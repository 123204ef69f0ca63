"""Programs from the distribution: found, started in the foreground, and ended by their process id."""

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from .waiting import eventually

_WHERE_DAEMONS_LIVE = "/usr/local/sbin:/usr/sbin:/sbin"
_PATIENCE = 10


def unavailable(reason: str) -> None:
    """Skip the test, or fail it where REQUIRE_REALSERVERS=1 promises that the servers are there."""
    if os.environ.get("REQUIRE_REALSERVERS") == "1":
        pytest.fail(f"REQUIRE_REALSERVERS=1, but {reason}", pytrace=False)
    pytest.skip(reason)


def find(program: str, *, install: str, variable: str = "", as_root: bool = True) -> str:
    """Return the path of a program, given by an environment variable or installed."""
    if as_root and os.geteuid() != 0:
        unavailable(f"{program} drops to users of its own, which only root can do: run the tests as root")
    path = os.environ.get(variable) or shutil.which(program, path=f"{os.environ.get('PATH', '')}:{_WHERE_DAEMONS_LIVE}")
    if path is None:
        unavailable(f"{program} is not there: {install}")
    return str(path)


class Daemon:
    """A program in the foreground, leader of its own session so that its children end with it."""

    def __init__(self, *command: str, output: Path) -> None:
        self._command = command
        self._output = output
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Tell whether the program was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the program with its output appended to a file."""
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def stop(self) -> None:
        """Ask the program to end, then insist; do nothing where it has ended."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_PATIENCE)
        # What it forked is in its session; Postfix leaves processes there that hold the listening socket.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        eventually(lambda: not _living(process.pid), otherwise=lambda: f"{_living(process.pid)} are still alive")


def _living(session: int) -> list[str]:
    """Return the processes of a session that still run: a killed one holds its sockets until it is gone."""
    living = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            line = path.read_text(errors="replace")
            state, _, _, its_session, *_ = line.rpartition(") ")[2].split()
            if int(its_session) == session and state not in {"Z", "X"}:
                living.append(line.partition(") ")[0])
    return living
