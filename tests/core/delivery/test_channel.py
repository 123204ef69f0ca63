"""Dialogues over socket pairs: deadlines, long groups, early replies, and what counts as said."""

import contextlib
import socket

import pytest

from django_smtp_pool.core.clock import SystemClock
from django_smtp_pool.core.drivers.side_by_side import StoppableClock
from django_smtp_pool.core.errors import (
    ConnectionLost,
    DeliveryUnknown,
    Outcome,
    ProtocolError,
    ReplyTimeout,
    SenderRefused,
    Stage,
)
from django_smtp_pool.core.net.transport import Transport
from django_smtp_pool.core.smtp.content import Content
from django_smtp_pool.core.smtp.delivery import Session, deliver
from django_smtp_pool.core.smtp.envelope import Envelope
from django_smtp_pool.core.smtp.extensions import Extensions, fit
from django_smtp_pool.core.smtp.session import noop, quit_politely, say_hello
from django_smtp_pool.core.smtp.steps import Patience, Say, SecureChannel
from tests.clocks import LeapingClock, ManualClock
from tests.core.fakes import in_thread
from tests.running import Channel, Run, run_many, run_one
from tests.servers.certificates import certificates

PATIENCE = {Patience.CONNECT: 30.0, Patience.GREETING: 20.0, Patience.COMMAND: 10.0, Patience.VERDICT: 120.0}
GO_ON = b"250 ok\r\n250 ok\r\n354 go\r\n"


@contextlib.contextmanager
def session(*, buffers=None):
    """Yield a channel and the server's socket."""
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs) if buffers else ():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
    channel = Channel(transport=Transport(ours))
    try:
        yield channel, theirs
    finally:
        channel.close()
        theirs.close()


def run_of(dialogue, channel, clock, **how):
    return Run(dialogue, channel, clock=clock, patience=PATIENCE, **how)


def delivery(channel, clock, *, content=b"hi\r\n", to=("b@x",), deadline=None):
    envelope = Envelope(sender="a@x", recipients=to, content=Content.of(content))
    extensions = Extensions(pipelining=True)
    return run_of(
        deliver(Session(extensions=extensions), envelope, fit(extensions, envelope)), channel, clock, deadline=deadline
    )


def told_to_go_on(run, server):
    """Return a run, its group answered, that has begun with the content."""
    run.start()
    server.send(GO_ON)
    run.advance()
    return run


def said(sock):
    """Return what lies in the server's socket."""
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        return sock.recv(2**20)
    return b""


# Deadlines


@pytest.mark.parametrize("dialogue", [say_hello("c"), noop()], ids=["EHLO", "NOOP"])
def test_a_server_that_is_silent_is_waited_for_as_long_as_it_may_be(dialogue):
    clock = LeapingClock()
    with session() as (channel, _):
        run = run_of(dialogue, channel, clock)
        with pytest.raises(ReplyTimeout, match=r"timed out after (10|20)\.0 s waiting for (EHLO|NOOP)"):
            run_one(run, clock)


def test_a_dripping_reply_has_one_deadline():
    """No single wait is long, and yet the reply comes too late."""
    clock = ManualClock()
    with session() as (channel, server):
        run = run_of(noop(), channel, clock)
        run.start()
        deadline = run.until
        for octet in b"250-drip":
            server.send(bytes([octet]))
            clock.advance(1)
            run.advance()
            assert run.until == deadline
        assert not run.done


def test_each_reply_of_a_group_has_a_deadline_of_its_own():
    clock = ManualClock()
    with session() as (channel, server):
        run = delivery(channel, clock)
        run.start()
        clock.advance(9)
        server.send(b"250 ok\r\n")
        run.advance()
        assert run.until == clock.monotonic() + 10


def test_the_verdict_is_waited_for_longer_and_beyond_the_deadline_of_the_message():
    clock = ManualClock()
    with session() as (channel, server):
        run = delivery(channel, clock, deadline=clock.monotonic() + 5)
        run.start()
        assert run.until == clock.monotonic() + 5
        server.send(GO_ON)
        run.advance()
        assert said(server).endswith(b"hi\r\n.\r\n")
        assert run.until == clock.monotonic() + 120


def test_the_deadline_of_the_message_cuts_the_writing_of_its_content():
    clock = LeapingClock()
    with session() as (channel, server):
        run = delivery(channel, clock, content=b"x" * 2**24, deadline=clock.monotonic() + 5)
        run = told_to_go_on(run, server)
        before = clock.monotonic()
        with pytest.raises(ReplyTimeout) as caught:
            run_one(run, clock)
        assert clock.monotonic() - before == 5
        assert (caught.value.outcome, caught.value.stage) == (Outcome.NOT_SENT, Stage.CONTENT)


def test_a_server_that_takes_nothing_is_given_up():
    clock = LeapingClock()
    with session() as (channel, server):
        run = told_to_go_on(delivery(channel, clock, content=b"x" * 2**24), server)
        before = clock.monotonic()
        with pytest.raises(ReplyTimeout):
            run_one(run, clock)
        assert clock.monotonic() - before == 10


def test_a_server_that_takes_a_little_at_a_time_is_given_up_at_last():
    """Not later than the time-out and a second for each kilobyte."""
    clock = ManualClock()
    with session() as (channel, server):
        size = 2**22
        run = told_to_go_on(delivery(channel, clock, content=b"x" * size), server)
        begun = clock.monotonic()
        while not run.done:
            assert run.until <= begun + 10 + (size + 10) / 1000
            clock.advance(9)
            server.recv(16)
            run.advance()
        with pytest.raises(ReplyTimeout):
            run.result()


def test_the_callers_time_is_not_that_of_a_server_that_takes_a_little_at_a_time():
    """A fresh look hands over what the server has made room for, which is not the rest of the content."""
    clock = ManualClock()
    theirs = StoppableClock(clock)
    with session(buffers=4096) as (channel, server):
        run = told_to_go_on(delivery(channel, theirs, content=(b"y" * 78 + b"\r\n") * 500), server)
        for _ in range(3):  # the server may take 10 + 40 seconds altogether
            clock.advance(1)
            theirs.move_on()
            clock.advance(3600)
            theirs.move_on(most=0)
            assert said(server)
            run.advance()
            assert run.need.hold_until > theirs.monotonic(), "it is being written, and not given up"
        clock.advance(10)
        theirs.move_on()
        run.advance()
        with pytest.raises(ReplyTimeout):
            run.result()


def test_a_deadline_is_missed_only_if_a_fresh_look_finds_nothing():
    """Time that user code has spent is not the server's."""
    clock = ManualClock()

    class Late(ManualClock):
        def wait(self, block, timeout):
            server.send(b"250 ok\r\n")
            self.advance(3600)
            return block(0) and []

    with session() as (channel, server):
        assert run_one(run_of(noop(), channel, late := Late()), late).code == 250
    assert clock.monotonic() == 1000


def test_many_look_once_more_as_well():
    class Late(ManualClock):
        def wait(self, block, timeout):
            server.send(b"221 bye\r\n")
            self.advance(3600)
            return []

    late = Late()
    with session() as (channel, server):
        run = run_of(noop(), channel, late)
        run_many([run], late)
        assert run.result().code == 221


def test_many_are_bounded_by_the_deadline_of_each():
    clock = LeapingClock()
    with session() as (one, _), session() as (other, server):
        server.send(b"")
        runs = [run_of(quit_politely(), each, clock, deadline=clock.monotonic() + 2) for each in (one, other)]
        before = clock.monotonic()
        run_many(runs, clock)
        assert clock.monotonic() - before == 2
        assert all(run.done for run in runs)


# Writing and reading at the same time


@pytest.mark.parametrize("buffers", [1, 2048])
def test_a_long_group_never_dead_locks(buffers):
    """The server answers each command at once, and reads no further until its answer has gone."""
    clock = ManualClock()
    recipients = tuple(f"recipient-{number}@example.com" for number in range(1000))

    def serve(sock):
        with sock.makefile("rb", buffering=0) as lines:
            for line in lines:
                if line == b".\r\n":
                    sock.sendall(b"250 queued\r\n")
                    return
                if line.startswith((b"MAIL", b"RCPT", b"DATA")):
                    reply = b"354 go\r\n" if line == b"DATA\r\n" else b"250-" + b"x" * 200 + b"\r\n250 ok\r\n"
                    sock.sendall(reply)

    with session(buffers=buffers) as (channel, server):
        serving = in_thread(serve, server)
        receipt = run_one(delivery(channel, clock, to=recipients), clock)
        serving.join()
    assert receipt.accepted == recipients


def test_a_reply_in_the_middle_of_the_content_is_heard_at_once():
    clock = ManualClock()
    with session() as (channel, server):
        run = told_to_go_on(delivery(channel, clock, content=b"x" * 2**24), server)
        server.send(b"552 5.3.4 too much\r\n")
        run.advance()
        assert run.done
        with pytest.raises(Exception, match=r"too much") as caught:
            run.result()
    assert (caught.value.outcome, caught.value.session_survives) == (Outcome.NOT_SENT, False)


def test_what_the_server_said_before_it_hung_up_is_heard():
    clock = ManualClock()
    with session() as (channel, server):
        run = delivery(channel, clock, to=tuple(f"{n}@x" for n in range(5)))
        run.start()
        server.send(b"421 4.7.0 too many errors\r\n")
        server.close()
        run.advance()
        with pytest.raises(SenderRefused, match=r"421"):
            run.result()


def test_a_421_ends_the_wait_for_the_rest_of_a_group():
    clock = ManualClock()
    with session() as (channel, server):
        run = delivery(channel, clock)
        run.start()
        server.send(b"421 bye\r\n")
        run.advance()
        assert run.done


# Unasked


@pytest.mark.parametrize("octets", [b"421 4.4.2 bye\r\n", b"250 ok\r\n", b"25", b"garbage\r\n"])
def test_what_comes_unasked_is_not_taken_for_the_answer(octets):
    clock = ManualClock()
    with session() as (channel, server):
        server.send(octets)
        with pytest.raises(ProtocolError) as caught:
            run_one(delivery(channel, clock), clock)
        assert caught.value.outcome is Outcome.NOT_SENT
        assert said(server) == b""


@pytest.mark.parametrize("is_quiet", [False, True])
def test_a_look_just_before_holds_for_the_first_command(is_quiet, monkeypatch):
    clock, looks = ManualClock(), []

    def twice():
        for line in (b"NOOP one\r\n", b"NOOP two\r\n"):
            yield Say(pieces=(line,), stage=Stage.RSET)

    with session() as (channel, server):
        receive = channel.transport.receive
        monkeypatch.setattr(channel.transport, "receive", lambda: looks.append(said(server)) or receive())
        run = run_of(twice(), channel, clock, is_quiet=is_quiet)
        for _ in range(2):
            run.advance()
            server.send(b"250 ok\r\n")
        run.advance()
        assert run.done
    first = [] if is_quiet else [b""]  # a look before anything was said
    assert looks == [*first, b"NOOP one\r\n", b"", b"NOOP two\r\n"]


def test_octets_in_clear_behind_starttls_abort():
    """An attacker's, to be read as the server's words under TLS."""
    clock = ManualClock()

    def secure():
        yield Say(pieces=(b"STARTTLS\r\n",), stage=Stage.STARTTLS)
        yield SecureChannel(server_hostname="localhost")

    with session() as (channel, server):
        server.send(b"")
        run = run_of(secure(), channel, clock, tls=certificates().client_context())
        run.start()
        server.send(b"220 go\r\n250 AUTH PLAIN\r\n")
        run.advance()
        with pytest.raises(ProtocolError, match=r"unrequested"):
            run.result()
        assert said(server) == b"STARTTLS\r\n"


def test_one_reply_too_many_keeps_the_acceptance_and_is_seen():
    clock = ManualClock()
    with session() as (channel, server):
        run = told_to_go_on(delivery(channel, clock), server)
        server.send(b"250 queued\r\n250 what\r\n")
        run.advance()
        assert str(run.result().reply) == "250 queued"
        assert not channel.in_step


# Doubt


@pytest.mark.parametrize(
    "end", [b"", b"250", b"250 ok", b"250-ok\r\n", b"what\r\n", b"250-a\r\n550 b\r\n", b"150 x\r\n"]
)
def test_no_complete_reply_to_the_end_of_data_is_unknown(end):
    clock = ManualClock()
    with session() as (channel, server):
        run = told_to_go_on(delivery(channel, clock), server)
        said(server)
        server.send(end)
        server.close()
        run.advance()
        with pytest.raises(DeliveryUnknown):
            run.result()


def test_a_time_out_behind_the_dot_is_unknown():
    clock = LeapingClock()
    with session() as (channel, server):
        run = told_to_go_on(delivery(channel, clock), server)
        said(server)
        with pytest.raises(DeliveryUnknown):
            run_one(run, clock)


def test_lost_while_the_content_is_written_is_not_sent():
    clock = ManualClock()
    with session() as (channel, server):
        run = told_to_go_on(delivery(channel, clock, content=b"x" * 2**24), server)
        server.close()
        run.advance()
        with pytest.raises(ConnectionLost) as caught:
            run.result()
        assert caught.value.outcome is Outcome.NOT_SENT


@pytest.mark.parametrize(("answer", "outcome"), [(GO_ON, Outcome.UNKNOWN), (b"250 ok\r\n", None)])
def test_an_interrupt_closes_at_once_and_says_what_is_in_doubt(answer, outcome):
    class Interrupted(ManualClock):
        def wait(self, block, timeout):
            block(0)
            if self.waits:
                raise KeyboardInterrupt
            self.waits.append(timeout)
            server.send(answer)
            return []

    with session() as (channel, server):
        clock = Interrupted()
        with pytest.raises(KeyboardInterrupt):
            run_one(delivery(channel, clock), clock)
        heard = said(server)
        assert channel.in_doubt is (outcome is Outcome.UNKNOWN)
        channel.close()
        assert b"QUIT" not in heard
        assert channel.transport.fileno() == -1


# Secrets


def test_the_trace_masks_secrets_and_content():
    clock, lines = ManualClock(), []

    def dialogue():
        yield Say(pieces=(b"AUTH PLAIN c2VjcmV0\r\n",), stage=Stage.AUTH, masked="AUTH PLAIN ***")
        yield Say(pieces=(b"dear diary\r\n", b".\r\n"), stage=Stage.CONTENT)

    with session() as (channel, server):
        run = run_of(dialogue(), channel, clock, trace=lambda said, line: lines.append((said, line)))
        run.start()
        server.send(b"235 \x1bwelcome\r\n")
        run.advance()
        server.send(b"250 ok\r\n")
        run.advance()
    assert lines == [(True, "AUTH PLAIN ***"), (False, "235 \\x1bwelcome"), (True, "<15 octets>"), (False, "250 ok")]


# Real time


def test_a_time_out_of_years_is_no_error():
    with session() as (channel, server):
        answering = in_thread(lambda: (server.recv(100), server.send(b"250 ok\r\n")))
        years = dict.fromkeys(Patience, 10.0**9)
        assert run_one(Run(noop(), channel, clock=SystemClock(), patience=years), SystemClock()).code == 250
        answering.join()
