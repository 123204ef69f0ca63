"""What every real mail server offers to the tests, whoever made it."""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from . import mailbox
from .certificates import Certificates
from .mailbox import Mail
from .programs import Daemon
from .waiting import eventually

DOMAIN = "example.com"
UNKNOWN_USER = f"unknown@{DOMAIN}"


@dataclass(frozen=True, kw_only=True)
class Account:
    """A user of the servers, by password or by token."""

    username: str
    password: str
    token: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class MailServer(ABC):
    """A server on loopback with a directory of its own: where it is, what it delivered, what it logged."""

    directory: Path
    daemon: Daemon
    port: int
    tls_port: int
    account: Account
    certificates: Certificates
    host: str = "127.0.0.1"

    # Lines of the log, with the client's port.
    connected: ClassVar[re.Pattern[str]]
    disconnected: ClassVar[re.Pattern[str]]

    @property
    def maildir(self) -> Path:
        """Return where mail to any address of DOMAIN but UNKNOWN_USER is delivered."""
        return self.directory / "mail" / "inbox"

    @property
    def log_file(self) -> Path:
        """Return the file that the server logs to."""
        return self.directory / "log" / "mail.log"

    def mails(self) -> list[Mail]:
        """Return the delivered messages."""
        return mailbox.mails(self.maildir)

    def wait_for_mails(self, count: int) -> list[Mail]:
        """Return the delivered messages as soon as there are `count`, and no more than that."""
        eventually(lambda: len(self.mails()) >= count, otherwise=lambda: self._found(count))
        eventually(self._queue_is_empty, otherwise=lambda: self._found(count))
        found = self.mails()
        assert len(found) == count, self._found(count)
        return found

    def log(self) -> str:
        """Return what the server logged since the last `forget()`."""
        self._flush_log()
        return self._log_as_it_is()

    def connections(self) -> int:
        """Count the clients' connections since the last `forget()`, by the log."""
        return len(self.connected.findall(self.log()))

    def open_connections(self) -> int:
        """Count those of these connections that have not ended, by the log; restart ends none there."""
        log = self.log()
        return len({*self.connected.findall(log)} - {*self.disconnected.findall(log)})

    def start(self) -> None:
        """Start the server, and wait until it listens."""
        started = self._starts()
        self.daemon.start()
        eventually(lambda: self._starts() > started or not self.daemon.running, otherwise=self._why_it_does_not_start)
        assert self.daemon.running, self._why_it_does_not_start()

    def stop(self) -> None:
        """End the server with all its connections; mail in its queue stays there."""
        self.daemon.stop()

    @contextmanager
    def reconfigured(self, **settings: str) -> Iterator[None]:
        """Run the server with some settings changed, and afterwards as before."""
        self.reconfigure(**settings)
        try:
            yield
        finally:
            self.reconfigure()

    def reconfigure(self, **settings: str) -> None:
        """Restart the server with its usual settings, but these; with none, exactly the usual ones.

        Not a reload: processes of before would serve on with the old limits, and counts of clients live on.
        """
        self.stop()
        self.write_configuration(settings)
        self.start()

    def forget(self) -> None:
        """Begin afresh: an empty queue, an empty mailbox, an empty log, the usual settings."""
        if not self.daemon.running:
            self.start()
        eventually(self._queue_is_empty, otherwise=lambda: f"{self.directory}: mail is stuck\n{self.log()}")
        mailbox.empty(self.maildir)
        self._flush_log()
        os.truncate(self.log_file, 0)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the server for a while, and end it whatever happens."""
        try:
            self.start()
            yield
        finally:
            self.stop()

    @abstractmethod
    def write_configuration(self, settings: dict[str, str]) -> None:
        """Write the configuration files."""

    @abstractmethod
    def _starts(self) -> int:
        """Count how often the log says that the server listens."""

    @abstractmethod
    def _queue_is_empty(self) -> bool:
        """Tell whether all that was accepted has been delivered or refused."""

    def _flush_log(self) -> None:  # noqa: B027 - most servers log as things happen
        """Wait until what has happened is in the log."""

    def _log_as_it_is(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def _found(self, wanted: int) -> str:
        subjects = [mail.subject for mail in self.mails()]
        return f"{len(subjects)} mails instead of {wanted}: {subjects}\n{self._log_as_it_is()}"

    def _why_it_does_not_start(self) -> str:
        output = self.directory / "log" / "output"
        return f"{type(self).__name__} does not listen\n{output.read_text()}\n{self._log_as_it_is()}"
