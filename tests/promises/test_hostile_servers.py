"""Servers that mean harm: what they say costs little memory and time, and forges nothing that people read."""

import contextlib
import io
import json
import logging
import smtplib
import tracemalloc

import pytest
from django.core.management import CommandError, call_command

from django_smtp_pool.core.net.transport import Transport
from tests.backend.project import project
from tests.mailing import backend_for, message
from tests.servers import Fault, FaultServer, faults
from tests.servers.certificates import certificates

pytestmark = pytest.mark.filterwarnings("ignore:The EMAIL_", "ignore:get_connection", "ignore:Django 2028")

# -- memory and time -----------------------------------------------------------------------------------

MEMORY = 2 * 2**20


@pytest.mark.parametrize("sin", [faults.endless, faults.torrent, faults.unending], ids=lambda sin: sin.name)
@pytest.mark.parametrize("at", ["banner", "ehlo", "mail", "end"])
@pytest.mark.parametrize("encrypted", [False, True], ids=["clear", "tls"])
def test_a_reply_without_end_costs_little(sin, at, encrypted):
    context = certificates().server_context() if encrypted else None
    with FaultServer(implicit_tls=context, fault=Fault(at=at, do=sin, skip=1)) as server:
        backend = backend_for(server, use_ssl=encrypted, tls_options={"verify": False}, max_messages=1)
        assert backend.send_messages([message(0)]) == 1  # what is loaded once is not counted
        mail = message(1)
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            with contextlib.suppress(smtplib.SMTPException):
                backend.send_messages([mail])
            # The server's own part is in it: it lives in this process.
            assert tracemalloc.get_traced_memory()[1] - before < MEMORY
        finally:
            tracemalloc.stop()
        assert server.struck[0].name == sin.name
        taken = sum(b"Message 1" in each.content for each in server.accepted)
        assert (mail.smtp_pool_status.outcome, taken) in {("accepted", 1), ("unknown", 1)}


def test_many_replies_of_few_octets_cost_little():
    """As many as are read at a time: each is an object, and the octets are the least of it."""
    with FaultServer(fault=Fault(at="banner", do=faults.torrent)) as server:
        backend = backend_for(server, max_requeues=0)
        backend.config  # noqa: B018
        tracemalloc.start()
        try:
            with pytest.raises(smtplib.SMTPServerDisconnected, match=r"unrequested"):
                backend.send_messages([message()])
            assert tracemalloc.get_traced_memory()[1] < MEMORY
        finally:
            tracemalloc.stop()


def test_session_tickets_without_end_do_not_keep_the_client_reading():
    """TLS may go on for ever without an octet of content: whoever reads comes back to look at the clock."""
    context = certificates().server_context()
    context.num_tickets = 5000  # about a megabyte, in one go
    reads = [0]

    class Counting(Transport):
        def _take(self):
            reads[-1] += 1
            return super()._take()

        def receive(self):
            reads.append(0)
            return super().receive()

    with FaultServer(implicit_tls=context) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr("django_smtp_pool.core.net.connect.Transport", Counting)
        backend = backend_for(server, use_ssl=True, tls_options={"verify": False, "minimum_version": "TLSv1.3"})
        assert backend.send_messages([message()]) == 1
    assert sum(reads) > 40
    assert max(reads) <= 8


# -- what people read ----------------------------------------------------------------------------------

EVIL = "no\x1b[2J\x1b]0;owned\x07 \x00\x08 \x85 \u2028\u2029 \u202e \x7f\rWARNING all is well"


def harmless(text):
    """Tell whether a line of text is one line, and does nothing to a terminal."""
    return all(char.isprintable() for char in text)


def evil(code):
    """Answer with a code and everything that could forge a line of a log or move a cursor."""
    octets = f"{code} {EVIL}\r\n".encode()

    def act(session, proper):
        session.send(octets)
        return code

    return faults.Misbehaviour(name=f"evil {code}", act=act, accepts=code == 250)


def texts_of(error):
    """Return everything that somebody may print of an error, and of those that caused it."""
    while error is not None:
        yield from (str(error), repr(error), *map(str, error.__notes__ if hasattr(error, "__notes__") else ()))
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("at", ["banner", "ehlo", "auth", "mail", "rcpt", "data", "end"])
@pytest.mark.parametrize("code", [250, 354, 421, 432, 451, 454, 535, 554])
def test_no_reply_forges_a_line(caplog, at, code):
    caplog.set_level(logging.DEBUG, "django_smtp_pool")
    with FaultServer(users={"user": "secret"}, fault=Fault(at=at, do=evil(code), times=None)) as server:
        backend = backend_for(
            server, debug=True, max_requeues=1, username="user", password="secret", auth_method="PLAIN", timeout=0.2,
            data_timeout=0.2, acquire_timeout=0.2,
        )  # fmt: skip
        mail = message(to=["a@example.com", "b@example.com"])
        texts = []
        try:
            backend.send_messages([mail])
        except (smtplib.SMTPException, OSError) as error:
            texts += texts_of(error)
        status = mail.smtp_pool_status
        texts += [str(status.reply), str(status.queue_id), *(str(each) for each in status.refused.values())]
        texts += backend.pool.stats().learnt.values()
    texts += [record.getMessage() for record in caplog.records]
    assert any("owned" in text for text in texts)
    assert [text for text in texts if not harmless(text)] == []


def test_what_a_server_offers_forges_nothing(settings):
    offers = ["AUTH \x1b[31mPLAIN \x07", "\x1b]0;owned\x07 X", "SIZE \x1b[2J"]
    with FaultServer(advertise=offers) as server:
        mail = message()
        with pytest.raises(smtplib.SMTPNotSupportedError) as caught:
            backend_for(server, username="user", password="secret").send_messages([mail])
        assert [text for text in texts_of(caught.value) if not harmless(text)] == []


@pytest.mark.parametrize("at", ["banner", "ehlo", "mail", "rcpt", "data", "end"])
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_verify_shows_no_more_than_there_is(settings, at, as_json):
    offers = ["SIZE 1000", "\x1b]0;owned\x07", "X-\x1b[2J"]
    code = {"banner": 554, "ehlo": 451, "data": 554}.get(at, 550)
    with FaultServer(advertise=offers, fault=Fault(at=at, do=evil(code), times=None)) as server:
        project(settings, server)
        out = io.StringIO()
        with pytest.raises(CommandError) as caught:
            call_command(
                "smtp_pool", "verify", "--to", "me@example.com", *["--json"] * as_json, stdout=out, no_color=True
            )
    lines = [*out.getvalue().split("\n"), str(caught.value)]
    assert len(lines) > 3
    assert [line for line in lines if not harmless(line)] == []
    if as_json:
        assert not json.loads(out.getvalue())["ok"]


def test_a_password_goes_to_nobody_who_offers_less():
    """Somebody in between who takes STARTTLS and the better mechanisms out of the offer gets nothing for it."""
    with FaultServer(advertise=["AUTH PLAIN LOGIN"]) as server:
        mail = message()
        with pytest.raises(smtplib.SMTPNotSupportedError, match=r"nothing was sent unencrypted"):
            backend_for(server, use_tls=True, username="user", password="secret").send_messages([mail])
        assert mail.smtp_pool_status.outcome == "not_sent"
        assert [line for _, line in server.commands()] == ["EHLO client.example"]
