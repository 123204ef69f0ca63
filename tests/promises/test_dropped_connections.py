"""Connections that the server drops before the end of data, one in twenty: what that costs whoever sends."""

import contextlib
import random
import smtplib

import pytest

from tests.batches.ledger import messages, misreported, outcomes
from tests.clocks import ServersClock
from tests.servers import FaultServer, faults

COUNT = 200  # messages
SHARE = 0.05  # of connections, or of all uses of one
MOST_LOST = 0.02 * COUNT
DROPS = (faults.reset, faults.fin, faults.vanish)
OPENING = ("connect", "banner", "ehlo")
MESSAGE = ("mail", "rcpt", "data", "body")  # "body": it has read some of the content, and all of it is on the way
ONE_BY_ONE = ("LIMITS MAILMAX=1",)  # a connection for each message

every_way = pytest.mark.parametrize("way", ["single", "batch"])
by_data_or_chunk = pytest.mark.parametrize("chunking", [False, True], ids=["DATA", "BDAT"])
several_seeds = pytest.mark.parametrize("seed", range(6))


class Drops:
    """Drops its share of all uses of a connection, each at one random point; the same ones for the same seed."""

    def __init__(self, server, seed):
        self._server, self._seed = server, seed

    def pick(self, moment):
        """Return what is to be done at this moment, or None."""
        session = next((each for each in list(self._server.sessions) if each.number == moment.connection), None)
        if session is None:  # it has just ended
            return None
        draw = random.Random(f"{self._seed}/{moment.connection}/{session.delivered}")
        points = MESSAGE if session.delivered else OPENING + MESSAGE
        is_dropped, point, how = draw.random() < SHARE, draw.choice(points), draw.choice(DROPS)
        return how if is_dropped and point in moment.points else None


def what_became(mailer, server, seed, way):
    """Send messages with default options, and return the outcome of each."""
    server.fault = Drops(server, seed)
    backend = mailer(server, clock=ServersClock(server))
    batch = messages(COUNT)
    for part in [batch] if way == "batch" else [[mail] for mail in batch]:
        with contextlib.suppress(smtplib.SMTPException):  # it is in their status
            backend.send_messages(part)
    assert misreported(server, batch) == []
    return outcomes(batch)


@several_seeds
@every_way
@by_data_or_chunk
def test_at_most_two_messages_in_a_hundred_are_lost(mailer, chunking, way, seed):
    """Those that were not sent and those in doubt together, where one connection in twenty is dropped."""
    with FaultServer(chunking=chunking, extensions=ONE_BY_ONE) as server:
        told = what_became(mailer, server, seed, way)
        assert server.connections >= COUNT
        assert len(server.struck) >= SHARE * COUNT / 2
        assert COUNT - told.count("accepted") <= MOST_LOST


@several_seeds
@every_way
@by_data_or_chunk
def test_only_what_nobody_can_know_is_lost(mailer, chunking, way, seed):
    """Where one message in twenty meets a drop: those whose last octet had left, and each of them is told as such."""
    with FaultServer(chunking=chunking) as server:
        told = what_became(mailer, server, seed, way)
        dropped_in_content = sum(each.point == "body" for each in server.struck)
    # In one shot everything leaves at once. The first connection that is lost so is the last; a batch has five.
    in_one_shot = 0 if not chunking else 1 if way == "single" else 5
    assert server.struck
    assert set(told) == {"accepted", "unknown"}
    assert told.count("unknown") <= dropped_in_content + in_one_shot
