"""One behaviour, two backends: what holds for Django's own SMTP backend holds for ours.

Where the two differ on purpose, `test_contract.py` says how.
"""

import copy
import pickle
import smtplib
import socket
import ssl
import threading
from unittest import mock

import pytest
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.core.mail.backends.smtp import EmailBackend

from django_smtp_pool.backend import PooledBackend
from tests.mailing import backend_for, message
from tests.servers import Fault, FaultServer, faults
from tests.servers.certificates import certificates


@pytest.fixture(params=[EmailBackend, PooledBackend], ids=["django", "pooled"])
def kind(request):
    """The class under test."""
    return request.param


@pytest.fixture
def make(kind):
    """Return a function that makes a backend for a server.

    `mixin` goes before the class.
    """

    backends = []

    def make(server, mixin=None, **options):
        derived = kind if mixin is None else type(mixin.__name__, (mixin, kind), {})
        # One try: when something is tried again is ours, and tested with the faults.
        ours = {"max_requeues": 0} if kind is PooledBackend else {}
        backends.append(backend_for(server, derived, **options, **ours))
        return backends[-1]

    yield make
    for backend in backends:
        backend.close()  # Django's keeps what it failed to open


# -- what is sent, and what is returned -----------------------------------------------------------------------


def test_keeps_what_it_was_given(make, server):
    values = {"username": "user", "password": "secret", "timeout": 7, "fail_silently": True}
    backend = make(server, **values)
    assert {key: getattr(backend, key) for key in values} == values
    assert (backend.host, backend.port) == (server.host, server.port)
    assert (backend.use_tls, backend.use_ssl) == (False, False)
    assert backend.connection is None


def test_returns_how_many_were_sent(make, server):
    assert make(server).send_messages([message(1), message(2)]) == 2
    assert len(server.accepted) == 2


@pytest.mark.parametrize("nothing", [[], (), None])
def test_nothing_to_send(make, server, nothing):
    assert make(server).send_messages(nothing) == 0
    assert server.connections == 0


def test_takes_a_generator(make, server):
    assert make(server).send_messages(message(number) for number in range(3)) == 3


def test_takes_an_empty_generator(make, server):
    assert make(server).send_messages(iter([])) == 0


def test_a_message_without_recipients_is_not_counted(make, server):
    assert make(server).send_messages([message(1, to=[]), message(2)]) == 1
    assert make(server).send_messages([message(3, to=[])]) == 0
    assert len(server.accepted) == 1


def test_every_recipient_is_told_to_the_server(make, server):
    mail = message(to=["Ann <ann@example.com>"], cc=["bob@example.com"], bcc=["eve@example.com"])
    assert make(server).send_messages([mail]) == 1
    (taken,) = server.accepted
    assert taken.sender == "from@example.com"
    assert taken.recipients == ("ann@example.com", "bob@example.com", "eve@example.com")
    assert b"eve@example.com" not in taken.content


def test_domains_are_told_in_ascii(make, server):
    make(server).send_messages([message(to=["ann@b\xfccher.example"])])
    assert server.accepted[0].recipients == ("ann@xn--bcher-kva.example",)


def test_the_same_octets():
    fixed = {"Message-ID": "<1@example.com>", "Date": "Sun, 22 Nov 2026 12:00:00 +0000"}
    texts = ["Hello\n", ".\n..\n", "Gr\xfc\xdfe\n" * 40, "no line end", "a\r\nb\rc\n"]
    sent = {}
    for kind in (EmailBackend, PooledBackend):
        with FaultServer() as server:
            mails = [message(body=text, subject="\xdcber uns", headers=fixed) for text in texts]
            assert backend_for(server, kind).send_messages(mails) == len(texts)
            sent[kind] = sorted(each.content for each in server.accepted)  # ours may use several connections
    assert sent[EmailBackend] == sent[PooledBackend]


def test_logs_in_with_name_and_password(make):
    with FaultServer(require_auth=True) as server:
        assert make(server, username="user", password="secret").send_messages([message()]) == 1
        assert server.accepted[0].user == "user"


@pytest.mark.parametrize("half", [{"username": "user"}, {"password": "secret"}, {"username": "", "password": ""}])
def test_does_not_log_in_with_half_of_it(make, server, half):
    assert make(server, **half).send_messages([message()]) == 1
    assert server.commands("AUTH") == []


def test_one_of_two_recipients_refused_is_sent(make):
    with FaultServer(refuse_recipients={"no@example.com": "550 5.1.1 No such user"}) as server:
        assert make(server).send_messages([message(to=["no@example.com", "yes@example.com"])]) == 1
        assert server.accepted[0].recipients == ("yes@example.com",)


# -- open, close, connection ----------------------------------------------------------------------------------


def test_open_and_close(make, server):
    backend = make(server)
    assert backend.connection is None
    assert backend.open() is True
    assert backend.connection is not None
    assert backend.open() is False
    assert backend.close() is None
    assert backend.connection is None
    assert backend.close() is None
    assert backend.open() is True
    backend.close()


def test_a_second_backend_opens_as_well(make, server):
    first, second = make(server), make(server)
    assert first.open() is True
    assert second.open() is True
    first.close()
    assert second.send_messages([message()]) == 1
    second.close()


def test_close_without_open(make, server):
    assert make(server).close() is None
    assert server.connections == 0


def test_open_and_send_many_times_over_one_connection(make, server):
    backend = make(server)
    backend.open()
    for number in range(3):
        assert backend.send_messages([message(number)]) == 1
        assert backend.connection is not None
    backend.close()
    assert server.connections == 1


def test_sending_leaves_no_connection_on_the_backend(make, server):
    backend = make(server)
    for number in range(2):
        backend.send_messages([message(number)])
        assert backend.connection is None


def test_with_statement(make, server):
    backend = make(server)
    with backend as entered:
        assert entered is backend
        assert backend.connection is not None
        assert backend.send_messages([message(1)]) == 1
        assert backend.send_messages([message(2)]) == 1
    assert backend.connection is None
    assert server.connections == 1


def test_with_statement_closes_after_an_error(make, server):
    backend = make(server)
    with pytest.raises(LookupError), backend:
        raise LookupError
    assert backend.connection is None


def test_with_statement_without_a_server(make, server):
    server.refuse()
    backend = make(server)
    with pytest.raises(ConnectionRefusedError), backend:
        pass
    assert backend.connection is None


def test_open_without_a_server(make, server):
    server.refuse()
    backend = make(server)
    with pytest.raises(ConnectionRefusedError):
        backend.open()
    backend.fail_silently = True
    assert backend.open() is None
    assert backend.connection is None


def test_open_takes_part_in_nothing_half_ready(make):
    """CVE-2026-7666: a connection whose STARTTLS failed must not be used."""
    with FaultServer() as server:
        backend = make(server, use_tls=True, fail_silently=True)
        assert backend.open() is None
        assert backend.connection is None
        assert backend.send_messages([message()]) == 0
        assert server.commands("MAIL") == []


def test_the_connection_sends(make, server):
    backend = make(server)
    backend.open()
    content = b"Subject: by hand\r\n\r\nHello\r\n"
    assert backend.connection.sendmail("a@example.com", ["b@example.com"], content) == {}
    assert backend.connection.sendmail("a@example.com", "c@example.com", content.decode()) == {}
    assert backend.connection.noop()[0] == 250
    backend.close()
    assert [each.recipients for each in server.accepted] == [("b@example.com",), ("c@example.com",)]
    assert {each.content for each in server.accepted} == {content}
    assert server.connections == 1


def test_the_connection_tells_of_refused_recipients(make):
    with FaultServer(refuse_recipients={"no@example.com": "550 5.1.1 No such user"}) as server:
        backend = make(server)
        backend.open()
        recipients = ["no@example.com", "yes@example.com"]
        refused = backend.connection.sendmail("a@example.com", recipients, b"Subject: x\r\n\r\ny\r\n")
        assert refused == {"no@example.com": (550, b"5.1.1 No such user")}
        with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
            backend.connection.sendmail("a@example.com", recipients[:1], b"Subject: x\r\n\r\ny\r\n")
        assert caught.value.recipients == refused
        backend.close()


# -- errors ---------------------------------------------------------------------------------------------------

# name: (at, what the server does, the exception's type, its attributes)
REFUSALS = {
    "greeting": ("banner", "554 5.3.2 Go away", smtplib.SMTPConnectError, {"smtp_code": 554}),
    "ehlo": (("ehlo", "helo"), "502 5.5.1 No", smtplib.SMTPHeloError, {"smtp_code": 502, "smtp_error": b"5.5.1 No"}),
    "sender": (
        "mail",
        "550 5.7.1 Not you",
        smtplib.SMTPSenderRefused,
        {"smtp_code": 550, "smtp_error": b"5.7.1 Not you", "sender": "from@example.com"},
    ),
    "sender for now": ("mail", "451 4.7.1 Later", smtplib.SMTPSenderRefused, {"smtp_code": 451}),
    "sender, and closes": (
        "mail",
        "421 4.3.2 Shutting down",
        smtplib.SMTPSenderRefused,
        {"smtp_code": 421, "smtp_error": b"4.3.2 Shutting down"},
    ),
    "recipient": (
        "rcpt",
        "550-5.1.1 No such\r\n550 5.1.1 user",
        smtplib.SMTPRecipientsRefused,
        {"recipients": {"to@example.com": (550, b"5.1.1 No such\n5.1.1 user")}},
    ),
    "data": ("data", "554 5.5.1 No", smtplib.SMTPDataError, {"smtp_code": 554, "smtp_error": b"5.5.1 No"}),
    "content": ("end", "554 5.7.1 Spam", smtplib.SMTPDataError, {"smtp_code": 554, "smtp_error": b"5.7.1 Spam"}),
    "content for now": ("end", "452 4.3.1 Full", smtplib.SMTPDataError, {"smtp_code": 452}),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(make, name):
    at, text, error, attributes = REFUSALS[name]
    with FaultServer(fault=Fault(at=at, do=faults.reply(text), times=None)) as server:
        with pytest.raises(error) as caught:
            make(server).send_messages([message()])
        assert {key: getattr(caught.value, key) for key in attributes} == attributes
        assert server.accepted == []


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_in_silence(make, name):
    at, text, _, _ = REFUSALS[name]
    with FaultServer(fault=Fault(at=at, do=faults.reply(text), times=None)) as server:
        assert make(server, fail_silently=True).send_messages([message()]) == 0


@pytest.mark.parametrize("name", REFUSALS)
def test_silence_is_asked_for_at_the_time_of_sending(make, name):
    at, text, error, _ = REFUSALS[name]
    with FaultServer(fault=Fault(at=at, do=faults.reply(text), times=None)) as server:
        backend = make(server, fail_silently=True)
        backend.fail_silently = False
        with pytest.raises(error):
            backend.send_messages([message()])
        backend.fail_silently = True
        assert backend.send_messages([message()]) == 0


def test_a_wrong_password(make):
    with FaultServer(require_auth=True) as server:
        backend = make(server, username="user", password="wrong")
        with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
            backend.send_messages([message()])
        assert (caught.value.smtp_code, caught.value.smtp_error) == (535, b"5.7.8 Error: authentication failed")
        backend.fail_silently = True
        assert backend.send_messages([message()]) == 0
        assert server.accepted == []


@pytest.mark.parametrize(
    "options", [{"username": "user", "password": "secret"}, {"use_tls": True}], ids=["no AUTH", "no STARTTLS"]
)
def test_what_the_server_does_not_offer(make, options):
    with FaultServer(auth=()) as server:
        server.advertise = ["8BITMIME"]
        with pytest.raises(smtplib.SMTPNotSupportedError):
            make(server, **options).send_messages([message()])
        assert make(server, **options, fail_silently=True).send_messages([message()]) == 0


def test_no_server(make, server):
    server.refuse()
    with pytest.raises(ConnectionRefusedError):
        make(server).send_messages([message()])
    assert make(server, fail_silently=True).send_messages([message()]) == 0


def test_no_such_host(make, server, monkeypatch):
    real = socket.getaddrinfo

    def look_up(host, *args, **kwargs):
        if host == "nowhere.example":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    backend = make(server, host="nowhere.example")
    with pytest.raises(socket.gaierror) as caught:
        backend.send_messages([message()])
    assert caught.value.errno == socket.EAI_NONAME
    backend.fail_silently = True
    assert backend.send_messages([message()]) == 0


def test_a_server_that_hangs_up(make):
    with FaultServer(fault=Fault(at="mail", do=faults.fin, times=None)) as server:
        with pytest.raises(smtplib.SMTPServerDisconnected):
            make(server).send_messages([message()])
        assert make(server, fail_silently=True).send_messages([message()]) == 0


def test_a_server_that_does_not_answer(make):
    with FaultServer(fault=Fault(at="mail", do=faults.hang, times=None)) as server:
        backend = make(server, timeout=0.05)
        with pytest.raises(smtplib.SMTPServerDisconnected, match="timed out"):
            backend.send_messages([message()])


def test_a_certificate_that_is_not_trusted(make):
    with FaultServer(implicit_tls=certificates().server_context()) as server:
        with pytest.raises(OSError, match="certificate") as caught:
            make(server, use_ssl=True).send_messages([message()])
        assert caught.value.verify_code in {19, 20}
        assert make(server, use_ssl=True, fail_silently=True).send_messages([message()]) == 0


BAD_FIELDS = {
    "subject": {"subject": "one\nBcc: eve@example.com"},
    "sender": {"from_email": "a@example.com\nBcc: eve@example.com"},
    "recipient": {"to": ["a@example.com\nBcc: eve@example.com"]},
    "header's value": {"headers": {"X-Note": "one\r\nBcc: eve@example.com"}},
    "the end of the sender": {"from_email": "a@example.com\n"},
    "the end of a recipient": {"to": ["a@example.com\r\n"]},
    "the end of a copy": {"cc": ["a@example.com\n"]},
    "a name": {"to": ["one\ntwo <a@example.com>"]},
    "reply-to": {"reply_to": ["a@example.com\nBcc: eve@example.com"]},
    "From": {"headers": {"From": "a@example.com\nBcc: eve@example.com"}},
}


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("name", BAD_FIELDS)
def test_header_injection(make, server, name, silent):
    with pytest.raises(ValueError):  # noqa: PT011 - each Django says it in other words
        make(server, fail_silently=silent).send_messages([message(**BAD_FIELDS[name])])
    assert server.accepted == []


@pytest.mark.parametrize("name", BAD_FIELDS)
def test_header_injection_is_of_the_type_that_django_raises(server, name):
    """Django 5.2 has a type of its own, and its documentation says to catch that."""
    raised = {}
    for kind in (EmailBackend, PooledBackend):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - see above
            backend_for(server, kind).send_messages([message(**BAD_FIELDS[name])])
        raised[kind] = caught.value
    assert isinstance(raised[PooledBackend], type(raised[EmailBackend]))


BAD_ADDRESSES = [
    "", "@", "a@", "B\xfcro", "a@x..com", "a@x.com, b@x.com", "a@x.com;", "g: a@x.com;", "a>b@x.com", "a@x.com\0",
]  # fmt: skip


@pytest.mark.parametrize("field", ["to", "from_email"])
@pytest.mark.parametrize("address", BAD_ADDRESSES)
def test_an_invalid_address_is_told_in_djangos_words(server, address, field):
    said = {}
    value = [address, "a@example.com"] if field == "to" else address or " "
    for kind in (EmailBackend, PooledBackend):
        try:
            said[kind] = str(backend_for(server, kind).send_messages([message(**{field: value})]))
        except ValueError as error:
            said[kind] = str(error)
        server.close_idle()
    django_says = said[EmailBackend]
    # What is wrong with the address may be said better; Django 5.2 sends an address with a NUL.
    first = django_says if django_says.startswith("Invalid address;") else django_says.partition(": ")[0]
    assert said[PooledBackend].startswith(first) or (django_says == "1" and "\0" in address)


def test_an_error_leaves_the_backend_usable(make):
    with FaultServer(fault=Fault(at="end", do=faults.code_5xx)) as server:
        backend = make(server)
        with pytest.raises(smtplib.SMTPDataError):
            backend.send_messages([message(1)])
        assert backend.connection is None
        assert backend.send_messages([message(2)]) == 1


# -- subclasses -----------------------------------------------------------------------------------------------


class Subscribers(EmailMessage):
    """Says itself who gets it, one by one."""

    def recipients(self):
        return (f"{name}@example.com" for name in ("ann", "bob"))


def test_recipients_one_by_one(make, server):
    mail = Subscribers("Subject", "Hello\n", "from@example.com", ["all@example.com"])
    assert make(server).send_messages([mail]) == 1
    assert server.accepted[0].recipients == ("ann@example.com", "bob@example.com")


class Counting:
    """Overrides `_send`, as tracing packages do."""

    asked = ()

    def _send(self, email_message):
        self.asked = (*self.asked, email_message.subject)
        return super()._send(email_message)


def test_overriding_send(make, server):
    backend = make(server, Counting)
    assert backend.send_messages([message(1), message(2)]) == 2
    assert backend.asked == ("Message 1", "Message 2")
    assert backend.connection is None
    assert backend.send_messages([message(3)]) == 1
    assert backend.connection is None
    assert [b"Message 1" in each.content for each in server.accepted] == [True, False, False]


def test_overriding_send_stops_at_the_first_failure(make):
    with FaultServer(fault=Fault(at="mail", do=faults.code_5xx)) as server:
        backend = make(server, Counting)
        with pytest.raises(smtplib.SMTPSenderRefused):
            backend.send_messages([message(1), message(2)])
        assert backend.asked == ("Message 1",)
        assert backend.connection is None


def test_overriding_send_in_silence(make):
    with FaultServer(fault=Fault(at="mail", do=faults.code_5xx)) as server:
        backend = make(server, Counting, fail_silently=True)
        assert backend.send_messages([message(1), message(2)]) == 1
        server.refuse()
        server.close_idle()
        assert backend.send_messages([message(3)]) == 0


class ByHand:
    """Overrides `_send` and does without Django's."""

    def _send(self, email_message):
        content = email_message.message().as_bytes()
        return self.connection.sendmail("me@example.com", ["you@example.com"], content) == {}


def test_sending_over_the_connection_itself(make, server):
    assert make(server, ByHand).send_messages([message(1), message(2)]) == 2
    assert [each.sender for each in server.accepted] == ["me@example.com"] * 2
    assert server.connections == 1


class Opening:
    """Overrides `open`, as packages with logins of their own do."""

    opened = 0

    def open(self):
        new = super().open()
        if new:
            self.opened += 1
            assert self.connection.noop()[0] == 250
        return new


def test_overriding_open(make, server):
    backend = make(server, Opening)
    assert backend.send_messages([message(1), message(2)]) == 2
    assert backend.opened == 1
    with backend:
        backend.send_messages([message(3)])
    assert backend.opened == 2
    assert len(server.accepted) == 3


class OwnConnection:
    """Brings a connection of its own."""

    def open(self):
        if self.connection:
            return False
        self.connection = smtplib.SMTP(self.host, self.port, local_hostname="own.example")
        return True

    def close(self):
        if self.connection:
            self.connection.quit()
            self.connection = None


def test_a_connection_of_its_own(make, server):
    assert make(server, OwnConnection).send_messages([message(1), message(2)]) == 2
    assert server.connections == 1
    assert server.commands("EHLO") == [(1, "ehlo own.example")]


class Trusting:
    """Overrides `ssl_context`, as Django's documentation of custom CAs suggests."""

    @property
    def ssl_context(self):
        return certificates().client_context()


@pytest.mark.parametrize("on", ["the class", "Django's"])
def test_an_ssl_context_that_a_test_puts_on_the_class_is_used(make, kind, on):
    with FaultServer(starttls=certificates().server_context()) as server:
        backend = make(server, use_tls=True)
        context = certificates().client_context()
        with mock.patch.object(kind if on == "the class" else EmailBackend, "ssl_context", context):
            assert backend.send_messages([message(1)]) == 1


@pytest.mark.parametrize("mode", ["use_ssl", "use_tls"])
def test_overriding_the_ssl_context(make, mode):
    context = certificates().server_context()
    with FaultServer(**{"implicit_tls" if mode == "use_ssl" else "starttls": context}) as server:
        backend = make(server, Trusting, **{mode: True})
        assert backend.send_messages([message(1)]) == 1
        assert server.accepted[0].tls


class Stamping:
    """Overrides `send_messages` and the constructor."""

    def __init__(self, *args, stamp="none", **kwargs):
        super().__init__(*args, **kwargs)
        self.stamp = stamp

    def send_messages(self, email_messages):
        for each in email_messages:
            each.subject = f"{self.stamp}: {each.subject}"
        return super().send_messages(email_messages)


def test_overriding_send_messages_and_the_constructor(make, server):
    assert make(server, Stamping, stamp="[ours]").send_messages([message(1)]) == 1
    assert b"[ours]: Message 1" in server.accepted[0].content


def test_tls_to_a_server_that_speaks_first_and_in_clear(make, server):
    with pytest.raises(ssl.SSLError):
        make(server, use_ssl=True).open()
    assert server.accepted == []


# -- what others bring ----------------------------------------------------------------------------------------


class Signing:
    """Signs what it sends, as the usual DKIM backend does."""

    def _send(self, email_message):
        content = b"DKIM-Signature: v=1\r\n" + email_message.message().as_bytes().replace(b"\n", b"\r\n")
        self.connection.sendmail(email_message.from_email, email_message.recipients(), content)
        return True


def test_the_connection_takes_addresses_with_names(make, server):
    names = ["Ann <ann@example.com>", "<bob@example.com>", '"Eve, E." <eve@example.com>']
    assert make(server, Signing).send_messages([message(from_email="Shop <shop@example.com>", to=names)]) == 1
    (taken,) = server.accepted
    assert (taken.sender, taken.recipients) == (
        "shop@example.com",
        ("ann@example.com", "bob@example.com", "eve@example.com"),
    )
    assert taken.content.startswith(b"DKIM-Signature: v=1\r\n")


def test_nobody_to_send_to_is_what_it_is_with_smtplib(make, server):
    with make(server) as backend:
        with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
            backend.connection.sendmail("a@example.com", [], b"Subject: x\r\n\r\ny\r\n")
        assert caught.value.recipients == {}
    assert server.accepted == []


def test_the_connection_names_refused_recipients_as_they_were_given(make):
    refused = {"no@example.com": "550 5.1.1 No such user", "never@example.com": "550 5.1.1 No such user"}
    said = (550, b"5.1.1 No such user")
    with FaultServer(refuse_recipients=refused) as server, make(server) as backend:
        content = b"Subject: x\r\n\r\ny\r\n"
        both = ["No <no@example.com>", "yes@example.com"]
        assert backend.connection.sendmail("<>", both, content) == {"No <no@example.com>": said}
        assert server.accepted[0].sender == ""
        with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
            backend.connection.sendmail("a@example.com", ["No <no@example.com>", "<never@example.com>"], content)
        assert caught.value.recipients == {"No <no@example.com>": said, "<never@example.com>": said}
        assert caught.value.args == (caught.value.recipients,)


class CountingConnection(smtplib.SMTP):
    """An smtplib connection that counts."""

    sent = 0

    def sendmail(self, *args, **kwargs):
        type(self).sent += 1
        return super().sendmail(*args, **kwargs)


class OwnClass:
    connection_class = CountingConnection


def test_a_connection_class_of_a_subclass_is_used(make, server):
    backend = make(server, OwnClass)
    assert backend.send_messages([message(1), message(2)]) == 2
    assert OwnClass.connection_class.sent == 2
    assert len(server.commands("QUIT")) == 1
    assert backend.connection is None
    OwnClass.connection_class.sent = 0


def test_a_connection_that_was_opened_by_hand_is_used(make, server):
    with FaultServer() as own:
        backend = make(server)
        backend.connection = smtplib.SMTP(own.host, own.port)
        assert backend.open() is False
        assert backend.send_messages([message(1)]) == 1
        assert backend.send_messages([message(2), message(3)]) == 2
        assert (len(own.accepted), server.connections) == (3, 0)
        backend.close()
        assert own.wait_for(lambda: own.open_now == 0)
        assert len(own.commands("QUIT")) == 1
        assert backend.send_messages([message(4)]) == 1
        assert (len(own.accepted), len(server.accepted)) == (3, 1)


@pytest.mark.parametrize("many", [1, 2])
def test_a_mock_as_connection_is_asked(make, server, many):
    backend = make(server)
    backend.connection = mock.Mock()
    assert backend.send_messages([message(number) for number in range(many)]) == many
    assert backend.connection.sendmail.call_count == many
    assert server.connections == 0
    backend.connection = None


def test_a_mock_of_sendmail_is_asked(make, server):
    with make(server) as backend:
        with mock.patch.object(backend.connection, "sendmail") as sendmail:
            assert backend.send_messages([message()]) == 1
        sendmail.assert_called_once_with("from@example.com", ["to@example.com"], mock.ANY)
        assert b"\r\n" in sendmail.call_args.args[2]
        assert backend.send_messages([message()]) == 1
    assert len(server.accepted) == 1


def test_open_on_the_object_is_asked(make, server):
    backend = make(server)
    backend.open = mock.Mock(return_value=None)
    assert backend.send_messages([]) == 0
    backend.open.assert_not_called()
    assert backend.send_messages([message()]) == 0
    backend.open.assert_called_once_with()
    assert server.connections == 0


def test_send_on_the_object_is_asked(make, server):
    backend = make(server)
    backend._send = mock.Mock(return_value=True)
    assert backend.send_messages([message(), message()]) == 2
    assert backend._send.call_count == 2
    assert not server.accepted


PATCHES = {
    "_send": {"return_value": True},
    "open": {"return_value": None},
    "open, and nothing is open": {"return_value": True},
    "open, and it fails": {"side_effect": ConnectionRefusedError("as told")},
    "close": {"return_value": None},
}


@pytest.mark.parametrize("name", PATCHES)
def test_what_a_test_puts_on_the_class_is_asked(make, kind, server, name):
    backend = make(server)
    attribute = name.partition(",")[0]
    with mock.patch.object(kind, attribute, **PATCHES[name]) as patched:
        if "side_effect" in PATCHES[name]:
            with pytest.raises(ConnectionRefusedError, match="as told"):
                backend.send_messages([message()])
        else:
            assert backend.send_messages([message()]) == (attribute != "open")
        patched.assert_called_once()
    assert len(server.accepted) == (attribute == "close")
    backend.close()
    assert backend.send_messages([message()]) == 1


@pytest.mark.parametrize("on", ["the class", "Django's"])
def test_a_connection_class_that_a_test_puts_on_the_class_is_used(make, kind, server, on):
    backend = make(server)
    with mock.patch.object(kind if on == "the class" else EmailBackend, "connection_class", CountingConnection):
        assert backend.send_messages([message()]) == 1
    assert CountingConnection.sent == 1
    assert backend.send_messages([message()]) == 1
    assert CountingConnection.sent == 1
    CountingConnection.sent = 0


class Redirecting:
    """Overrides `prep_address`, which Django 6.0 and later ask."""

    def prep_address(self, address, force_ascii=True):
        return "redirected@example.com"


def test_overriding_prep_address(make, server):
    assert make(server, Redirecting).send_messages([message()]) == 1
    (taken,) = server.accepted
    known = hasattr(EmailBackend, "prep_address")
    assert taken.recipients == ("redirected@example.com" if known else "to@example.com",)


def test_arguments_as_python_takes_them(kind):
    with pytest.raises(TypeError, match="multiple values for argument 'host'"):
        kind("localhost", host="localhost", alias=None)
    with pytest.raises(TypeError, match="takes from 1 to 11 positional arguments but 15 were given"):
        kind(*range(14), alias=None)


class Closing:
    closed = 0

    def close(self):
        type(self).closed += 1
        super().close()


def test_overriding_close(make, server):
    backend = make(server, Closing)
    assert backend.send_messages([message()]) == 1
    assert type(backend).closed == 1


def test_the_connection_has_the_timeout(make, server):
    with make(server, timeout=10) as backend:
        assert backend.connection.timeout == 10


# -- pickles and copies ---------------------------------------------------------------------------------------


class Pickled(EmailMessage):
    def message(self, **options):
        return pickle.loads(pickle.dumps(super().message(**options)))


class Copied(EmailMultiAlternatives):
    def message(self, **options):
        return copy.deepcopy(super().message(**options))


@pytest.mark.parametrize("shape", [Pickled, Copied])
def test_rendered_messages_pickle_and_copy(make, server, shape):
    mail = shape("Gr\xfc\xdfe", "Hello\n", "Ann <a@example.com>", ["b@example.com"], reply_to=["c@example.com"])
    mail.attach("x.txt", "attached", "text/plain")
    assert make(server).send_messages([mail]) == 1
    assert b"reply-to: c@example.com" in server.accepted[0].content.lower()


def test_messages_that_were_sent_pickle_and_copy(make, server):
    mail = message()
    make(server).send_messages([mail])
    again = pickle.loads(pickle.dumps(mail))
    assert (again.subject, copy.deepcopy(mail).to) == (mail.subject, mail.to)
    assert make(server).send_messages([again, copy.copy(mail)]) == 2


@pytest.mark.parametrize("attempt", [pickle.dumps, copy.deepcopy])
def test_a_backend_is_pickled_only_without_its_lock(make, server, attempt):
    backend = make(server)
    with pytest.raises(TypeError, match="RLock"):
        attempt(backend)
    del backend._lock
    attempt(backend)
    backend._lock = threading.RLock()
