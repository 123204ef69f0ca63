"""Processes of the neighbours: started with what they write in files, watched, and ended by their process id."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.realservers.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30  # seconds; only ever reached when a test fails
# What Python or a server writes when something went wrong that its exit status does not tell.
COMPLAINTS = ("Traceback", "Warning:", "Exception ignored", "Error:", "CRITICAL")


def environment(**changed):
    """Return our environment without what concerns our own Python and Django, and with the project's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DJANGO_", "COV_"))}
    return {**kept, "PYTHONPATH": str(ROOT), **changed}


class Process:
    """A process in a session of its own, so that nothing it forks outlives the test."""

    def __init__(self, *command, directory, env, name):
        self.errors_file = directory / f"{name}.err"
        self._output_file = directory / f"{name}.out"
        with self._output_file.open("ab") as output, self.errors_file.open("ab") as errors:
            self._popen = subprocess.Popen(
                [str(word) for word in command],
                cwd=directory,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        """End what a failed test has left, and show what it wrote."""
        if kind is not None:
            sys.stderr.write(self.errors + self.output)
        if self._popen.poll() is None:
            self._popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(PATIENCE)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait(PATIENCE)

    @property
    def pid(self):
        """Return the process id."""
        return self._popen.pid

    @property
    def has_ended(self):
        """Tell whether the process is over."""
        return self._popen.poll() is not None

    @property
    def errors(self):
        """Return what it has written to stderr so far."""
        return self.errors_file.read_text(errors="replace")

    @property
    def output(self):
        """Return what it has written to stdout so far."""
        return self._output_file.read_text(errors="replace")

    def signal(self, number):
        """Send it a signal."""
        self._popen.send_signal(number)

    def wait(self):
        """Return its exit status."""
        try:
            return self._popen.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {PATIENCE} s: {self.errors}") from None

    def children(self):
        """Return the process ids of its children."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def wait_until_it_says(self, text):
        """Wait until it has written something, to stderr or stdout."""
        eventually(lambda: text in self.errors + self.output or self.has_ended, otherwise=lambda: self.errors)
        assert text in self.errors + self.output, self.errors

    def assert_clean_end(self, *, status=0, but=None):
        """Check that it has ended as it should, without a word about trouble `but` what matches that pattern."""
        assert self.wait() == status, self.errors
        words = re.sub(but, "", self.errors) if but else self.errors
        assert not [word for word in COMPLAINTS if word in words], words


def python(*arguments, strict=True):
    """Return a command line of Python, in which warnings are errors unless the neighbour itself warns."""
    return [sys.executable, *(["-W", "error"] if strict else []), *arguments]
