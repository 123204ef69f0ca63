"""Batches over a server that fails anywhere, in any way: what is told of each message is what became of it."""

import smtplib

import pytest

from tests.batches.ledger import QUIET, messages, misreported, outcomes, taken
from tests.clocks import ServersClock
from tests.servers import FaultServer, RandomFaults


@pytest.mark.parametrize("width", [1, 5])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelining", "one-by-one"])
def test_nothing_is_lost_duplicated_or_misreported(mailer, seed, width, pipelining):
    with FaultServer(fault=RandomFaults(rate=0.03, seed=seed), pipelining=pipelining) as server:
        backend = mailer(
            server, clock=ServersClock(server), max_connections=width, max_requeues=20, delivery_timeout=36000
        )
        batch = messages(50)
        failures = {}
        try:
            assert backend.send_messages(batch) == 50
        except (smtplib.SMTPException, OSError) as error:
            failures = error.failures
        told = outcomes(batch)
        assert list(failures) == [number for number, each in enumerate(told) if each not in ("accepted", None)]
        assert misreported(server, batch) == []
        assert max(taken(server).values()) == 1
        numbers = backend.pool.stats()
        assert {"connecting": numbers.connecting, "busy": numbers.busy, "waiting": numbers.waiting} == QUIET
        assert told.count("accepted") >= 25
