"""A demonstration: a mailing in the background, to a mail server in this process that misbehaves on demand.

The server is `FaultServer` of `django_smtp_pool.testing`, which the tests of a project can use too.
"""

import threading
import time
from itertools import cycle, islice

from django.conf import settings
from django.db import connection

from django_smtp_pool.testing import Fault, FaultServer, RandomFaults, faults
from newsletter import csv_import
from newsletter.models import Subscriber
from newsletter.sending import Mailing

MESSAGES = 2000
SUBSCRIBERS = settings.BASE_DIR / "newsletter" / "data" / "subscribers.csv"
DELAY = 0.02  # seconds that the server takes for each message; otherwise there is too little time to watch


def answer_late(session, proper):
    """Answer like a server that writes the message to its disk."""
    time.sleep(DELAY)
    session.say(proper)
    return int(proper[:3])


SLOW = Fault(at="end", do=faults.Misbehaviour(name="slow", act=answer_late, accepts=True), times=None)


def sometimes(rate, points, *choices):
    """Return a plan with random faults, the same in each run."""
    return [RandomFaults(rate=rate, seed="example", points=points, choices=choices), SLOW]


# What the server can do: the name of the choice, its label, and the faults.
BEHAVIOURS = {
    "well": ("accept everything", [SLOW]),
    "refuse": ("refuse one recipient in ten", sometimes(0.1, ["rcpt"], faults.reply("550 5.1.1 No such mailbox here"))),
    "drop": (
        "close or reset a connection now and then",
        sometimes(0.02, ["mail", "rcpt"], faults.code_421, faults.reset),
    ),
    "lose": (
        "lose a connection after accepting a message, so that its outcome is unknown",
        sometimes(0.01, ["end"], faults.accepted_then(faults.reset)),
    ),
    "pause": (
        "ask for a pause in between",
        [*(Fault(at="mail", do=faults.reply("454 4.7.0 Too busy, try again later"), skip=n) for n in (200, 600)), SLOW],
    ),
    "crowded": ("allow two connections at once", [SLOW]),
    "silent": ("stop answering", [Fault(at="mail", do=faults.hang, times=None)]),
}


class Workbench:
    """The server and the mailing of this process, one of each."""

    def __init__(self):
        self.server = None
        self.behaviour = "well"
        self.mailing = None
        self._thread = None
        self._lock = threading.Lock()  # the site answers several requests at once

    @property
    def is_sending(self):
        """Whether a mailing is under way."""
        return self._thread is not None and self._thread.is_alive()

    def behave(self, behaviour):
        """Set the behaviour of the server; start it if there is none. Raises OSError if it cannot start."""
        with self._lock:
            if self.server is None:
                self.server = FaultServer(port=settings.SMTP_PORT, chunking=True).__enter__()
            self.behaviour = behaviour
            self.server.fault = BEHAVIOURS[behaviour][1]
            self.server.max_connections = 2 if behaviour == "crowded" else None

    def stop(self):
        """Stop the server, so that its port refuses connections."""
        with self._lock:
            server, self.server = self.server, None
            if server is not None:
                server.close()

    def start_mailing(self):
        """Send to the active subscribers, several times over, in a thread; return False if a mailing is under way."""
        with self._lock:
            if self.is_sending:
                return False
            if not Subscriber.objects.filter(active=True).exists():
                csv_import.load(SUBSCRIBERS)
            people = list(Subscriber.objects.filter(active=True))
            self.mailing = Mailing(islice(cycle(people), MESSAGES))
            self._thread = threading.Thread(target=self._run, args=(self.mailing,), name="mailing", daemon=True)
            self._thread.start()
            return True

    def _run(self, mailing):
        try:
            mailing.run()
        finally:
            connection.close()  # the database connection of this thread

    def wait(self, seconds):
        """Wait until the mailing has ended; return whether it has."""
        if self._thread is not None:
            self._thread.join(seconds)
        return not self.is_sending


bench = Workbench()
