"""What the backend tells of messages, compared with what the server took."""

from collections import Counter

from tests.core.fakes import in_thread, until
from tests.mailing import message


def messages(count, **fields):
    """Return so many messages, told apart by their recipients."""
    return [message(number, to=[address_of(number)], **fields) for number in range(count)]


def address_of(number):
    """Return the recipient of a message."""
    return f"to{number}@example.com"


def taken(server):
    """Return how often the server took responsibility for each recipient."""
    return Counter(address for each in server.accepted for address in each.recipients)


def order_of(server):
    """Return the numbers of the messages in the order in which the server took them."""
    return [int(each.recipients[0].removeprefix("to").partition("@")[0]) for each in server.accepted]


def outcomes(batch):
    """Return what the backend tells of each message, None where it says nothing."""
    statuses = [getattr(mail, "smtp_pool_status", None) for mail in batch]
    return [status and status.outcome for status in statuses]


def misreported(server, batch):
    """Return the messages of which the backend tells something else than the server knows."""
    counts = taken(server)
    allowed = {"accepted": {1}, "unknown": {0, 1}, "refused": {0}, "not_sent": {0}, None: {0}}
    told = zip(batch, outcomes(batch), strict=True)
    return [(mail.to[0], told, counts[mail.to[0]]) for mail, told in told if counts[mail.to[0]] not in allowed[told]]


def settled(server, pool):
    """Wait until the server has seen the end of what the client broke off; return the numbers of the pool."""
    stats = pool.stats()
    assert server.wait_for(lambda: server.idle_now == server.open_now == stats.idle)
    return {"connecting": stats.connecting, "busy": stats.busy, "waiting": stats.waiting}


def fill(server, backend, width, batch):
    """Send a batch that ends when so many connections are idle in the pool."""
    server.hold("data")  # until all of them are there
    sending = in_thread(backend.send_messages, batch)
    assert server.wait_for(lambda: server.held == width)
    server.release()
    assert sending.join() == len(batch)


def server_has_answered(server):
    """Return when the server has answered all it was asked: it rests, look after look."""
    looks = []

    def rests():
        with server.record.changed:
            resting = all(session.state in ("command", "content", "hung") for session in server.sessions)
        looks[:] = [*looks, True] if resting else []
        return len(looks) >= 5

    until(rests)


def until_it_waits(clock):
    """Return when whoever uses the clock has been in one and the same wait for some looks."""
    looks = []

    def rests():
        looks.append(len(clock.waits))
        return looks[-20:] == [looks[-1]] * 20

    until(rests)


QUIET = {"connecting": 0, "busy": 0, "waiting": 0}
