"""Nothing of ours holds the loop: no step takes 5 ms of CPU, and none blocks."""

import asyncio
import time

import pytest

from tests.mailing import backend_for, message
from tests.servers import FaultServer
from tests.servers.certificates import certificates

LONGEST_STEP = 0.005
ROUNDS = 5
MOST = 20_000_000  # octets that one step may free: a message of 5 MB in 8 bits, and what it was encoded to


class Timed(asyncio.SelectorEventLoop):
    """Measures the CPU time of each step, which a busy machine does not lengthen."""

    def __init__(self):
        super().__init__()
        self.longest = 0.0

    def call_soon(self, callback, *arguments, context=None):
        """Have the step measured."""
        return super().call_soon(self._timed, callback, *arguments, context=context)

    def _add_reader(self, fd, callback, *arguments):
        return super()._add_reader(fd, self._timed, callback, *arguments)

    def _timed(self, callback, *arguments):
        began = time.thread_time()
        try:
            callback(*arguments)
        finally:
            self.longest = max(self.longest, time.thread_time() - began)


def allowed():
    """Return 5 ms, or more while the machine takes that long to hand out and take back memory."""
    return max(LONGEST_STEP, 3 * min(_seconds_to_fill() for _ in range(ROUNDS)))


def _seconds_to_fill():
    began = time.thread_time()
    b"x" * MOST
    return time.thread_time() - began


def longest_step(backend, messages):
    """Return the longest step of sending, in the round where it was shortest: a process has more to do."""
    return min(_longest_step(backend, messages) for _ in range(ROUNDS))


def _longest_step(backend, messages):
    loop = Timed()
    try:
        assert loop.run_until_complete(backend.asend_messages(messages)) == len(messages)
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
    return loop.longest


CASES = {
    "200 small": [message(number) for number in range(200)],
    "64 kB": [message(number, body=("y" * 70 + "\n") * 900) for number in range(10)],
    "5 MB": [message(number, body=("y" * 70 + "\n") * 70000) for number in range(2)],
    "5 MB in 8 bits": [message(number, body=("ä" * 30 + "\n") * 70000) for number in range(2)],
    "one of 5 MB": [message(1, body=("y" * 70 + "\n") * 70000)],
}


@pytest.mark.parametrize("chunking", [False, True], ids=["DATA", "BDAT"])
@pytest.mark.parametrize("name", CASES)
def test_no_step_takes_long(name, chunking):
    with FaultServer(chunking=chunking) as server:
        assert longest_step(backend_for(server, max_connections=3), CASES[name]) < allowed()


def test_a_server_that_takes_seven_bits_only():
    with FaultServer(extensions=("SIZE 50000000",)) as server:
        assert longest_step(backend_for(server), CASES["5 MB in 8 bits"]) < allowed()


def test_nothing_blocks(tmp_path):
    blockbuster = pytest.importorskip("blockbuster")
    authority = certificates().write_authority(tmp_path)
    with FaultServer(starttls=certificates().server_context(), require_auth=True) as server:
        options = {
            "use_tls": True,
            "tls_options": {"ca_file": str(authority)},
            "username": "user",
            "password": "secret",
        }
        backend = backend_for(server, max_connections=2, **{**options, "host": "localhost"})

        async def main():
            with blockbuster.blockbuster_ctx():
                assert await backend.asend_messages([message(1)]) == 1
                assert await backend.asend_messages([message(number) for number in range(10)]) == 10

        asyncio.run(main())
