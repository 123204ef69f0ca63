"""The driver of many generators: its clock, while it is busy."""

import selectors
import socket
from contextlib import ExitStack

from django_smtp_pool.core.drivers import side_by_side
from django_smtp_pool.core.needs import Wait
from tests.clocks import ManualClock

END = 1010.0


def test_a_silent_server_is_given_up_although_others_are_busy_all_the_time():
    """Each of them is quick, but a round of all of them takes longer than a single one may."""
    system = ManualClock()
    clock = side_by_side.StoppableClock(system)

    def silent(sock):
        until = clock.monotonic() + 0.5
        while clock.monotonic() < until and system.monotonic() < END:
            yield Wait(((sock, selectors.EVENT_READ),), until)

    def busy(sock):
        while True:
            system.advance(0.004)
            yield Wait(((sock, selectors.EVENT_READ),), clock.monotonic() + 60)

    with ExitStack() as stack:
        pairs = [[stack.enter_context(end) for end in socket.socketpair()] for _ in range(6)]
        for _, theirs in pairs[1:]:
            theirs.send(b"x")
        main = silent(pairs[0][0])
        side_by_side.run([main, *(busy(ours) for ours, _ in pairs[1:])], clock, main=main)
    assert system.monotonic() < 1001
