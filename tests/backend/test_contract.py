"""What is deliberately ours: where the backend differs from Django's own, and what it adds."""

import base64
import copy
import logging
import pickle
import smtplib
import socket
import sys

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage
from django.core.mail.backends.smtp import EmailBackend
from django.views.debug import ExceptionReporter

from django_smtp_pool import (
    DeliveryUnknown,
    PartiallyRefused,
    PoolClosed,
    PoolFull,
    PoolTimeout,
    close_all,
    get_pool,
    set_options,
    status_of,
)
from django_smtp_pool.backend import PooledBackend
from django_smtp_pool.core import errors
from django_smtp_pool.core.replies import Reply
from tests.backend.project import HAS_MAILERS, POOLED, mailer, project
from tests.mailing import backend_for, message
from tests.servers import Fault, FaultServer, faults
from tests.servers.misbehaviour import Misbehaviour

NO_SUCH_USER = "550 5.1.1 No such user"


def outcomes(messages):
    """Return what became of each message."""
    return [mail.smtp_pool_status and mail.smtp_pool_status.outcome for mail in messages]


# -- several messages -----------------------------------------------------------------------------------------


def addressed(*names):
    """Return a message for each name."""
    return [message(number, to=[f"{name}@example.com"]) for number, name in enumerate(names)]


@pytest.fixture
def picky():
    """A server that does not know no@ and never@."""
    refused = dict.fromkeys(["no@example.com", "never@example.com"], NO_SUCH_USER)
    with FaultServer(refuse_recipients=refused) as server:
        yield server


def test_goes_on_after_a_refusal_and_raises_the_first(picky):
    mails = addressed("a", "no", "b", "never", "c")
    with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
        backend_for(picky).send_messages(mails)
    assert caught.value.recipients.keys() == {"no@example.com"}
    assert caught.value.failures.keys() == {1, 3}
    assert caught.value.failures[1] is caught.value
    assert caught.value.failures[3].recipients.keys() == {"never@example.com"}
    assert outcomes(mails) == ["accepted", "refused", "accepted", "refused", "accepted"]
    assert sorted(each.recipients for each in picky.accepted) == [(f"{name}@example.com",) for name in "abc"]


def test_goes_on_in_silence(picky, caplog):
    mails = addressed("no", "a", "never", "b")
    assert backend_for(picky, fail_silently=True).send_messages(mails) == 2
    assert outcomes(mails) == ["refused", "accepted", "refused", "accepted"]
    assert [record.levelname for record in caplog.records].count("WARNING") == 2


def test_goes_on_after_a_message_that_cannot_be_rendered(server):
    mails = [message(1), message(2, subject="a\nb"), message(3)]
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - each Django says it in other words
        backend_for(server).send_messages(mails)
    assert caught.value.failures.keys() == {1}
    assert outcomes(mails) == ["accepted", "not_sent", "accepted"]


def test_what_fail_silently_does_not_cover_is_raised_among_what_it_does(picky):
    mails = [*addressed("no"), message(2, subject="a\nb"), *addressed("a")]
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - each Django says it in other words
        backend_for(picky, fail_silently=True).send_messages(mails)
    assert caught.value.failures.keys() == {0, 1}
    assert outcomes(mails) == ["refused", "not_sent", "accepted"]


def test_stops_where_no_connection_can_be_had(server):
    server.refuse()
    mails = addressed("a", "b", "c")
    for mail in mails:
        mail.smtp_pool_status = "of the last time"
    with pytest.raises(ConnectionRefusedError) as caught:
        backend_for(server).send_messages(mails)
    assert caught.value.failures.keys() == {0}
    assert outcomes(mails) == ["not_sent", None, None]


def test_stops_in_the_middle_where_no_connection_can_be_had(server):
    server.fault = Fault(at="end", do=the_last_one, skip=1)
    mails = addressed("a", "b", "c", "d")
    with pytest.raises(ConnectionRefusedError) as caught:
        backend_for(server, max_connections=1, max_messages=2).send_messages(mails)
    assert caught.value.failures.keys() == {2}
    assert outcomes(mails) == ["accepted", "accepted", "not_sent", None]


def _accept_and_stop_listening(session, proper):
    session.server.refuse()
    session.say(proper)
    return 250


the_last_one = Misbehaviour(name="the last one", act=_accept_and_stop_listening, accepts=True)


# -- open, close, connection ----------------------------------------------------------------------------------


def test_open_pins_nothing(server):
    backends = [backend_for(server, max_connections=1, acquire_timeout=1) for _ in range(5)]
    assert all(backend.open() for backend in backends)
    for number, backend in enumerate(backends):
        assert backend.send_messages([message(number)]) == 1
    for backend in backends:
        backend.close()
    assert (server.connections, len(server.accepted)) == (1, 5)


def test_close_leaves_the_connection_in_the_pool(server):
    backend = backend_for(server)
    with backend:
        pass
    assert server.commands("QUIT") == []
    assert backend.pool.stats().idle == 1


def test_open_finds_out_that_the_connection_has_died(server):
    backend = backend_for(server)
    backend.send_messages([message()])
    server.close_idle()
    server.settle()  # the end is on the wire
    server.refuse()
    with pytest.raises(ConnectionRefusedError):
        backend.open()
    assert backend.connection is None


def test_the_connection_keeps_no_connection(server):
    with backend_for(server, max_connections=1, acquire_timeout=1) as backend:
        assert backend.connection.noop() == (250, b"2.0.0 Ok")
        assert backend_for(server, max_connections=1, acquire_timeout=1).send_messages([message()]) == 1
        assert backend.connection.quit()[0] == 221
        assert backend.connection.close() is None
        assert backend.connection.noop()[0] == 250
    assert server.commands("QUIT") == []
    assert server.connections == 1


def test_the_connection_refuses_options_that_it_does_not_know(server):
    content = b"Subject: x\r\n\r\ny\r\n"
    with backend_for(server) as backend:
        assert (
            backend.connection.sendmail("a@example.com", "b@example.com", content, ["BODY=8BITMIME", "size=20"]) == {}
        )
        for options in ({"mail_options": ["XVERP"]}, {"rcpt_options": ["AUTH=<>"]}):
            with pytest.raises(ValueError, match=r"unsupported options of MAIL or RCPT: (XVERP|AUTH)$"):
                backend.connection.sendmail("a@example.com", "b@example.com", content, **options)
    assert len(server.accepted) == 1


# -- some recipients refused ----------------------------------------------------------------------------------


def half():
    """Return a message of which the picky server takes a half."""
    return message(to=["no@example.com", "yes@example.com"])


def test_a_partial_refusal_is_warned_of(picky, caplog):
    mail = half()
    assert backend_for(picky).send_messages([mail]) == 1
    (record,) = (each for each in caplog.records if each.levelno >= logging.WARNING)
    assert (record.name, record.levelname) == ("django_smtp_pool.sender", "WARNING")
    assert f"no@example.com ({NO_SUCH_USER})" in record.getMessage()
    status = mail.smtp_pool_status
    assert (status.outcome, status.accepted) == ("accepted", ("yes@example.com",))
    assert {address: str(reply) for address, reply in status.refused.items()} == {"no@example.com": NO_SUCH_USER}


def test_a_partial_refusal_is_ignored(picky, caplog):
    mail = half()
    assert backend_for(picky, on_partial_refusal="ignore").send_messages([mail]) == 1
    assert all(record.levelno < logging.WARNING for record in caplog.records)
    assert mail.smtp_pool_status.refused.keys() == {"no@example.com"}


def test_a_partial_refusal_is_raised(picky):
    mails = [half(), message(2)]
    with pytest.raises(PartiallyRefused) as caught:
        backend_for(picky, on_partial_refusal="raise").send_messages(mails)
    assert caught.value.accepted == ("yes@example.com",)
    assert caught.value.refused.keys() == {"no@example.com"}
    assert not isinstance(caught.value, smtplib.SMTPRecipientsRefused)
    assert outcomes(mails) == ["accepted", "accepted"]
    assert len(picky.accepted) == 2


def test_a_partial_refusal_raised_in_silence_counts_as_sent(picky):
    backend = backend_for(picky, on_partial_refusal="raise", fail_silently=True)
    assert backend.send_messages([half(), message(2)]) == 2


# -- what became of a message ---------------------------------------------------------------------------------


def test_status_of_an_accepted_message(server):
    backend = backend_for(server)
    first, second = message(1), message(2)
    backend.send_messages([first])
    backend.send_messages([second])
    status = second.smtp_pool_status
    assert (status.outcome, status.accepted, status.refused) == ("accepted", ("to@example.com",), {})
    assert (status.reply.code, status.queue_id) == (250, server.accepted[1].queue_id)
    assert (status.attempts, status.error) == (1, None)
    assert [mail.smtp_pool_status.reused for mail in (first, second)] == [False, True]
    assert min(status.waited, status.connected, status.sent) >= 0


def test_status_of_a_refused_message(picky):
    (mail,) = addressed("no")
    with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
        backend_for(picky).send_messages([mail])
    status = mail.smtp_pool_status
    assert (status.outcome, status.accepted, status.queue_id) == ("refused", (), None)
    assert status.error is caught.value
    recipient = status.recipients["no@example.com"]
    assert (recipient.code, recipient.enhanced, recipient.text) == (550, "5.1.1", "No such user")


def test_status_is_set_anew(picky):
    (mail,) = addressed("no")
    backend = backend_for(picky, fail_silently=True)
    assert backend.send_messages([mail]) == 0
    mail.to = ["yes@example.com"]
    assert backend.send_messages([mail]) == 1
    assert mail.smtp_pool_status.recipients.keys() == {"yes@example.com"}


def test_in_doubt():
    with FaultServer(fault=Fault(at="end", do=faults.accepted_then(faults.reset))) as server:
        mail = message(headers={"Message-ID": "<42@example.com>"})
        with pytest.raises(DeliveryUnknown) as caught:
            backend_for(server).send_messages([mail])
    error = caught.value
    assert error.in_doubt
    assert (error.recipients, error.message_id) == (("to@example.com",), "<42@example.com>")
    assert "<42@example.com>" in str(error)
    assert isinstance(error, smtplib.SMTPException)
    # Task queues, and code that people have, send again on these.
    assert not isinstance(error, (smtplib.SMTPServerDisconnected, TimeoutError, ConnectionError))
    assert mail.smtp_pool_status.outcome == "unknown"
    assert mail.smtp_pool_status.error is error


def test_in_doubt_in_silence(caplog):
    with FaultServer(fault=Fault(at="end", do=faults.accepted_then(faults.reset))) as server:
        mails = [message(1), message(2)]
        assert backend_for(server, fail_silently=True).send_messages(mails) == 1
    assert sorted(outcomes(mails)) == ["accepted", "unknown"]
    assert any("Outcome unknown" in record.getMessage() for record in caplog.records)


def test_time_outs_are_finite(server):
    options = backend_for(server).config
    waits = options.server.waits
    limits = (waits.connect, waits.greeting, waits.reply, waits.end_of_data)
    assert all(0 < limit < 600 for limit in (*limits, options.pool.acquire_timeout, options.pool.delivery_timeout))


# -- pickling -------------------------------------------------------------------------------------------------

REPLY = Reply(code=550, lines=(b"5.1.1 No",))
EXAMPLES = {
    errors.PartiallyRefused: lambda kind: kind(["a@example.com"], {"b@example.com": REPLY}),
    errors.RecipientsRefused: lambda kind: kind({"b@example.com": (550, b"5.1.1 No")}),
    errors.SenderRefused: lambda kind: errors.refusal(kind, REPLY, "a@example.com", stage=errors.Stage.MAIL),
}


def kinds_of_failure(kind=errors.Failure):
    """Return every exception of ours."""
    return [kind, *(each for derived in kind.__subclasses__() for each in kinds_of_failure(derived))]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", sorted(set(kinds_of_failure()), key=lambda kind: kind.__name__))
def test_every_error_survives_pickling(kind, protocol):
    if issubclass(kind, smtplib.SMTPResponseException) and kind not in EXAMPLES:
        error = errors.refusal(kind, REPLY, stage=errors.Stage.CONTENT, outcome=errors.Outcome.REFUSED)
    else:
        error = EXAMPLES.get(kind, lambda kind: kind("what happened"))(kind)
    error.reply, error.stage = REPLY, errors.Stage.CONTENT
    error.failures = {0: error}
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is kind
    assert (str(again), again.args) == (str(error), error.args)
    assert (again.reply, again.stage, again.outcome) == (REPLY, error.stage, error.outcome)
    assert again.failures[0] is again


@pytest.mark.parametrize(
    ("at", "sin"),
    [
        ("mail", faults.code_5xx),
        ("rcpt", faults.code_4xx),
        ("end", faults.code_5xx),
        ("end", faults.fin),
        ("banner", faults.code_5xx),
    ],
)
def test_errors_that_were_raised_survive_pickling(at, sin):
    with FaultServer(fault=Fault(at=at, do=sin)) as server, pytest.raises(smtplib.SMTPException) as caught:
        backend_for(server).send_messages([message()])
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again), again.outcome) == (type(caught.value), str(caught.value), caught.value.outcome)


def test_a_status_survives_pickling(picky):
    mail = half()
    backend_for(picky).send_messages([mail])
    assert pickle.loads(pickle.dumps(mail.smtp_pool_status)) == mail.smtp_pool_status


# -- secrets --------------------------------------------------------------------------------------------------


class Vault:
    """A password that no print of a frame's variables shows."""

    def __init__(self):
        self.password = "pa55-" + base64.b32encode(b"of the tests").decode()

    def is_in(self, text):
        """Tell whether a text gives the password away, in clear or in one of the shapes a login gives it."""
        shapes = [self.password, base64.b64encode(self.password.encode()).decode()]
        # Within the base64 of a longer text it has three looks: by where it begins.
        for before in ("", "x", "xx"):
            whole = base64.b64encode((before + self.password).encode()).decode().rstrip("=")
            shapes.append(whole[4:-4])
        return any(shape in text for shape in shapes)


def test_the_vault_knows_what_it_looks_for():
    vault = Vault()
    for user in ("", "u", "us", "user"):
        login = base64.b64encode(f"\0{user}\0{vault.password}".encode()).decode()
        assert vault.is_in(f"AUTH PLAIN {login}")
    assert vault.is_in(f"password={vault.password!r}")
    assert not vault.is_in(repr(vault))


@pytest.fixture
def vault():
    """A secret that is not to be found in anything that is printed."""
    return Vault()


def logging_in(server, vault, **options):
    """Return a backend that logs in with the vault's password."""
    return backend_for(server, username="user", password=vault.password, **options)


@pytest.mark.parametrize("name", ["ehlo", "auth", "sock", "send_message"])
def test_the_connection_says_what_it_is_where_it_is_taken_for_smtplibs(server, name):
    with backend_for(server) as backend:
        with pytest.raises(AttributeError, match=f"backend.connection has no '{name}': .* connection_class") as caught:
            getattr(backend.connection, name)
        assert caught.value.name == name
        assert not hasattr(backend.connection, name)


def report(call):
    """Return what Django's debug page and its mail to the admins say of the exception that a call raises."""
    try:
        call()
    except Exception:
        reporter = ExceptionReporter(None, *sys.exc_info())
        return reporter.get_traceback_html() + reporter.get_traceback_text()
    raise AssertionError("nothing was raised")


def send_one(backend):
    """Send; in a frame without secrets."""
    return backend.send_messages([message()])


MECHANISMS = ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"]


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_failing_login_tells_no_secret(vault, settings, caplog, mechanism, debug):
    settings.DEBUG = debug
    caplog.set_level(logging.DEBUG)
    with FaultServer(auth=[mechanism], require_auth=True) as server:
        backend = logging_in(server, vault, debug=True)
        text = report(lambda: send_one(backend))
        heard = "\n".join(server.log)
    assert "SMTPAuthenticationError" in text or "AuthRefused" in text
    assert vault.is_in(heard) is (mechanism in {"PLAIN", "LOGIN"})
    assert not vault.is_in(text)
    assert not vault.is_in(caplog.text)
    assert "AUTH" in caplog.text


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("point", ["auth", "challenge", "mail", "end"])
@pytest.mark.parametrize("sin", [faults.fin, faults.garbage, faults.code_5xx], ids=lambda sin: sin.name)
@pytest.mark.parametrize("mechanism", ["LOGIN", "SCRAM-SHA-256"])
def test_a_failing_session_tells_no_secret(vault, settings, mechanism, point, sin, debug):
    settings.DEBUG = debug
    with FaultServer(
        auth=[mechanism], users={"user": vault.password}, fault=Fault(at=point, do=sin, times=None)
    ) as server:
        backend = logging_in(server, vault, max_requeues=0)
        text = report(lambda: send_one(backend))
    assert not vault.is_in(text)


WRONG = [
    {"max_connections": 0},
    {"max_connection": 3},
    {"use_tls": True, "use_ssl": True},
    {"tls_options": "x"},
    {"timeout": "x"},
]


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("wrong", WRONG, ids=", ".join)
def test_a_failing_construction_tells_no_secret(vault, settings, wrong, debug):
    settings.DEBUG = debug
    alias = "test" if HAS_MAILERS else None
    text = report(lambda: PooledBackend(alias=alias, host="localhost", password=vault.password, **wrong))
    assert "test_contract.py" in text
    assert not vault.is_in(text)


@pytest.mark.skipif(HAS_MAILERS, reason="EMAIL_HOST_PASSWORD is for those without MAILERS here")
@pytest.mark.parametrize("debug", [False, True])
def test_a_failing_construction_tells_no_secret_of_the_settings(vault, settings, debug):
    settings.DEBUG = debug
    settings.EMAIL_BACKEND = POOLED
    settings.EMAIL_HOST_PASSWORD = vault.password
    settings.EMAIL_POOL_MAX_CONNECTIONS = 0
    text = report(get_pool)
    assert "EMAIL_POOL_MAX_CONNECTIONS: max_connections must be" in text.replace("&#x27;", "'")
    assert not vault.is_in(text)


def test_a_backend_shows_no_secret(vault, server):
    backend = logging_in(server, vault)
    for text in (repr(backend), str(backend), repr(backend.config), repr(backend.pool), str(backend.pool.stats())):
        assert not vault.is_in(text)


def test_a_backend_is_not_pickled_nor_copied(vault, server):
    backend = logging_in(server, vault)
    for attempt in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError) as caught:
            attempt(backend)
        assert not vault.is_in(str(caught.value))
    with pytest.raises(TypeError):
        pickle.dumps(backend.config)


@pytest.fixture
def elsewhere(monkeypatch):
    """A host name that is not this machine's, although it leads to it."""
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **kw: real("127.0.0.1", *rest, **kw))
    return "mail.example.com"


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_a_password_does_not_go_in_clear(vault, elsewhere, mechanism):
    with FaultServer(auth=[mechanism], users={"user": vault.password}) as server:
        mail = message()
        with pytest.raises(smtplib.SMTPNotSupportedError, match=r"unencrypted .*use_tls or use_ssl"):
            logging_in(server, vault, host=elsewhere).send_messages([mail])
        assert server.commands("AUTH") == []
        assert mail.smtp_pool_status.outcome == "not_sent"
        assert server.connections == 1  # nothing that another try would help
        assert logging_in(server, vault, host=elsewhere, allow_insecure_auth=True).send_messages([mail]) == 1
        assert server.accepted[0].user == "user"


def test_a_proof_of_the_password_may_go_in_clear(vault, elsewhere):
    with FaultServer(auth=["PLAIN", "CRAM-MD5"], users={"user": vault.password}) as server:
        assert logging_in(server, vault, host=elsewhere).send_messages([message()]) == 1
        assert server.accepted[0].user == "user"


# -- pools ----------------------------------------------------------------------------------------------------


def test_the_same_options_share_a_pool(server):
    one = backend_for(server, username="user", password="secret")
    other = backend_for(server, username="user", password="secret", fail_silently=True, on_partial_refusal="raise")
    assert one is not other
    assert one.pool is other.pool


@pytest.mark.parametrize(
    "differing",
    [
        {"password": "another"},
        {"username": "another"},
        {"use_tls": True},
        {"timeout": 7},
        {"local_hostname": "other.example"},
        {"max_connections": 2},
        {"tls_options": {"verify": False}},
        {"allow_insecure_auth": True},
    ],
    ids=lambda differing: next(iter(differing)),
)
def test_other_options_have_a_pool_of_their_own(server, differing):
    options = {"username": "user", "password": "secret"}
    assert backend_for(server, **options).pool is not backend_for(server, **{**options, **differing}).pool


def test_one_accounts_mail_does_not_travel_on_anothers_connection():
    with FaultServer(users={"a": "1", "b": "2"}, require_auth=True) as server:
        for number in range(6):
            user = "ab"[number % 2]
            backend_for(server, username=user, password=server.users[user]).send_messages(
                [message(from_email=f"{user}@example.com")]
            )
        assert [(each.user, each.sender) for each in server.accepted] == [
            ("a", "a@example.com"),
            ("b", "b@example.com"),
        ] * 3
        assert server.connections == 2


def test_sending_after_close_all_opens_a_fresh_pool(server):
    backend = backend_for(server)
    backend.send_messages([message(1)])
    before = backend.pool
    close_all(timeout=5)
    assert server.wait_for(lambda: server.commands("QUIT"))
    assert backend.send_messages([message(2)]) == 1
    assert backend.pool is not before
    assert server.connections == 2


def test_sending_after_closing_the_pool_opens_a_fresh_one(server):
    backend = backend_for(server)
    backend.send_messages([message(1)])
    before = backend.pool
    before.close(timeout=5)
    assert backend.send_messages([message(2)]) == 1
    assert backend.pool is not before


def test_an_open_backend_survives_close_all(server):
    with backend_for(server) as backend:
        close_all(timeout=5)
        assert backend.send_messages([message(1)]) == 1
        assert backend.connection.noop()[0] == 250


# -- get_pool -------------------------------------------------------------------------------------------------


def test_get_pool_is_the_pool_of_the_project(server, settings):
    project(settings, server)
    mailer().send_messages([message()])
    assert get_pool() is get_pool("default") is mailer().pool
    assert get_pool().stats().messages_accepted == 1
    assert repr(get_pool()).startswith(f"<Pool {server.host}:{server.port}: ")


def test_get_pool_needs_our_backend(server, settings):
    project(settings, server, backend="django.core.mail.backends.smtp.EmailBackend")
    with pytest.raises(ImproperlyConfigured, match=r"'default' has no pool: it uses .*\.EmailBackend, not"):
        get_pool()


def test_get_pool_of_a_mailer_that_is_not_there(server, settings):
    project(settings, server)
    with pytest.raises(ImproperlyConfigured, match="other"):
        get_pool("other")


@pytest.mark.skipif(not HAS_MAILERS, reason="MAILERS came with Django 6.1")
def test_get_pool_of_several_mailers(server, settings):
    options = {"host": server.host, "port": server.port}
    settings.MAILERS = {
        "default": {"BACKEND": POOLED, "OPTIONS": options},
        "same": {"BACKEND": POOLED, "OPTIONS": dict(options)},
        "bulk": {"BACKEND": POOLED, "OPTIONS": {**options, "max_connections": 2}},
    }
    assert get_pool("same") is get_pool()
    assert get_pool("bulk") is not get_pool()
    assert get_pool("bulk").stats().max_connections == 2


def test_is_a_subclass_of_djangos_own():
    assert issubclass(PooledBackend, EmailBackend)
    assert {PoolTimeout, PoolFull, PoolClosed} < set(kinds_of_failure())


# -- what is no message ---------------------------------------------------------------------------------------

NO_MESSAGES = {
    "text": ("text", "takes a list of messages, not str"),
    "bytes": (b"text", "takes a list of messages, not bytes"),
    "message": (message(), "takes a list of messages, not EmailMessage"),
    "number": (5, "takes a list of messages, not int"),
    "none": ([None], "number 0 is NoneType"),
    "object": ([object()], "number 0 is object"),
    "later": ([message(), 7], "number 1 is int"),
    "tuple": ((message(), "text"), "number 1 is str"),
    "dict": ({"a": message()}, "number 0 is str"),
}


@pytest.mark.parametrize("fail_silently", [False, True])
@pytest.mark.parametrize("case", NO_MESSAGES)
def test_what_is_no_message_is_told_before_anything_is_sent(server, case, fail_silently):
    given, text = NO_MESSAGES[case]
    with pytest.raises(TypeError, match=text):
        backend_for(server, fail_silently=fail_silently).send_messages(given)
    assert server.connections == 0


def test_what_is_no_message_in_a_generator_ends_it(server):
    mails = [message(1), None, message(2)]
    with pytest.raises(TypeError, match="number 1 is NoneType"):
        backend_for(server).send_messages(iter(mails))
    assert mails[0].smtp_pool_status.outcome == "accepted"
    assert len(server.accepted) == 1


# -- traces ---------------------------------------------------------------------------------------------------


def frames_of(call):
    """Return the functions between a call and the error that it raises."""
    try:
        call()
    except Exception as error:
        frames, traceback = [], error.__traceback__
        while traceback:
            frames.append(traceback.tb_frame.f_code.co_name)
            traceback = traceback.tb_next
        return frames[2:]  # without ourselves and the call
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize("at", ["banner", "mail", "rcpt", "data", "end"])
@pytest.mark.parametrize("many", [1, 2])
def test_few_frames_are_between_the_call_and_the_error(at, many):
    with FaultServer(fault=Fault(at=at, do=faults.code_5xx, times=None)) as server:
        backend = backend_for(server, max_requeues=0)
        mails = [message(number) for number in range(many)]
        assert len(frames_of(lambda: backend.send_messages(mails))) <= 2


def test_few_frames_without_a_server(server):
    server.refuse()
    backend = backend_for(server)
    assert len(frames_of(lambda: backend.send_messages([message()]))) <= 2
    assert len(frames_of(backend.open)) <= 1


def test_the_frames_of_the_callers_own_code_are_kept(server):
    class Failing(EmailMessage):
        def message(self, **options):
            raise LookupError("of the caller")

    mail = Failing("x", "y", "a@example.com", ["b@example.com"])
    assert frames_of(lambda: backend_for(server).send_messages([mail]))[-1] == "message"


# -- how far a batch has come ---------------------------------------------------------------------------------

has_notes = pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have notes since Python 3.11")


def notes_of(error):
    return getattr(error, "__notes__", [])


def test_a_batch_that_breaks_off_says_how_far_it_got(server):
    server.fault = Fault(at="end", do=the_last_one, skip=1)
    mails = [*addressed("a", "b"), message(to=[]), *addressed("c", "d", "e")]
    with pytest.raises(ConnectionRefusedError) as caught:
        backend_for(server, max_connections=1, max_messages=2).send_messages(mails)
    batch = caught.value.batch
    assert (batch.accepted, batch.failures, batch.not_tried) == ((0, 1), {3: caught.value}, (4, 5))
    assert caught.value.failures == {3: caught.value}
    if sys.version_info >= (3, 11):
        assert "Of this batch of messages: 2 accepted, 1 failed, 2 not tried." in notes_of(caught.value)


def test_a_batch_with_refusals_says_so_too(picky):
    with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
        backend_for(picky).send_messages(addressed("a", "no", "b", "never"))
    batch = caught.value.batch
    assert (batch.accepted, batch.failures, batch.not_tried) == ((0, 2), caught.value.failures, ())
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.batch.accepted, again.batch.failures[1]) == ((0, 2), again)


def test_of_a_generator_what_it_was_asked_for_is_known(server):
    def mails():
        yield from addressed("a", "b")
        raise LookupError("of the caller")

    with pytest.raises(LookupError) as caught:
        backend_for(server).send_messages(mails())
    assert (caught.value.batch.accepted, caught.value.batch.not_tried) == ((0, 1), ())


def test_an_interrupted_batch_says_how_far_it_got(server):
    class Interrupting(EmailMessage):
        def message(self, **options):
            raise KeyboardInterrupt

    mails = [*addressed("a"), Interrupting("x", "y", "a@example.com", ["b@example.com"]), *addressed("c")]
    with pytest.raises(KeyboardInterrupt) as caught:
        backend_for(server, batch_connections=1).send_messages(mails)
    batch = caught.value.batch
    done = {*batch.accepted, *batch.failures}
    assert 2 in batch.not_tried
    assert done.isdisjoint(batch.not_tried)
    assert done | {*batch.not_tried} == {0, 1, 2}


def test_one_message_is_no_batch_to_speak_of(picky):
    with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
        backend_for(picky).send_messages(addressed("no"))
    assert (caught.value.batch.failures, caught.value.batch.not_tried) == ({0: caught.value}, ())
    assert not any("batch" in note for note in notes_of(caught.value))


@has_notes
@pytest.mark.parametrize("call", [lambda backend: backend.send_messages([message()]), lambda backend: backend.open()])
def test_advice_rides_on_the_error(call):
    with FaultServer(auth=["PLAIN"], users={"user": "right"}, require_auth=True) as server:
        with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
            call(backend_for(server, username="user", password="wrong"))
        (note,) = notes_of(caught.value)
        assert note.startswith("check username and password; many providers require an app password")


# -- functions, for those who check types ---------------------------------------------------------------------


def test_the_status_by_a_function(server):
    mail = message()
    assert status_of(mail) is None
    backend_for(server).send_messages([mail])
    assert status_of(mail) is mail.smtp_pool_status


def test_there_is_no_status_under_locmem():
    mail = message()
    assert mail.send() == 1
    assert status_of(mail) is None


def test_options_by_a_function(server):
    mail = message()
    set_options(mail, dsn={"ret": "HDRS"})
    set_options(mail, require_tls=False)
    assert mail.smtp_options == {"dsn": {"ret": "HDRS"}, "require_tls": False}
    server.advertise = ["DSN"]
    backend_for(server).send_messages([mail])
    assert "RET=HDRS" in server.commands("MAIL")[0][1]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"dsn": {"rett": "HDRS"}}, r"unknown key 'rett': did you mean 'ret'\?"),
        ({"dsn": "HDRS"}, "must be a dict"),
        ({"require_tls": "yes"}, "must be True or False"),
    ],
)
def test_wrong_options_are_told_at_once(wrong, text):
    mail = message()
    with pytest.raises(ValueError, match=text):
        set_options(mail, **wrong)
    assert not hasattr(mail, "smtp_options")


# -- Django's words first -------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["a@b@example.com", "a@example.com, b@example.com", "a\nb@example.com", "to@"])
def test_a_bad_address_begins_with_djangos_words(server, address):
    with pytest.raises(ValueError, match=r"^Invalid address"):
        backend_for(server).send_messages([message(to=[], bcc=[address])])
    assert server.connections == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"username": "u", "password": "p"}, "SMTP AUTH extension not supported by server. "),
        ({"use_tls": True}, "STARTTLS extension not supported by server. "),
    ],
)
def test_what_is_not_offered_begins_with_smtplibs_words(options, words):
    with FaultServer(auth=[]) as server, pytest.raises(smtplib.SMTPNotSupportedError) as caught:
        backend_for(server, **options).open()
    assert str(caught.value).startswith(words)
