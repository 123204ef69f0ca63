"""What is recorded in memory: bounded, per pool and per process, and never at the cost of a message."""

import os
import subprocess
import sys
import textwrap
from itertools import pairwise
from types import SimpleNamespace

import pytest

from django_smtp_pool.core.errors import Outcome, PoolTimeout, RecipientsRefused
from django_smtp_pool.core.events.events import Attempted, Closed, DialFailed, Finished, LeftInDoubt, Line
from django_smtp_pool.core.replies import Reply
from django_smtp_pool.dashboard.charts import HEIGHT, chart, steps
from django_smtp_pool.dashboard.figures import duration
from django_smtp_pool.dashboard.recorder import MOST_FAILURES, MOST_WORDS, WINDOW, History, recorder, words_of
from django_smtp_pool.registry import Registry, registry
from tests.clocks import ManualClock
from tests.core.fakes import Diary
from tests.mailing import backend_for, message


def finished(outcome=Outcome.ACCEPTED, *, waited=0.0, error=None):
    delivery = SimpleNamespace(waited=waited, error=error, receipt=SimpleNamespace(refused={}))
    kind = LeftInDoubt if outcome is Outcome.UNKNOWN else Finished
    return kind(server="mail.example", outcome=outcome, delivery=delivery, envelope=None)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def history(clock):
    return History(clock=clock)


# Seconds


def test_messages_are_counted_second_by_second(history, clock):
    for waited in (0.5, 1.5):
        history.notice(finished(waited=waited))
    clock.advance(2)
    history.notice(finished(Outcome.REFUSED, error=PoolTimeout("no")))
    *_, first, between, last = history.seconds()
    assert (first.accepted, first.failed, first.waited, first.longest) == (2, 0, 2.0, 1.5)
    assert between.messages == 0
    assert (last.accepted, last.failed) == (0, 1)
    assert all(later.at == earlier.at + 1 for earlier, later in pairwise(history.seconds()))


def test_the_window_moves_on_and_never_grows(history, clock):
    for _ in range(3 * WINDOW):
        history.notice(finished())
        clock.advance(1)
    assert len(history.seconds()) == len(history._seconds) == WINDOW
    clock.advance(WINDOW)
    assert sum(each.messages for each in history.seconds()) == 0


# Failures


def test_the_same_words_are_one_failure(history):
    error = PoolTimeout("too long")
    for kind in (DialFailed, DialFailed):
        history.notice(kind(server="mail.example", error=error))
    tried = {"attempts": 1, "retry_after": 0.0, "reused": False, "delivery": None}
    history.notice(Attempted(server="mail.example", stage=None, error=error, **tried))
    history.notice(finished(Outcome.NOT_SENT, error=error))
    history.notice(finished(Outcome.UNKNOWN, error=error))
    found = {each.kind: each.times for each in history.failures()}
    assert found == {"no connection": 2, "another attempt": 1, "not sent": 1, "unknown": 1}


def test_the_last_failures_are_kept_and_cut_short(history):
    for number in range(50):
        history.notice(DialFailed(server="mail.example", error=OSError(f"{number} " + "x" * 10_000)))
    failures = history.failures()
    assert len(failures) == MOST_FAILURES
    assert failures[0].words.startswith("49 x")
    assert {len(each.words) for each in failures} == {MOST_WORDS}


def test_other_events_are_not_asked_for(history):
    assert [history.hears(kind) for kind in (Line, Closed, Finished)] == [False, False, True]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(111, "Connection refused"), "[Errno 111] Connection refused"),
        (ValueError("ann@example.com is not <an> address"), "***@*** is not <an> address"),
        (ValueError("a\x1b[31m\u202eb"), "a\\x1b[31m\\u202eb"),
        (ValueError(), "ValueError"),
    ],
)
def test_what_an_error_says_without_addresses_and_control_characters(error, words):
    assert words_of(error) == words


def test_what_the_server_said_about_several_recipients():
    no, full = Reply(code=550, lines=(b"5.1.1 No",)), Reply(code=452, lines=(b"4.2.2 Full",))
    refused = {"ann@example.com": no, "bob@example.com": no, "eve@example.com": full}
    error = RecipientsRefused({})
    error.refused = refused
    assert words_of(error) == "550 5.1.1 No; 452 4.2.2 Full"


# Charts


def test_a_chart_has_a_step_where_a_value_changes():
    assert steps([0, 0, 2, 2, 1], 2) == f"M0 {HEIGHT}H2V0H4V{HEIGHT // 2}H5V{HEIGHT}Z"
    assert steps([1000, 1], 1000).endswith(f"V{HEIGHT - 1}H2V{HEIGHT}Z"), "a little can be seen"


def test_a_chart_without_values_has_no_path():
    empty = chart(all=[0, 0], failed=[0, 0])
    assert (empty.paths, empty.top, empty.width) == ([], 0, 2)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (0.0001, "1 ms"), (0.25, "250 ms"), (59.9, "59 s"), (90, "1 min"), (7300, "2 h"), (200_000, "2 d")],
)
def test_a_duration_in_the_unit_that_suits_it(seconds, words):
    assert duration(seconds) == words


# What it costs


def test_a_failing_recorder_costs_no_message(server, monkeypatch, caplog):
    def fail(self, event):
        raise RuntimeError("a defect")

    monkeypatch.setattr(History, "notice", fail)
    letter = message()
    assert backend_for(server).send_messages([letter]) == 1
    assert letter.smtp_pool_status.outcome == "accepted"
    assert "An observer of Finished failed" in caplog.text


def test_without_a_watcher_a_pool_has_the_observer_that_it_always_had(server, clock):
    observer = Diary()
    alone = Registry(clock=clock, observer=observer)
    sender = alone.sender(backend_for(server).config.key)
    assert sender.observer is sender.connector.observer is sender.pool._observer is observer
    alone.close_all(timeout=0)


def test_a_pool_that_is_closed_and_made_again_keeps_its_history(server):
    backend = backend_for(server)
    backend.send_messages([message(1)])
    backend.pool.close()
    backend.send_messages([message(2)])
    (key,) = registry.open_pools()
    assert sum(each.messages for each in recorder.watch(key).seconds()) == 2


# Processes


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_begins_anew():
    script = """
    import os, sys
    from django.conf import settings
    from tests.dashboard.site import SETTINGS
    settings.configure(**SETTINGS, SECRET_KEY="s", USE_TZ=True)
    import django
    django.setup()
    from django_smtp_pool.dashboard.recorder import recorder
    from django_smtp_pool.registry import registry
    from django_smtp_pool.remembered import PoolKey
    from django_smtp_pool.core.options.options import PoolOptions, ServerOptions
    assert registry.watchers == [recorder.watch]
    key = PoolKey(server=ServerOptions(host="localhost"), pool=PoolOptions())
    recorder.watch(key)._add_failure("refused", "550 No")
    parent = recorder.process
    child = os.fork()
    if child == 0:
        fresh = recorder.process != parent and recorder.pid == os.getpid() and not recorder.watch(key).failures()
        os._exit(0 if fresh else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert recorder.watch(key).failures()
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
