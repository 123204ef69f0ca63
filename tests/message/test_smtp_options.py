"""`message.smtp_options`: DSN and REQUIRETLS as a user writes them, and what the server then hears."""

import copy
import logging
import pickle
import ssl

import django
import pytest

from django_smtp_pool.core.errors import NotOffered
from tests.mailing import backend_for, message
from tests.servers import FaultServer
from tests.servers.certificates import certificates

USUAL = ("SIZE 10485760", "8BITMIME", "ENHANCEDSTATUSCODES", "SMTPUTF8")
MODERN = pytest.mark.skipif(django.VERSION < (6, 0), reason="Django 5.2 knows no SMTPUTF8")


@pytest.fixture
def server():
    """A server that offers DSN."""
    with FaultServer(extensions=(*USUAL, "DSN")) as running:
        yield running


def asking(*, to=("to@example.com",), **options):
    """Return a message with smtp_options."""
    made = message(to=to)
    made.smtp_options = options
    return made


def send(server, made, **options):
    assert backend_for(server, **options).send_messages([made]) == 1
    return server.accepted[-1]


def refused(server, made, match, error=ValueError):
    """Send a message that is refused before MAIL, and another one that is not, over the same connection."""
    backend = backend_for(server, max_requeues=5)
    with pytest.raises(error, match=match):
        backend.send_messages([made])
    assert made.smtp_pool_status.outcome == "not_sent"
    assert server.commands("MAIL") == []
    assert backend.send_messages([message()]) == 1
    assert server.connections == 1


# DSN


def test_what_is_asked_for_is_said(server):
    taken = send(
        server,
        asking(
            to=["Ann <ann@example.com>", "bob@example.com"],
            dsn={
                "ret": "hdrs",
                "envid": "order 17",
                "notify": ["success", "failure"],
                "orcpt": {"Ann <ann@example.com>": "rfc822;list@example.com"},
            },
        ),
    )
    assert taken.parameters[-2:] == ("RET=HDRS", "ENVID=order+2017")
    assert taken.rcpt_parameters == {
        "ann@example.com": ("NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;list@example.com"),
        "bob@example.com": ("NOTIFY=SUCCESS,FAILURE",),
    }


def test_each_recipient_may_have_notifications_of_its_own(server):
    notify = {"a@example.com": "never", "B <b@example.com>": ["delay"]}
    taken = send(
        server, asking(to=["a@example.com", "b@example.com", "c@example.com"], dsn={"notify": notify, "orcpt": None})
    )
    assert taken.rcpt_parameters == {
        "a@example.com": ("NOTIFY=NEVER",),
        "b@example.com": ("NOTIFY=DELAY",),
        "c@example.com": (),
    }


def test_blind_copies_are_asked_for_too(server):
    made = asking(dsn={"notify": "failure", "orcpt": {"hidden@example.com": "x@example.com"}})
    made.bcc = ["hidden@example.com"]
    taken = send(server, made)
    assert taken.rcpt_parameters["hidden@example.com"] == ("NOTIFY=FAILURE", "ORCPT=rfc822;x@example.com")


def test_a_batch_asks_for_each_message(server):
    batch = [asking(to=[f"to{n}@example.com"], dsn={"envid": f"letter {n}", "notify": "delay"}) for n in range(20)]
    batch[7].smtp_options = {}
    assert backend_for(server).send_messages(batch) == 20
    said = {taken.recipients[0]: [word for word in taken.parameters if "ENVID" in word] for taken in server.accepted}
    assert said == {f"to{n}@example.com": [f"ENVID=letter+20{n}"] if n != 7 else [] for n in range(20)}


@pytest.mark.parametrize("pipelining", [True, False])
def test_warm_connections_ask_as_well_as_cold_ones(pipelining):
    with FaultServer(extensions=(*USUAL, "DSN"), chunking=True, pipelining=pipelining) as server:
        backend = backend_for(server)
        for number in range(4):
            backend.send_messages([asking(dsn={"envid": str(number), "notify": "success"})])
        assert [taken.parameters[-1] for taken in server.accepted] == [f"ENVID={number}" for number in range(4)]
        assert {taken.rcpt_parameters["to@example.com"] for taken in server.accepted} == {("NOTIFY=SUCCESS",)}
        assert server.connections == 1


@pytest.mark.parametrize(
    "nothing", [None, {}, {"dsn": None, "require_tls": None}, {"dsn": {"notify": {}}}, {"require_tls": 0}]
)
def test_nothing_is_nothing(server, nothing):
    made = message()
    made.smtp_options = nothing
    taken = send(server, made)
    assert (taken.parameters[1:], taken.rcpt_parameters) == ((), {"to@example.com": ()})
    assert made.smtp_pool_status.dsn is None


@MODERN
def test_an_original_address_beyond_ascii(server):
    taken = send(server, asking(dsn={"orcpt": {"to@example.com": "é@example.com"}}))
    assert taken.rcpt_parameters["to@example.com"] == (r"ORCPT=utf-8;\x{E9}@example.com",)
    taken = send(server, asking(to=["ü@example.com"], dsn={"orcpt": {"ü@example.com": "é@example.com"}}))
    assert taken.rcpt_parameters["ü@example.com"] == ("ORCPT=utf-8;é@example.com",)


BAD = {
    "no dict": (["dsn"], r"smtp_options must be a dict"),
    "empty list": ([], r"smtp_options must be a dict"),
    "unknown": ({"dns": {}}, r"smtp_options has the unknown key 'dns': did you mean 'dsn'\?"),
    "very unknown": ({"priority": 1}, r"unknown key 'priority'; known are dsn, require_tls"),
    "dsn no dict": ({"dsn": "success"}, r"smtp_options\['dsn'\] must be a dict"),
    "unknown in dsn": (
        {"dsn": {"notfiy": "never"}},
        r"smtp_options\['dsn'\] has the unknown key 'notfiy': did you mean 'notify'",
    ),
    "no key at all": ({"dsn": {3: 1}}, r"smtp_options\['dsn'\] has the unknown key 3"),
    "bad return": ({"dsn": {"ret": "all"}}, r"smtp_options\['dsn'\]: ret must be one of 'FULL', 'HDRS', not 'all'"),
    "bad event": ({"dsn": {"notify": ["sent"]}}, r"smtp_options\['dsn'\]: notify must be one of 'SUCCESS'.*not 'sent'"),
    "never and": ({"dsn": {"notify": ["never", "delay"]}}, r"notify must be either 'NEVER'"),
    "injection": ({"dsn": {"envid": "1\r\nRCPT TO:<m@example.com>"}}, r"envid must not contain control characters"),
    "stranger": (
        {"dsn": {"orcpt": {"x@example.com": "y@example.com"}}},
        r"orcpt names 'x@example.com', which is not a recip",
    ),
    "strange notify": (
        {"dsn": {"notify": {"x@example.com": "never"}}},
        r"notify names 'x@example.com', which is not a recip",
    ),
    "no address": ({"dsn": {"notify": {"a@[::1": "never"}}}, r"(?i)invalid|address"),
    "empty flag": ({"require_tls": ""}, r"smtp_options\['require_tls'\] must be True or False"),
    "bad flag": ({"require_tls": "yes"}, r"smtp_options\['require_tls'\] must be True or False"),
}


@pytest.mark.parametrize(("options", "match"), BAD.values(), ids=BAD)
def test_what_is_no_good_is_refused_before_anything_is_said(server, options, match):
    made = message()
    made.smtp_options = options
    refused(server, made, match)


def test_where_dsn_is_not_offered_the_message_goes_without_and_the_status_says_so(caplog):
    with FaultServer() as server, caplog.at_level(logging.DEBUG, "django_smtp_pool.sender"):
        made = asking(dsn={"ret": "full", "notify": "success"})
        taken = send(server, made)
    assert (taken.parameters[1:], taken.rcpt_parameters) == ((), {"to@example.com": ()})
    assert made.smtp_pool_status.dsn is False
    assert "no DSN, which the server does not offer" in caplog.text


def test_the_status_says_whether_the_server_was_asked(server):
    made, plain = asking(dsn={"notify": "success"}), message()
    send(server, made)
    send(server, plain)
    assert (made.smtp_pool_status.dsn, plain.smtp_pool_status.dsn) == (True, None)


def test_strictly_it_is_not_sent_where_dsn_is_not_offered():
    with FaultServer() as server:
        refused(
            server, asking(dsn={"notify": "success", "strict": True}), r"\(dsn, strict\).*not offer DSN", NotOffered
        )


def test_options_travel_with_a_message_that_is_copied_or_pickled(server):
    made = asking(dsn={"envid": "1"})
    for again in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert send(server, again).parameters[-1] == "ENVID=1"


# REQUIRETLS


def secure(extensions=(*USUAL, "REQUIRETLS"), *, how="starttls"):
    return FaultServer(**{how: certificates().server_context()}, extensions=extensions)


@pytest.fixture
def ca_file(tmp_path):
    return str(certificates().write_authority(tmp_path))


@pytest.mark.parametrize(("how", "mode"), [("starttls", "use_tls"), ("implicit_tls", "use_ssl")])
def test_requiretls_is_said_over_checked_tls(ca_file, how, mode):
    with secure(how=how) as server:
        taken = send(server, asking(require_tls=True), **{mode: True}, tls_options={"ca_file": ca_file})
        assert taken.tls
        assert taken.parameters[1:] == ("REQUIRETLS",)


def not_sent(server, match, **options):
    backend = backend_for(server, max_requeues=5, **options)
    made = asking(require_tls=True)
    with pytest.raises(NotOffered, match=match):
        backend.send_messages([made])
    assert (made.smtp_pool_status.outcome, made.smtp_pool_status.attempts) == ("not_sent", 1)
    assert server.commands("MAIL") == []
    assert backend.send_messages([message()]) == 1
    assert server.connections == 1


def test_requiretls_in_clear_is_not_sent():
    with FaultServer(extensions=(*USUAL, "REQUIRETLS")) as server:
        not_sent(
            server,
            r"requires TLS on the whole way \(require_tls\), but the connection is not encrypted; the message was",
        )


def test_requiretls_to_a_server_that_was_not_checked_is_not_sent():
    with secure() as server:
        not_sent(server, r"but the server's certificate is not checked", use_tls=True, tls_options={"verify": False})


def test_requiretls_to_a_server_whose_name_was_not_checked_is_not_sent(ca_file):
    context = ssl.create_default_context(cafile=ca_file)
    context.check_hostname = False
    with secure() as server:
        not_sent(server, r"but the server's certificate is not checked", use_tls=True, tls_options={"context": context})


def test_requiretls_that_is_not_offered_is_not_sent(ca_file):
    with secure(USUAL) as server:
        text = r"but the server does not offer REQUIRETLS; the message was not sent"
        not_sent(server, text, use_tls=True, tls_options={"ca_file": ca_file})


def test_all_that_is_missing_is_named():
    with FaultServer() as server:
        not_sent(server, r"the connection is not encrypted and the server does not offer REQUIRETLS")


# `backend.connection.sendmail`, in smtplib's words

CONTENT = b"Subject: x\r\n\r\ny\r\n"


def sendmail(server, mail_options=(), rcpt_options=(), **options):
    with backend_for(server, **options) as backend:
        return backend.connection.sendmail("a@example.com", ["b@example.com"], CONTENT, mail_options, rcpt_options)


def test_the_words_of_mail_and_rcpt(server):
    mail = ["BODY=8BITMIME", "ret=HDRS", "ENVID=order+2017"]
    assert sendmail(server, mail, ["NOTIFY=success,DELAY", "ORCPT=rfc822;c+2Bd@example.com"]) == {}
    (taken,) = server.accepted
    assert taken.parameters[1:] == ("RET=HDRS", "ENVID=order+2017")
    assert taken.rcpt_parameters == {
        "b@example.com": ("NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;c+2Bd@example.com"),
    }


def test_words_that_cannot_be_had_are_an_error_as_with_smtplib():
    with FaultServer() as server:
        with pytest.raises(NotOffered, match="does not offer DSN"):
            sendmail(server, ["RET=HDRS"])
        with pytest.raises(NotOffered, match="not encrypted"):
            sendmail(server, ["REQUIRETLS"])
        assert server.commands("MAIL") == []


@pytest.mark.parametrize(
    ("mail", "rcpt", "match"),
    [
        (["XVERP"], [], r"unsupported options of MAIL or RCPT: XVERP"),
        (["NOTIFY=NEVER"], [], r"unsupported options of MAIL or RCPT: NOTIFY"),
        ([], ["RET=FULL"], r"unsupported options of MAIL or RCPT: RET"),
        (["RET=ALL"], [], r"ret must be one of"),
        (["ENVID=a=b"], [], r"ENVID must be xtext"),
        (["ENVID=a\r\nDATA"], [], r"ENVID must be xtext"),
        ([], ["NOTIFY=NEVER,DELAY"], r"notify must be either 'NEVER'"),
        ([], ["NOTIFY="], r"notify must be one of"),
        ([], ["ORCPT=b@example.com"], r"ORCPT must"),
        ([], ["ORCPT=rfc822;a b"], r"ORCPT must be xtext"),
    ],
)
def test_words_that_make_no_sense(server, mail, rcpt, match):
    with pytest.raises(ValueError, match=match):
        sendmail(server, mail, rcpt)
    assert server.commands("MAIL") == []
