"""A metrics library can neither stop a message nor make it fail, and a forked child has locks of its own."""

import threading

from django_smtp_pool.core.errors import Outcome
from django_smtp_pool.core.events.events import Finished, Observers
from django_smtp_pool.metrics import intake
from django_smtp_pool.metrics.intake import Intake
from tests.mailing import message
from tests.registry.test_processes import fork, ran


class Library(Intake):
    """What stands for a library: it does `work` for each message."""

    def __init__(self, work):
        super().__init__()
        self.work = work
        self.taken = []

    def _seen(self, event):
        return event if isinstance(event, Finished) else None

    def _take(self, seen):
        if seen is not None:
            self.work(seen)
            self.taken.append(seen.outcome)


def test_a_library_that_fails_changes_no_outcome(server, watched):
    def work(seen):
        raise RuntimeError

    mail = message()
    assert watched(server, Library(work)).send_messages([mail, message(2)]) == 2
    assert mail.smtp_pool_status.outcome == "accepted"


def test_mail_that_is_sent_inside_the_library_waits_for_no_lock(server, watched):
    """As a finaliser or a signal handler does that runs while the library has its lock."""
    mails = [message(2), message(3)]

    def work(seen):
        if mails:
            assert backend.send_messages([mails.pop()]) == 1

    library = Library(work)
    backend = watched(server, library)
    assert backend.send_messages([message(1)]) == 1
    assert library.taken == [Outcome.ACCEPTED] * 3


def test_a_message_does_not_wait_for_a_library_that_another_thread_is_in(server, watched):
    inside, go_on = threading.Event(), threading.Event()

    def work(seen):
        inside.set()
        assert go_on.wait(30)

    library = Library(work)
    backend = watched(server, library)
    slow = threading.Thread(target=backend.send_messages, args=([message(1)],))
    slow.start()
    assert inside.wait(30)
    assert backend.send_messages([message(2)]) == 1
    assert library.taken == []
    go_on.set()
    slow.join(30)
    assert library.taken == [Outcome.ACCEPTED] * 2


def test_one_message_passes_on_so_many_at_most(server):
    library = Library(lambda seen: None)
    with library.lock:
        for _ in range(3 * intake.AT_ONCE):
            library.notice(Finished(server="s", outcome=Outcome.ACCEPTED, delivery=None, envelope=None))
    library.pass_on()
    assert len(library.taken) == intake.AT_ONCE


@fork
def test_a_child_forked_while_a_thread_is_in_the_library(server):
    """The child counts its own messages, and the parent's event is not lost."""
    ran(
        server,
        """
from django_smtp_pool.metrics.intake import Intake
from django_smtp_pool.registry import observers
inside, go_on = threading.Event(), threading.Event()
class Library(Intake):
    taken = []
    def _seen(self, event):
        return type(event).__name__
    def _take(self, seen):
        if os.getpid() == parent:
            inside.set()
            assert go_on.wait(30)
        self.taken.append(seen)
parent, library = os.getpid(), Library()
observers.add(library)
thread = threading.Thread(target=send)
thread.start()
assert inside.wait(30)
import warnings
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the thread
    pid = os.fork()
if pid == 0:
    send("child")
    os._exit(0 if library.taken == ["Opened", "Finished"] else 1)
wait_for(pid)
go_on.set()
thread.join()
assert library.taken == ["Opened", "Finished"], library.taken
""",
    )
    assert len(server.accepted) == 2


@fork
def test_a_fork_holds_the_library_and_lets_go_in_the_parent():
    library = Library(lambda seen: None)
    intake._hold()
    assert not library.lock.acquire(blocking=False)
    library.notice(Finished(server="s", outcome=Outcome.ACCEPTED, delivery=None, envelope=None))
    assert library.taken == []
    intake._let_go()
    assert library.taken == [Outcome.ACCEPTED]


def test_a_lock_that_nobody_lets_go_of_is_given_up():
    """An interrupt may strike between taking it and the line that sees to its release."""
    library, event = Library(lambda seen: None), Finished(server="s", outcome=None, delivery=None, envelope=None)
    library.lock.acquire()
    for _ in range(intake.BACKLOG - 1):
        library.notice(event)
    assert library.taken == []
    library.notice(event)
    assert len(library.taken) == intake.AT_ONCE


def test_an_observer_that_is_added_late_sees_existing_pools(server, mailer):
    library, observers = Library(lambda seen: None), Observers([])
    backend = mailer(server, observer=observers)
    backend.send_messages([message(1)])
    observers.add(library)
    backend.send_messages([message(2)])
    assert library.taken == [Outcome.ACCEPTED]


def test_nothing_is_heard_but_what_is_measured():
    from django_smtp_pool.core.events.events import Line

    library = Library(lambda seen: None)
    assert not library.hears(Line)
    assert library.hears(Finished)
