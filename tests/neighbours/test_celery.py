"""Under Celery's prefork pool, with a real Redis: each task sends a message, while processes come and go."""

import signal

import pytest

from tests.neighbours.available import need_package
from tests.neighbours.processes import python

MESSAGES = 500
CONCURRENCY = 2
TASKS_PER_CHILD = 60

WORKER = [
    # Celery warns of root, whatever the project does; and containers and tests are root.
    *["-W", "error", "-W", "ignore:You're running the worker with superuser"],
    *["-m", "celery", "--app", "tests.neighbours.project.tasks", "worker", "--loglevel", "WARNING"],
    *["--pool", "prefork", "--concurrency", CONCURRENCY],
    *["--without-gossip", "--without-mingle", "--without-heartbeat"],
]


@pytest.fixture(name="project")
def fixture_project(make_project, request):
    """Return a project with 500 tasks in its queue."""
    need_package("celery", install="celery")
    need_package("redis", install="redis")
    project = make_project()
    project.env["BROKER"] = request.getfixturevalue("broker")
    code = f"from tests.neighbours.project.tasks import queue; queue({MESSAGES})"
    with project.start(*python("-c", code), name="queue") as process:
        assert process.wait() == 0, process.errors
    return project


def run_two_workers(project, ledger, **env):
    """End a worker in the middle of its work as a service manager does; the next one renews its processes."""
    with project.start(*python(*WORKER, strict=False), name="first", **env) as worker:
        ledger.wait_for_messages(MESSAGES // 3, worker)
        worker.signal(signal.SIGTERM)
        worker.assert_clean_end()
    left = MESSAGES - len(ledger.accepted)
    command = [*WORKER, "--max-tasks-per-child", TASKS_PER_CHILD]
    with project.start(*python(*command, strict=False), name="second", **env) as worker:
        ledger.wait_for_numbers(MESSAGES, worker)
        worker.signal(signal.SIGTERM)
        worker.assert_clean_end()
    # A task that runs while the first worker is ended, Celery may give to the second as well. A run is a message.
    runs = [int(number) for number in (project.directory / "runs").read_text().split()]
    assert sorted(ledger.numbers()) == sorted(runs)
    assert set(runs) == set(range(MESSAGES))
    assert len(runs) <= MESSAGES + CONCURRENCY
    ledger.assert_all_gone()
    # A process sends one message at a time, so it has one connection.
    assert ledger.connections <= CONCURRENCY + left // TASKS_PER_CHILD + CONCURRENCY


def test_processes_say_quit_where_told_to(project, ledger):
    run_two_workers(project, ledger)
    assert ledger.quits() == ledger.connections


def test_processes_end_without_a_word_where_not_told(project, ledger):
    run_two_workers(project, ledger, NO_FAREWELL="1")
    assert ledger.quits() == 0
