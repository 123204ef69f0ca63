"""The mail server of these tests, in the test's own process: it knows what really arrived, and how."""

import re
from collections import Counter

from tests.realservers.waiting import eventually
from tests.servers import FaultServer
from tests.servers.certificates import certificates

_SUBJECT = re.compile(rb"^Subject: Message ([0-9]+)\r$", re.MULTILINE)


class Ledger(FaultServer):
    """A server that demands TLS and a login, and counts."""

    def __init__(self):
        super().__init__(starttls=certificates().server_context(), require_tls=True, require_auth=True)

    def numbers(self):
        """Return the number of each message that was accepted, in order."""
        return [int(_SUBJECT.search(message.content)[1]) for message in self.accepted]

    def wait_for_messages(self, count, process):
        """Wait until that many messages were accepted, from a process that should be alive."""
        self._wait(lambda: len(self.accepted) >= count, process)

    def wait_for_numbers(self, count, process):
        """Wait until that many different messages were accepted."""
        self._wait(lambda: len(set(self.numbers())) >= count, process)

    def wait_for_held(self, process):
        """Wait until a session stands at the gate."""
        self._wait(lambda: self.held, process)

    def _wait(self, look, process):
        eventually(lambda: look() or process.has_ended, otherwise=lambda: f"{len(self.accepted)} came", within=60)
        assert look(), f"{len(self.accepted)} came, and then the process ended: {process.errors}"

    def assert_exactly_once(self, count):
        """Check that messages 0 to `count` - 1 were accepted, each once."""
        wrong = {number: times for number, times in Counter(self.numbers()).items() if times != 1}
        assert not wrong, f"not once: {wrong}"
        assert sorted(self.numbers()) == list(range(count))

    def assert_all_gone(self):
        """Check that no connection is left open."""
        assert self.wait_for(lambda: not self.sessions), f"{self.open_now} connections are still open"

    def last_words(self):
        """Return the last command of each connection, by its number."""
        return {connection: line.split(" ")[0] for connection, line in self.commands()}

    def quits(self):
        """Return how many connections ended with QUIT."""
        return sum(word == "QUIT" for word in self.last_words().values())
