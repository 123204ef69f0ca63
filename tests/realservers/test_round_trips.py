"""Round trips to real servers, counted between them and us."""

import pytest

from tests.servers.counting import CountingProxy

from .mailer import a_message, backend
from .server import MailServer


@pytest.mark.parametrize(
    ("changed", "expected"),
    [({}, 1), ({"chunking": False}, 2), ({"chunking": False, "pipelining": False}, 4)],
    ids=["CHUNKING", "PIPELINING", "neither"],
)
def test_a_warm_message(server: MailServer, changed: dict[str, bool], expected: int) -> None:
    with CountingProxy(server) as proxy:
        ours = backend(server, port=proxy.port, **changed)
        assert ours.send_messages([a_message(1)]) == 1
        counts = []
        for number in (2, 3, 4):
            before = sum(proxy.turns)
            assert ours.send_messages([a_message(number)]) == 1
            counts.append(sum(proxy.turns) - before)
    assert counts == [expected] * 3
    assert len(proxy.turns) == 1
    server.wait_for_mails(4)
