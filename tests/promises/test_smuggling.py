"""Servers that refuse BDAT and read the refused chunk as commands: nobody else's words become a message of ours."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_smtp_pool import DeliveryUnknown
from django_smtp_pool.core.smtp.content import _WINDOW, Content
from tests.clocks import ServersClock
from tests.mailing import message
from tests.servers import Fault, FaultServer, faults

CODES = [452, 500, 502, 503, 552, 554]
EVIL = "MAIL FROM:<evil@example.com>\r\nRCPT TO:<victim@example.com>\r\n"
TAIL = "Subject: injected\r\n\r\nboo\r\n.\r\nQUIT\r\n"
BODIES = {
    "lines": f"RSET\r\n{EVIL}DATA\r\n{TAIL}",
    "lower case": f"rset\r\n{EVIL.lower()}data\r\n{TAIL}",
    "blanks": f"RSET\r\n{EVIL}  \tData\r\n{TAIL}",
    "with words behind it": f"RSET\r\n{EVIL}DATA now\r\n{TAIL}",
    "in the middle of a line": f"Please read the DATA\r\n{TAIL}",
    "BDAT": f"RSET\r\n{EVIL}BDAT 27 LAST\r\nSubject: injected\r\n\r\nboo\r\n\r\nQUIT\r\n",
    "BURL": f"RSET\r\n{EVIL}BURL imap://example.com/x LAST\r\nQUIT\r\n",
}
HARMLESS = f"RSET\r\n{EVIL}DATABASE\r\nUPDATE\r\n{TAIL}"


@pytest.fixture
def mailer(mailer):
    """Return a function that makes a backend with a clock of the server's."""
    return lambda server, **options: mailer(server, clock=ServersClock(server), **options)


@pytest.fixture
def server():
    """A server that offers CHUNKING, and takes what comes in whatever order."""
    with FaultServer(chunking=True, pipelining=True, patient=True) as server:
        yield server


def send(backend, mail):
    """Send a message and return the error, None for success."""
    try:
        backend.send_messages([mail])
    except OSError as error:
        return error
    return None


def only_our_own(server):
    """Tell whether the server took nothing but whole messages of ours, each for those it was for."""
    return all(
        each.recipients == ("to@example.com",) and each.content.startswith(b"Content-Type:") for each in server.accepted
    )


@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
@pytest.mark.parametrize("swallows", [0, 100, 300, 310, 333])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_content_that_could_be_read_as_a_message_goes_by_data(mailer, server, body, swallows, used):
    backend = mailer(server)
    if used:
        assert send(backend, message(1)) is None
    chunks = len(server.commands("BDAT"))
    server.refuse_bdat, server.swallows = "452 4.3.1 no", swallows
    assert send(backend, message(2, body=body)) is None
    assert len(server.commands("BDAT")) == chunks
    assert only_our_own(server)


@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("swallows", [0, 200, 290, 300, 310, 320, 10_000])
def test_what_goes_by_bdat_is_no_message_from_whatever_octet_on(mailer, server, code, swallows, used):
    backend = mailer(server, max_requeues=0)
    if used:
        assert send(backend, message(1)) is None
    server.refuse_bdat, server.swallows = f"{code} no", swallows
    mail = message(2, body=HARMLESS)
    error = send(backend, mail)
    if code in {500, 502}:
        assert error is None
        assert server.commands("DATA")[-1][1] == "DATA"
        assert mail.smtp_pool_status.attempts == 2
        said = len(server.commands("BDAT"))
        assert send(backend, message(3)) is None
        assert len(server.commands("BDAT")) == said  # none from now on
    else:
        assert error.smtp_code == code
        assert mail.smtp_pool_status.outcome == "refused"
        assert server.wait_for(lambda: server.open_now == 0)
    assert only_our_own(server)


def test_content_with_rcpt_waits_for_the_replies_to_its_commands(mailer, server):
    backend = mailer(server)
    assert send(backend, message(1)) is None
    assert send(backend, message(2)) is None
    server.hold("mail")
    server.release(1)
    assert send(backend, message(3, body="RcPt To:<x@example.com>\r\n")) is None
    before = [line.split(" ")[0] for _, line in server.commands()][-3:]
    assert before == ["MAIL", "RCPT", "BDAT"]
    assert only_our_own(server)


def test_one_shot_is_left_for_ten_minutes_after_a_connection_was_lost_under_it(mailer):
    with FaultServer(chunking=True, refuse_recipients={"no@example.com": "550 5.1.1 no"}) as server:
        backend = mailer(server)

        def goes_in_one_shot():
            """Tell by whether the content is sent to nobody; the message before makes sure that nothing has idled."""
            assert send(backend, message(1)) is None
            said = len(server.commands("BDAT"))
            assert send(backend, message(2, to=["no@example.com"])) is not None
            server.settle()
            return len(server.commands("BDAT")) > said

        assert goes_in_one_shot()
        assert send(backend, message(3)) is None
        server.fault = Fault(at="end", do=faults.reset)
        assert isinstance(send(backend, message(4)), DeliveryUnknown)
        assert not goes_in_one_shot()
        backend.pool._clock.advance(598)
        assert not goes_in_one_shot()
        backend.pool._clock.advance(3)
        assert goes_in_one_shot()


# -- the rule itself -----------------------------------------------------------------------------------


def read_as_commands(content):
    """Return the first word of every line that a server reads, from every octet of the content on."""
    for offset in range(len(content)):
        first = re.match(rb"[ \t]*(\w*)", content[offset:])[1]
        yield first.upper()


words = st.sampled_from(
    [b"DATA", b"data", b"BDAT", b"Burl", b"x", b" ", b"\t", b"\r\n", b"DATAx", b"da", b"ta", b"-", b":", b"\xe9"]
)


@given(st.lists(words, max_size=12).map(b"".join))
def test_no_line_of_a_chunk_begins_content_wherever_it_is_entered(content):
    entered = set(read_as_commands(content))
    assert Content.of(content).may_be_chunk == entered.isdisjoint({b"DATA", b"BDAT", b"BURL"})


@pytest.mark.parametrize("at", range(_WINDOW - 6, _WINDOW + 6))
@pytest.mark.parametrize(("text", "safe"), [(b"data\r\n", False), (b"database", True), (b"bdat", False)])
def test_the_word_is_found_across_the_pieces_that_are_looked_at(at, text, safe):
    assert Content.of(b"x" * at + text + b"y" * 5 * (text != b"bdat")).may_be_chunk is safe
    assert Content.of(b"x" * at + text).may_be_chunk is safe


def test_rcpt_is_found_anywhere_in_any_case():
    assert Content.of(b"xxRcPtxx").names_recipient
    assert not Content.of(b"RC PT").names_recipient
