"""What the tests of metrics share: a backend that is watched, and messages that wait."""

import asyncio
import contextlib
import threading

import pytest

import django_smtp_pool.backend
from django_smtp_pool.core.events.events import Observers
from tests.aio.waiting import until
from tests.mailing import message


def pools():
    """Return the pools of the backend that the test has made."""
    return django_smtp_pool.backend.registry.pools()


def cancel_at_the_end(server, backend):
    """Cancel a task that waits for the reply to the content of its message."""

    async def main():
        server.hold("end")
        task = asyncio.create_task(backend.asend_messages([message()]))
        await until(server, lambda: server.held)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        server.release()

    asyncio.run(main())


@pytest.fixture(name="watched")
def fixture_watched(mailer):
    """Return a function that makes a backend watched by an observer."""
    return lambda server, observer, **options: mailer(server, observer=Observers([observer]), **options)


@pytest.fixture(name="held_messages")
def fixture_held_messages():
    """Return a context manager: messages are sent, each in a thread of its own, until the server holds the first."""

    @contextlib.contextmanager
    def held(server, backend, messages):
        server.hold("end")
        threads = [threading.Thread(target=backend.send_messages, args=([each],)) for each in messages]
        threads[0].start()
        assert server.wait_for(lambda: server.held)
        for thread in threads[1:]:
            thread.start()
        try:
            yield
        finally:
            server.release()
            for thread in threads:
                thread.join(30)

    return held
