"""What becomes of a message when the server fails at any point of the conversation, in any way.

The rows are those of the specification (point x fault). What a dialogue says is one thing, what is below it another:
so not every fault is tried in every company. Each is, at every point, in clear (fresh and reused, by DATA and by BDAT)
and under TLS on fresh connections; some of each kind are by every other way (`SOME`). The server writes down what it
took before it tries to say so; what the backend tells is compared with that.
"""

import smtplib
import ssl

import pytest

from django_smtp_pool import DeliveryUnknown
from tests.clocks import ServersClock
from tests.mailing import message
from tests.servers import Fault, FaultServer, faults
from tests.servers.certificates import Certificates

LOST = [faults.hang, faults.reset, faults.fin, faults.vanish, faults.notify]
GARBLED = [
    faults.garbage,
    faults.binary,
    faults.overlong,
    faults.endless,
    faults.unending,
    faults.differing_codes,
    faults.empty_lines,
    faults.nothing_but_empty,
    faults.code_1xx,
    faults.code_6xx,
    faults.truncated,
    faults.truncated_text,
    faults.truncated_multiline,
    faults.truncated_then_hang,
    faults.drip,
]
HARMLESS = [faults.bare_code, faults.chopped, faults.wordy, faults.latin_1]

RETRIED, REFUSED, FINAL, UNKNOWN, ACCEPTED = "retried", "refused", "not sent, final", "unknown", "accepted"

# point: {what the server does: what becomes of the message}
TABLE = {
    "connect": dict.fromkeys(LOST, RETRIED),
    "banner": {
        **dict.fromkeys([*LOST, *GARBLED, faults.code_421, faults.code_4xx, faults.code_3xx], RETRIED),
        faults.code_5xx: FINAL,
        **dict.fromkeys(HARMLESS, ACCEPTED),
    },
    "ehlo": {
        **dict.fromkeys([*LOST, *GARBLED, faults.code_421, faults.code_4xx, faults.stray], RETRIED),
        faults.code_5xx: ACCEPTED,  # by HELO
        **dict.fromkeys(HARMLESS, ACCEPTED),
    },
    "mail": {
        **dict.fromkeys([*LOST, *GARBLED, faults.code_421, faults.code_3xx, faults.stray_421], RETRIED),
        **dict.fromkeys([faults.code_4xx, faults.code_5xx], REFUSED),
        **dict.fromkeys(HARMLESS, ACCEPTED),
    },
    "rcpt": {
        **dict.fromkeys([*LOST, *GARBLED, faults.code_421, faults.code_3xx], RETRIED),
        **dict.fromkeys([faults.code_4xx, faults.code_5xx], REFUSED),
        **dict.fromkeys(HARMLESS, ACCEPTED),
    },
    "data": {
        **dict.fromkeys([*LOST, *GARBLED, faults.code_421, faults.code_2xx, faults.stray], RETRIED),
        **dict.fromkeys([faults.code_4xx, faults.code_5xx], REFUSED),
        **dict.fromkeys(HARMLESS, ACCEPTED),
    },
    "end": {
        **dict.fromkeys([*LOST, *GARBLED, faults.code_3xx], UNKNOWN),
        faults.code_421: RETRIED,
        **dict.fromkeys([faults.code_4xx, faults.code_5xx], REFUSED),
        **dict.fromkeys([*HARMLESS, faults.stray, faults.stray_421, faults.proper_then_reset], ACCEPTED),
    },
    "after": dict.fromkeys([faults.stray, faults.code_421, faults.reset, faults.fin, faults.garbage], ACCEPTED),
}
UNDER_TLS_ONLY = {
    "starttls": {
        **dict.fromkeys([*LOST, *GARBLED, faults.code_421, faults.code_4xx, faults.stray], RETRIED),
        faults.code_5xx: FINAL,
    },
    "tls": {
        **dict.fromkeys([faults.hang, faults.reset, faults.fin, faults.vanish], RETRIED),
    },
    "auth": {
        **dict.fromkeys([*LOST, *GARBLED, faults.code_421, faults.code_4xx], RETRIED),
        faults.code_5xx: ACCEPTED,  # the first refusal is of CRAM-MD5, as by a server that keeps hashes: PLAIN follows
        **dict.fromkeys(HARMLESS, ACCEPTED),
    },
}
# Without EHLO's reply there is no STARTTLS, and the message does not go in clear.
UNDER_TLS_ONLY["ehlo"] = {**TABLE["ehlo"], faults.code_5xx: FINAL, faults.bare_code: FINAL}
SETUP = {"connect", "banner", "ehlo", "starttls", "tls", "auth"}
# A server that is silent while a session is opened is not asked again: the caller has waited for it once.
for fates in (TABLE["connect"], TABLE["banner"], TABLE["ehlo"], *UNDER_TLS_ONLY.values()):
    fates.update({sin: FINAL for sin in (faults.hang, faults.truncated_then_hang, faults.drip) if sin in fates})
TLS_TABLE = {**TABLE, **UNDER_TLS_ONLY}


def rows(table):
    """Return a test's parameters for every row of a table."""
    return [
        pytest.param(point, sin, fate, id=f"{point}-{sin.name}-{fate.split(',')[0]}")
        for point, fates in table.items()
        for sin, fate in fates.items()
    ]


@pytest.fixture(scope="module")
def certificates():
    """The CA of these tests."""
    return Certificates()


@pytest.fixture
def mailer(mailer):
    """Return a function that makes a backend whose time passes only when the server hangs."""
    return lambda server, **options: mailer(server, clock=ServersClock(server), **options)


def send(backend, mail):
    """Send a message and return the error, None for success."""
    try:
        assert backend.send_messages([mail]) == 1
    except (smtplib.SMTPException, OSError) as error:
        return error
    return None


def check(server, mail, error, fate, *, before=0):
    """Compare what the backend tells with what the server knows."""
    status, taken = mail.smtp_pool_status, len(server.accepted) - before
    if fate in (ACCEPTED, RETRIED):
        assert error is None
        assert (status.outcome, taken) == ("accepted", 1)
        assert status.attempts == (2 if fate == RETRIED else 1)
    elif fate == UNKNOWN:
        assert isinstance(error, DeliveryUnknown)
        assert error.in_doubt
        assert not isinstance(error, (smtplib.SMTPServerDisconnected, TimeoutError))
        assert (status.outcome, status.attempts) == ("unknown", 1)
        assert taken in (0, 1)
    else:
        assert isinstance(error, OSError)
        assert status.outcome == ("refused" if fate == REFUSED else "not_sent")
        assert (status.attempts, taken) == (1, 0)


def try_row(mailer, server, point, sin, fate, **options):
    """Let the fault hit once, and see that the next message is none the worse for it."""
    server.fault = Fault(at=point, do=sin)
    backend = mailer(server, **options)
    mail = message()
    error = send(backend, mail)
    assert server.wait_for(lambda: [struck.name for struck in server.struck] == [sin.name])
    check(server, mail, error, fate)
    server.settle()  # or the next one, in one shot, may be under way when the connection is reset
    before = len(server.accepted)
    if fate != FINAL:
        assert send(backend, message(2)) is None
        assert len(server.accepted) - before == 1
        assert server.accepted[-1].content.startswith(b"Content-Type") or b"Message 2" in server.accepted[-1].content


@pytest.mark.parametrize(("point", "sin", "fate"), rows(TABLE))
@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelining", "one-by-one"])
def test_on_a_fresh_connection_in_clear(mailer, point, sin, fate, pipelining):
    with FaultServer(pipelining=pipelining) as server:
        try_row(mailer, server, point, sin, fate)


@pytest.mark.parametrize(("point", "sin", "fate"), rows(TLS_TABLE))
def test_on_a_fresh_connection_under_tls_with_a_login(mailer, certificates, tmp_path, point, sin, fate):
    authority = tmp_path / "ca.pem"
    certificates.authority.cert_pem.write_to_path(authority)
    with FaultServer(starttls=certificates.server_context(), require_auth=True) as server:
        try_row(
            mailer, server, point, sin, fate,
            use_tls=True, tls_options={"ca_file": authority}, username="user", password="secret",
        )  # fmt: skip


@pytest.mark.parametrize(
    ("point", "sin", "fate"), rows({point: fates for point, fates in TABLE.items() if point not in SETUP})
)
def test_on_a_reused_connection(mailer, point, sin, fate):
    with FaultServer() as server:
        try_reused(mailer, server, point, sin, fate)


# Of each kind some: what is lost, no reply, refused, good all the same.
SOME = {
    faults.hang, faults.reset, faults.notify, faults.garbage, faults.endless, faults.truncated_text,
    faults.unending, faults.drip, faults.code_421, faults.code_4xx, faults.code_5xx, faults.stray, faults.chopped,
}  # fmt: skip


def some(table):
    """Return the rows of a table after the login, with some faults of each kind."""
    return rows(
        {
            point: {sin: fate for sin, fate in fates.items() if sin in SOME}
            for point, fates in table.items()
            if point not in SETUP
        }
    )


@pytest.mark.parametrize(("point", "sin", "fate"), some(TABLE))
def test_on_a_reused_connection_one_by_one(mailer, point, sin, fate):
    with FaultServer(pipelining=False) as server:
        try_reused(mailer, server, point, sin, fate)


@pytest.mark.parametrize(("point", "sin", "fate"), some(TABLE))
def test_on_a_reused_connection_under_tls(mailer, certificates, point, sin, fate):
    with FaultServer(implicit_tls=certificates.server_context()) as server:
        try_reused(mailer, server, point, sin, fate, use_ssl=True, tls_options={"verify": False})


def try_reused(mailer, server, point, sin, fate, **options):
    """Let the fault hit a connection that has carried a message: a refused MAIL gets one try on a fresh one."""
    if point == "mail" and fate == REFUSED:
        fate = RETRIED
    backend = mailer(server, **options)
    assert send(backend, message(0)) is None
    assert server.wait_for(lambda: server.idle_now == 1)
    server.fault = Fault(at=point, do=sin)
    mail = message()
    error = send(backend, mail)
    check(server, mail, error, fate, before=1)


# By BDAT, in one shot: from its last octet on, only a refusal of MAIL, of every RCPT or of the chunk is certain.
IN_ONE_SHOT = {
    **{
        point: {
            **dict.fromkeys([*LOST, *GARBLED], UNKNOWN),
            faults.code_421: RETRIED,
            **dict.fromkeys([faults.code_4xx, faults.code_5xx], REFUSED),
            **dict.fromkeys(HARMLESS, ACCEPTED),
        }
        for point in ("mail", "rcpt", "end")
    },
    "after": TABLE["after"],
}
CHUNKED = {point: TABLE[point] for point in ("mail", "rcpt", "end", "after")}


@pytest.mark.parametrize(("point", "sin", "fate"), rows(CHUNKED))
@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelining", "one-by-one"])
def test_by_chunks_on_a_fresh_connection(mailer, point, sin, fate, pipelining):
    with FaultServer(chunking=True, pipelining=pipelining) as server:
        try_row(mailer, server, point, sin, fate)
        assert server.commands("DATA") == []


@pytest.mark.parametrize(("point", "sin", "fate"), rows(IN_ONE_SHOT))
def test_in_one_shot(mailer, point, sin, fate):
    with FaultServer(chunking=True) as server:
        try_reused(mailer, server, point, sin, fate)


@pytest.mark.parametrize(("point", "sin", "fate"), some(IN_ONE_SHOT))
def test_in_one_shot_under_tls(mailer, certificates, point, sin, fate):
    with FaultServer(chunking=True, implicit_tls=certificates.server_context()) as server:
        try_reused(mailer, server, point, sin, fate, use_ssl=True, tls_options={"verify": False})


@pytest.mark.parametrize(("point", "sin", "fate"), some(CHUNKED))
def test_by_chunks_under_tls(mailer, certificates, point, sin, fate):
    with FaultServer(chunking=True, implicit_tls=certificates.server_context()) as server:
        try_row(mailer, server, point, sin, fate, use_ssl=True, tls_options={"verify": False})


def test_in_one_shot_a_421_to_one_of_two_recipients_leaves_doubt(mailer):
    with FaultServer(chunking=True) as server:
        backend = mailer(server)
        assert send(backend, message(0)) is None
        server.fault = Fault(at="rcpt", do=faults.code_421, skip=1)
        assert isinstance(send(backend, message(to=["one@example.com", "two@example.com"])), DeliveryUnknown)
        assert len(server.accepted) == 1


@pytest.mark.parametrize("code", [500, 502])
def test_a_server_that_does_not_know_the_bdat_it_offers_gets_the_message_by_data(mailer, code):
    with FaultServer(chunking=True, fault=Fault(at="bdat", do=faults.reply(f"{code} what?"), times=None)) as server:
        backend = mailer(server)
        assert send(backend, message(1)) is None
        assert send(backend, message(2)) is None
        assert (len(server.accepted), server.connections) == (2, 2)
        assert len(server.commands("BDAT")) == 1
        assert len(server.commands("DATA")) == 2


def test_a_connection_that_refused_a_chunk_is_not_used_again(mailer):
    with FaultServer(chunking=True, fault=Fault(at="end", do=faults.code_5xx)) as server:
        backend = mailer(server)
        assert isinstance(send(backend, message(1)), smtplib.SMTPDataError)
        assert send(backend, message(2)) is None
        assert server.connections == 2


@pytest.mark.parametrize("how", ["fin", "rst", "421", "silent", "notify"])
@pytest.mark.parametrize("encrypted", [False, True], ids=["clear", "tls"])
def test_a_connection_closed_while_idle_is_invisible(mailer, certificates, how, encrypted):
    context = certificates.server_context() if encrypted else None
    with FaultServer(implicit_tls=context) as server:
        backend = mailer(server, use_ssl=encrypted, tls_options={"verify": False})
        assert send(backend, message(1)) is None
        assert server.close_idle(how) == 1
        mail = message(2)
        assert send(backend, mail) is None
        assert mail.smtp_pool_status.outcome == "accepted"
        assert len(server.accepted) == 2
        assert backend.pool.stats().stale == 1


@pytest.mark.parametrize("text", ["451 4.4.2 Timeout waiting for data from client", "421 4.4.2 timeout", "432 4.3.2 x"])
def test_a_first_reply_that_speaks_of_the_idle_connection_moves_the_message(mailer, text):
    with FaultServer() as server:
        backend = mailer(server)
        assert send(backend, message(1)) is None
        server.fault = Fault(at="next", do=faults.reply_and_close(text))
        assert send(backend, message(2)) is None
        assert [struck.connection for struck in server.struck] == [1]
        assert len(server.accepted) == 2


@pytest.mark.parametrize("at", ["mail", "rcpt", "data", "end"])
def test_the_same_451_on_a_fresh_connection_is_about_the_session_too(mailer, at):
    with FaultServer(fault=Fault(at=at, do=faults.reply("451 4.4.2 Timeout waiting for data"))) as server:
        mail = message()
        assert send(mailer(server), mail) is None
        assert (mail.smtp_pool_status.attempts, len(server.accepted)) == (2, 1)


@pytest.mark.parametrize("chunking", [False, True], ids=["DATA", "BDAT"])
def test_451_4_4_2_to_the_end_of_data_gets_one_try_and_no_other(mailer, chunking):
    sin = faults.reply("451 4.4.2 Timeout waiting for data")
    with FaultServer(chunking=chunking, fault=Fault(at="end", do=sin, times=None)) as server:
        mail = message()
        error = send(mailer(server), mail)
        assert isinstance(error, smtplib.SMTPDataError)
        assert (mail.smtp_pool_status.outcome, mail.smtp_pool_status.attempts) == ("not_sent", 2)
        assert server.connections == 2


def test_a_refused_connection_is_told_at_once(mailer):
    with FaultServer() as server:
        server.refuse()
        mail = message()
        error = send(mailer(server), mail)
        assert isinstance(error, ConnectionRefusedError)
        assert f"{server.host} port {server.port}" in str(error)
        assert (mail.smtp_pool_status.outcome, mail.smtp_pool_status.attempts) == ("not_sent", 1)


@pytest.mark.parametrize(
    "sin", [faults.reset, faults.early_552, faults.early_250, faults.stall], ids=lambda sin: sin.name
)
def test_a_failure_in_the_middle_of_the_content_is_certainly_not_sent(mailer, sin):
    with FaultServer(fault=Fault(at="body", do=sin), receive_buffer=65536) as server:
        mail = message(attachments=[("large.bin", bytes(6_000_000), "application/octet-stream")])
        error = send(mailer(server, delivery_timeout=600), mail)
        assert error is None
        assert (mail.smtp_pool_status.attempts, len(server.accepted)) == (2, 1)


def test_a_server_that_never_recovers_is_tried_five_times_more(mailer):
    with FaultServer(fault=Fault(at="mail", do=faults.reset, times=None)) as server:
        mail = message()
        error = send(mailer(server), mail)
        assert isinstance(error, smtplib.SMTPServerDisconnected)
        assert (mail.smtp_pool_status.outcome, mail.smtp_pool_status.attempts) == ("not_sent", 6)
        assert server.connections == 6


def test_a_certificate_that_is_not_trusted_is_not_tried_twice(mailer, certificates):
    with FaultServer(implicit_tls=certificates.server_context("unknown")) as server:
        error = send(mailer(server, use_ssl=True), message())
        assert isinstance(error, ssl.SSLCertVerificationError)
        assert server.connections == 1
        assert server.accepted == []


@pytest.mark.parametrize("accepts", [faults.accepted_then, faults.refused_then])
@pytest.mark.parametrize("sin", [faults.reset, faults.hang, faults.fin])
def test_in_doubt_whether_or_not_the_server_took_it(mailer, accepts, sin):
    with FaultServer(fault=Fault(at="end", do=accepts(sin))) as server:
        mail = message()
        error = send(mailer(server), mail)
        assert isinstance(error, DeliveryUnknown)
        assert error.recipients == ("to@example.com",)
        assert len(server.accepted) == (1 if accepts is faults.accepted_then else 0)
        assert server.connections == 1  # never sent again by us
