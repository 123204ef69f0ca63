"""The race of addresses: who starts when, who wins, and what is said when all fail. Real sockets, and time by hand."""

import contextlib
import errno
import functools
import math
import socket
import threading

import pytest

from django_smtp_pool.core.delivery import channel as channels_of
from django_smtp_pool.core.drivers.side_by_side import StoppableClock
from django_smtp_pool.core.errors import Stage
from django_smtp_pool.core.net import sockets as net_sockets
from django_smtp_pool.core.net.connect import Dial
from django_smtp_pool.core.net.happy_eyeballs import ATTEMPT_DELAY, Race
from django_smtp_pool.core.net.resolve import interleaved
from django_smtp_pool.core.options.host import Target
from django_smtp_pool.core.smtp.steps import Connect, Patience
from tests import ports
from tests.clocks import ManualClock
from tests.core.troubles import trouble
from tests.mailing import backend_for, message
from tests.running import Channel, Run, run_many, run_one, wait_for
from tests.servers import FaultServer

NOW = 1000.0
NAME = "mail.example port 25"
PATIENCE = dict.fromkeys(Patience, 30.0)
NO_ROUTE = (socket.AF_INET, ("255.255.255.255", 25))  # Linux: no TCP to a broadcast address, "Network is unreachable"


def four(address):
    return socket.AF_INET, address


@contextlib.contextmanager
def good(host="127.0.0.1"):
    """Yield an address that answers."""
    with socket.create_server((host, 0)) as listener:
        yield four(listener.getsockname())


@contextlib.contextmanager
def silent(host="127.0.0.1"):
    """Yield an address that does not: its queue is full, so what asks for a connection is dropped."""
    with socket.socket() as listener, contextlib.ExitStack() as opened:
        listener.bind((host, 0))
        listener.listen(0)
        opened.enter_context(socket.create_connection(listener.getsockname()))
        yield four(listener.getsockname())


@pytest.fixture
def refusing():
    """Return a function that makes addresses that nobody listens on until the test ends."""
    with contextlib.ExitStack() as held:
        yield lambda host="127.0.0.1": four(held.enter_context(ports.refusing(host)))


@contextlib.contextmanager
def race(*addresses, source=None):
    racing = Race(NAME, addresses, source)
    try:
        yield racing
    finally:
        racing.close()


def tracked():
    return {sock for sock in net_sockets._sockets.values() if sock.fileno() >= 0}


def failed(racing, now=NOW):
    with trouble(OSError) as caught:
        advanced(racing, now)
    return caught.value


def advanced(racing, now):
    """Advance until there is a result or nothing under way that ends by itself: a refusal may take a moment."""
    clock = ManualClock()
    while (sock := racing.advance(now)) is None:
        wait_for(racing.watched, 30, clock)
    return sock


# Order


def test_the_families_take_turns_in_the_resolvers_order():
    six = [(socket.AF_INET6, (f"2001:db8::{number}", 25, 0, 0)) for number in range(3)]
    fours = [four((f"192.0.2.{number}", 25)) for number in range(2)]
    assert interleaved([*six, *fours]) == [six[0], fours[0], six[1], fours[1], six[2]]
    assert interleaved([*fours, *six]) == [fours[0], six[0], fours[1], six[1], six[2]]
    assert interleaved([]) == []


# Who starts when


def test_the_next_attempt_starts_while_the_last_is_under_way():
    with (
        silent() as first,
        silent("127.0.0.2") as second,
        silent("127.0.0.3") as third,
        race(first, second, third) as it,
    ):
        assert it.advance(NOW) is None
        assert (len(it.watched), it.wake_at) == (1, NOW + ATTEMPT_DELAY)
        assert it.advance(NOW + ATTEMPT_DELAY - 0.001) is None
        assert len(it.watched) == 1
        assert it.advance(NOW + ATTEMPT_DELAY) is None
        assert (len(it.watched), it.wake_at) == (2, NOW + 2 * ATTEMPT_DELAY)
        assert it.advance(NOW + 2 * ATTEMPT_DELAY) is None
        assert (len(it.watched), it.wake_at) == (3, math.inf)
        assert it.progress.startswith(f"connecting to {NAME} (127.0.0.1: no answer; 127.0.0.2: no answer; ")


def test_an_attempt_that_fails_is_followed_at_once(refusing):
    with good() as answering, race(refusing(), refusing("127.0.0.2"), answering) as it:
        assert advanced(it, NOW).getpeername() == answering[1]


def test_a_late_look_starts_one_attempt_only():
    with (
        silent() as first,
        silent("127.0.0.2") as second,
        silent("127.0.0.3") as third,
        race(first, second, third) as it,
    ):
        it.advance(NOW)
        it.advance(NOW + 60)
        assert (len(it.watched), it.wake_at) == (2, NOW + 60 + ATTEMPT_DELAY)


def test_a_late_look_sees_who_has_connected_before_it_starts_another():
    with good() as first, good("127.0.0.2") as second, race(first, second) as it:
        it._start(NOW)
        assert it.advance(NOW + 60).getpeername() == first[1]
        assert len(it.watched) == 1


# Who wins


def test_a_silent_address_costs_a_quarter_of_a_second_and_nothing_stays_open():
    before = tracked()
    with silent() as first, good("127.0.0.2") as second, race(first, second) as it:
        assert it.advance(NOW) is None
        sock = advanced(it, NOW + ATTEMPT_DELAY)
        assert sock.getpeername() == second[1]
        assert tracked() - before == {sock}
    assert not tracked() - before


def test_giving_up_closes_every_attempt():
    before = tracked()
    with silent() as first, silent("127.0.0.2") as second, race(first, second) as it:
        it.advance(NOW)
        it.advance(NOW + 1)
        assert len(tracked() - before) == 2
    assert not tracked() - before


# When all fail


def test_one_reason_for_one_address(refusing):
    address = refusing()
    with race(address) as it:
        error = failed(it)
    assert isinstance(error, ConnectionRefusedError)
    assert error.is_final
    assert str(error) == f"[Errno {errno.ECONNREFUSED}] could not connect to {NAME}: Connection refused"


def test_several_addresses_that_refuse(refusing):
    with race(refusing(), refusing("127.0.0.2")) as it:
        error = failed(it)
    assert isinstance(error, ConnectionRefusedError)
    assert error.is_final
    assert str(error).endswith(": Connection refused (127.0.0.1, 127.0.0.2)")


@pytest.mark.parametrize("turned", [False, True])
def test_a_family_that_this_machine_does_not_have_says_nothing_of_the_server(refusing, turned):
    addresses = [NO_ROUTE, refusing()]
    with race(*(reversed(addresses) if turned else addresses)) as it:
        error = failed(it)
    assert isinstance(error, ConnectionRefusedError)
    assert error.is_final
    assert "Network is unreachable (255.255.255.255)" in str(error)
    assert "Connection refused (127.0.0.1)" in str(error)


def test_no_network_at_all_may_pass():
    with race(NO_ROUTE) as it:
        error = failed(it)
    assert error.errno == errno.ENETUNREACH
    assert not error.is_final


def test_no_address_at_all():
    with race() as it:
        error = failed(it)
    assert "the name has no address" in str(error)
    assert not error.is_final


# The address to connect from


def test_the_source_address_is_what_the_server_sees():
    with good() as address, race(address, source=("127.0.0.9", 0)) as it:
        assert advanced(it, NOW).getsockname()[0] == "127.0.0.9"


def test_addresses_of_another_family_than_the_source_address_are_left_out():
    six = (socket.AF_INET6, ("::1", 25, 0, 0))
    with good() as address, race(six, address, source=("127.0.0.1", 0)) as it:
        assert advanced(it, NOW).getpeername() == address[1]
    with race(six, source=("127.0.0.1", 0)) as it:
        error = failed(it)
    assert error.is_final
    assert "source_address 127.0.0.1 has another address family than ::1" in str(error)


def test_a_source_address_that_is_not_this_machines():
    with good() as address, race(address, source=("192.0.2.77", 0)) as it:
        error = failed(it)
    assert error.errno == errno.EADDRNOTAVAIL


def test_one_local_port_is_used_by_one_attempt_at_a_time():
    with silent() as first, good("127.0.0.2") as second, race(first, second, source=ports.free()) as it:
        assert it.advance(NOW) is None
        assert it.wake_at == math.inf
        assert it.advance(NOW + 60) is None
        assert len(it.watched) == 1


# IPv6


def has_ipv6():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 on its loopback interface")
@pytest.mark.parametrize("winner", [4, 6])
def test_ipv6_and_ipv4(winner):
    with (
        socket.create_server(("::1", 0), family=socket.AF_INET6) as listener,
        ports.refusing("::1") as refuses,
        good() as address,
    ):
        six = refuses if winner == 4 else listener.getsockname()
        with race((socket.AF_INET6, six), address, source=None) as it:
            assert advanced(it, NOW).family == (socket.AF_INET if winner == 4 else socket.AF_INET6)


# Driven


class DelayClock(ManualClock):
    """A clock on which the delay between attempts passes at once; everything else is waited for."""

    def wait(self, block, timeout):
        """Wait for what is awaited, or let a short time pass."""
        if timeout > ATTEMPT_DELAY:
            return super().wait(block, timeout)
        self.waits.append(timeout)
        self.advance(timeout)
        return block(0)


@pytest.fixture
def resolving(monkeypatch):
    """Return a function that says which addresses every name has from now on."""

    def are(*addresses):
        dial = functools.partial(Dial, look_up=lambda host, port: list(addresses))
        monkeypatch.setattr(channels_of, "Dial", dial)

    return are


def connecting(clock, channel, **options):
    def dialogue():
        yield Connect(target=Target(host="mail.example", port=25, **options))

    return Run(dialogue(), channel, clock=clock, patience=PATIENCE)


@pytest.mark.parametrize("how_many", [1, 3])
def test_a_driver_wakes_when_the_next_attempt_is_due(resolving, how_many):
    clock = DelayClock()
    channels = [Channel() for _ in range(how_many)]
    with silent() as first, good("127.0.0.2") as second:
        resolving(first, second)
        runs = [connecting(clock, channel) for channel in channels]
        if how_many == 1:
            run_one(runs[0], clock)
        else:
            run_many(runs, clock)
        for channel in channels:
            assert channel.transport._sock.getpeername() == second[1]
            channel.close()
    assert 0 < clock.monotonic() - NOW <= how_many * ATTEMPT_DELAY


def test_the_time_is_up_while_attempts_are_under_way(resolving):
    before = tracked()
    clock = ManualClock()
    with silent() as first, silent("127.0.0.2") as second:
        resolving(first, second)
        it = connecting(clock, Channel())
        it.start()
        while (
            len(it.need.watched) != 1 or it.need.until > clock.monotonic() + ATTEMPT_DELAY
        ):  # the resolver answers in a thread of its own
            wait_for(it.need.watched, 30, clock)
            it.advance()
        clock.advance(ATTEMPT_DELAY)
        it.advance()
        assert not it.done
        clock.advance(30)
        it.advance()
        with pytest.raises(
            TimeoutError, match=r"timed out after 30.2 s connecting to mail.example port 25 \(127.0.0.1: no"
        ):
            it.result()
    assert not tracked() - before


def test_time_that_was_somebody_elses_is_given_back(resolving):
    """User code has had the thread for a minute: the next attempt starts, and the time is not up."""
    clock = ManualClock()
    with silent() as first, silent("127.0.0.2") as second:
        resolving(first, second)
        theirs = StoppableClock(clock)
        it = connecting(theirs, Channel())
        it.start()
        while len(it.need.watched) != 1 or it.need.until > clock.monotonic() + ATTEMPT_DELAY:
            wait_for(it.need.watched, 30, clock)
            it.advance()
        theirs.move_on()
        clock.advance(60)
        theirs.move_on(most=0)
        clock.advance(ATTEMPT_DELAY)
        theirs.move_on()
        it.advance()
        assert not it.done
        assert len(it.need.watched) == 2
        it.abandon()


@pytest.mark.parametrize("count", [1, 7])
def test_mail_goes_by_the_address_that_answers(resolving, refusing, count):
    with FaultServer() as server, silent("127.0.0.2") as first:
        resolving(first, refusing("127.0.0.3"), four((server.host, server.port)))
        server.host = "mail.example"
        mails = [message(number) for number in range(count)]
        assert backend_for(server, max_connections=2).send_messages(mails) == count
        assert len(server.accepted) == count
        assert server.connections <= 2
        server.host = FaultServer.host


def test_a_resolver_that_raises_anything_else_is_a_resolver_that_failed(monkeypatch):
    """One that somebody has put in the system's place; without an answer the wait would spin until its time is up."""

    def broken(host, port):
        raise LookupError("no such zone")

    monkeypatch.setattr(channels_of, "Dial", functools.partial(Dial, look_up=broken))
    before, clock = tracked(), ManualClock()
    with pytest.raises(OSError, match=r"^.*could not resolve mail.example: the resolver failed: LookupError: no such"):
        run_one(connecting(clock, Channel()), clock)
    assert (clock.monotonic(), tracked() - before) == (NOW, set())


def test_without_a_thread_for_the_resolver_one_dial_fails_and_nothing_stays_open(monkeypatch):
    before, clock = tracked(), ManualClock()
    it = connecting(clock, Channel())

    def no_more(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more)
    with pytest.raises(OSError, match=r"could not resolve mail.example: can.t start new thread") as caught:
        run_one(it, clock)
    assert (caught.value.stage, tracked() - before) == (Stage.CONNECT, set())
