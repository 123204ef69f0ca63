"""Addresses: what the envelope says is what the header says, and nothing that a user types is an AttributeError."""

import contextlib
import functools

import django
import pytest
from django.core.mail import EmailMessage
from django.core.mail.backends.smtp import EmailBackend
from hypothesis import given, settings
from hypothesis import strategies as st

from django_smtp_pool.backend import PooledBackend
from django_smtp_pool.core.smtp.envelope import check_address
from django_smtp_pool.message.addresses import PLAIN, addr_spec, explain, remembering
from django_smtp_pool.message.render import envelope_of
from django_smtp_pool.remembered import configurations
from tests.mailing import backend_for, message
from tests.servers import FaultServer

MODERN = django.VERSION >= (6, 0)
NEEDS_MODERN = pytest.mark.skipif(not MODERN, reason="Django 5.2 knows no SMTPUTF8")


@pytest.fixture(scope="module")
def prepare():
    """Return the backend's prep_address, None for a Django that has none."""
    with FaultServer() as server:
        return getattr(backend_for(server), "prep_address", None)


GOOD = {
    "a@example.com": "a@example.com",
    "Ann <a@example.com>": "a@example.com",
    '"Doe, Ann" <a@example.com>': "a@example.com",
    "Änne <a@example.com>": "a@example.com",
    "a@bücher.example": "a@xn--bcher-kva.example",
    "Ann <a@例え.example>": "a@xn--r8jz45g.example",
    "a@xn--bcher-kva.example": "a@xn--bcher-kva.example",
    "a@[192.0.2.1]": "a@[192.0.2.1]",
    '"a b"@example.com': '"a b"@example.com',
    '"x@evil.example y"@example.com': '"x@evil.example y"@example.com',
    "webmaster": "webmaster",
    "a+b@example.com": "a+b@example.com",
}


@pytest.mark.parametrize(("written", "meant"), GOOD.items())
def test_the_envelope_has_the_bare_address(prepare, written, meant):
    envelope = envelope_of(message(to=[written], from_email=written), prepare)
    assert envelope.recipients == (meant,)
    assert envelope.sender == meant


def test_the_server_gets_the_bare_address(server):
    backend_for(server).send_messages([message(from_email="Ann <a@example.com>", to=["Bob <b@example.com>"])])
    assert [line for _, line in server.commands("RCPT")] == ["RCPT TO:<b@example.com>"]
    assert server.commands("MAIL")[0][1].startswith("MAIL FROM:<a@example.com>")


BAD = [
    "@",
    "a@",
    "<>",
    "<a@>",
    "",
    "a@[::1",
    "a@[",
    '"a@example.com',
    "a@example.com, b@example.com",
    "a@example.com b@example.com",
    "a@example.com\nBcc: b@example.com",
    "a@example.com\r\nDATA",
    "a\0b@example.com",
    "a\x07b@example.com",
    "a@exa\x7fmple.com",
    '"a\r\nb"@example.com',
    "a@example.com>",
    "<a@example.com> SIZE=1",
    "(" * 400 + "a@example.com",
    "(" * 5000,
    "a" * 400 + "@example.com",
    "a@" + "b." * 200 + "example.com",
    "a@" + "ü" * 100 + ".example",
    "x" * 100_000,
]


@pytest.mark.parametrize("field", ["to", "from_email", "cc", "bcc"])
@pytest.mark.parametrize("address", BAD, ids=range(len(BAD)))
def test_a_bad_address_is_a_value_error(prepare, address, field):
    if field == "from_email" and not address:
        pytest.skip("then it is DEFAULT_FROM_EMAIL")
    fields = {field: address if field == "from_email" else ["good@example.com", address]}
    if address:  # Django itself leaves empty ones out
        with pytest.raises(ValueError, match=r"."):
            envelope_of(message(**fields), prepare)


@pytest.mark.parametrize("name", ["To", "Reply-To", "Cc", "From", "Sender"])
@pytest.mark.parametrize("value", ["a@[::1", "(" * 5000, "jörg@[::1", "é" + "(" * 3000])
def test_a_bad_address_header_is_a_value_error_or_text(prepare, name, value):
    with contextlib.suppress(ValueError):
        envelope_of(message(headers={name: value}), prepare)


ODD = st.sampled_from([*('a.@<>()[]:;,\\" \t\r\n\0é日'), "=?utf-8?q?=0A?=", "@[::", "\u2028", "\ud800", "xn--"])
ADDRESSES = st.one_of(
    st.lists(ODD, max_size=12).map("".join),
    st.lists(ODD, max_size=6).map(lambda odd: f"{''.join(odd)}@example.com"),
    st.lists(ODD, max_size=6).map(lambda odd: f"a@{''.join(odd)}"),
    st.lists(ODD, max_size=6).map(lambda odd: f"{''.join(odd)} <a@example.com>"),
    st.emails(),
    st.text(max_size=30),
)


@given(address=ADDRESSES)
@settings(max_examples=250)
def test_any_address_is_one_command_or_a_value_error(prepare, address):
    try:
        envelope = envelope_of(message(to=["b@example.com", address], from_email=address or "a"), prepare)
    except ValueError:
        return
    for each in (envelope.sender, *envelope.recipients):
        assert not set(each) & set("\r\n\0")
        assert each.isascii() or envelope.smtputf8
        check_address(each, smtputf8=envelope.smtputf8)


@given(address=st.from_regex(PLAIN, fullmatch=True))
def test_what_is_plainly_an_address_is_what_the_parser_makes_of_it(prepare, address):
    if prepare is None:
        assert addr_spec(address, None, smtputf8=False) == sanitize_address(address, "utf-8")
    else:
        for way in (prepare, remembering(prepare)):
            assert addr_spec(address, way, smtputf8=False) == prepare(address)
            assert addr_spec(address, way, smtputf8=True) == prepare(address, force_ascii=False)


def sanitize_address(address, encoding):
    """Return what Django 5.2 makes of an address."""
    from django.core.mail.message import sanitize_address

    return sanitize_address(address, encoding)


@NEEDS_MODERN
def test_a_backend_with_a_way_of_its_own_is_asked_for_every_address(server):
    class Own(PooledBackend):
        def prep_address(self, address, **how):
            return f"own.{super().prep_address(address, **how)}"

    assert backend_for(server, Own).send_messages([message(), message(2)]) == 2
    assert [(each.sender, each.recipients) for each in server.accepted] == [
        ("own.from@example.com", ("own.to@example.com",))
    ] * 2


@NEEDS_MODERN
def test_a_way_of_its_own_may_be_another_each_time(server):
    class Own(PooledBackend):
        def prep_address(self, address, **how):
            numbers.append(address)
            return f"bounce{len(numbers)}@example.com"

    numbers = []
    assert backend_for(server, Own).send_messages([message(), message()]) == 2
    assert {each.sender for each in server.accepted} == {"bounce1@example.com", "bounce3@example.com"}


@NEEDS_MODERN
def test_what_somebody_has_put_in_the_place_of_djangos_own_way_is_asked(server, monkeypatch):
    """To keep the mail of a staging system from customers, say."""
    monkeypatch.setattr(EmailBackend, "prep_address", lambda self, address, **how: "staging@example.com")
    assert backend_for(server).send_messages([message(to=["customer@example.com"])]) == 1
    assert [each.recipients for each in server.accepted] == [("staging@example.com",)]


@given(address=ADDRESSES)
@settings(max_examples=60)
def test_any_reply_to_is_a_field_or_a_value_error(prepare, address):
    try:
        envelope = envelope_of(message(reply_to=[address]), prepare)
    except ValueError:
        return
    assert bytes(envelope.content).lower().count(b"\r\nreply-to:") == 1


def test_only_the_parsers_own_errors_are_translated():
    explain(AttributeError("not the parser's"))
    with pytest.raises(ValueError, match=r"nested too deeply"):
        explain(RecursionError())


def test_an_address_in_a_tuple_is_taken_as_django_takes_it(prepare):
    made = message(headers={"To": "Ann <a@example.com>"})
    made.to = [("Ann", "a@bücher.example")]
    if MODERN:
        pytest.skip("Django 6.0 takes no tuples")
    assert envelope_of(made, prepare).recipients == ("a@xn--bcher-kva.example",)
    made.to = [("Ann", "nobody")]
    with pytest.raises(ValueError, match=r"Invalid address"):
        envelope_of(made, prepare)


# -- names that are no addresses ------------------------------------------------------------------------

NAMES_ONLY = {
    "a name in Reply-To": {"reply_to": ["Büro"]},
    "a comma in a name": {"reply_to": ["Müller, Hans <h@x.com>"]},
    "a name in To": {"headers": {"To": "Abonnenten für Neues"}},
    "a name in Cc": {"headers": {"Cc": "Verteiler Süd"}},
    "a name in Sender": {"headers": {"Sender": "Büro"}},
    "a name in Resent-To": {"headers": {"Resent-To": "Büro"}},
    "a group": {"headers": {"To": "Empfänger:;"}},
    "a Reply-To that a header replaces": {"reply_to": ["jörg@example.com"], "headers": {"Reply-To": "r@example.com"}},
}


@pytest.mark.parametrize("fields", NAMES_ONLY.values(), ids=NAMES_ONLY)
def test_a_name_is_no_address_with_a_strange_local_part(fields):
    """Django 5.2 refuses some of these, and so do we there."""
    stock = message(**fields)
    try:
        octets = stock.message().as_bytes()
    except ValueError:
        with FaultServer() as server, pytest.raises(ValueError, match=r"Invalid address"):
            backend_for(server).send_messages([message(**fields)])
        return
    with FaultServer(extensions=("8BITMIME",)) as server:
        assert backend_for(server).send_messages([message(**fields)]) == 1
        assert server.accepted[0].content.isascii()
    assert octets.isascii()


def test_a_field_that_django_leaves_out_counts_for_nothing(server):
    backend_for(server).send_messages([message(headers={"reply-to": "jörg@example.com"})])
    assert "SMTPUTF8" not in server.accepted[0].parameters


@pytest.mark.parametrize("name", ["", "Person "])
def test_a_reply_to_may_be_a_list_in_one_text(server, name):
    people = ", ".join(f"{name}<person{number}@example.com>" for number in range(60))
    backend_for(server).send_messages([message(reply_to=[people])])
    assert server.accepted[0].content.count(b"@example.com>") == 60


# -- errors name what is wrong -------------------------------------------------------------------------

WRONG = [
    ({"headers": {"X-é": "a value"}}, ["X-é", "a value"]),
    ({"headers": {"X A": "a value"}}, ["X A", "a value"]),
    ({"subject": "a \ud800"}, ["Subject", "a \\ud800"]),
    ({"headers": {"X-A": "b \ud800"}}, ["X-A", "b \\ud800"]),
    ({"body": "c \ud800"}, ["c \\ud800"]),
    ({"to": ["d\ud800 <a@example.com>"]}, ["d\\ud800 <a@example.com>"]),
    ({"headers": {"X-A": "x\ny"}}, None),
    ({"headers": {"X-Long": "x" * 1200}}, ["X-Long", "xxxx"]),
]


@pytest.mark.parametrize(("fields", "words"), WRONG)
def test_an_error_names_the_field_and_shows_the_value(server, fields, words):
    with pytest.raises(ValueError, match=r".") as caught:
        backend_for(server).send_messages([message(**fields)])
    assert all(word in str(caught.value) for word in words or ())
    assert server.connections == 0


# -- non-ASCII local parts (RFC 6531) ------------------------------------------------------------------

STRANGE = [{"to": ["jörg@example.com"]}, {"from_email": "日本 <jörg@example.com>"}, {"reply_to": ["jörg@example.com"]}]
STRANGE += [{"bcc": ["jörg@bücher.example"]}, {"headers": {"Cc": "jörg@example.com"}}]


@NEEDS_MODERN
@pytest.mark.parametrize("fields", STRANGE)
def test_a_non_ascii_local_part_goes_by_smtputf8(server, fields):
    backend_for(server).send_messages([message(**fields)])
    taken = server.accepted[0]
    assert "SMTPUTF8" in taken.parameters
    if "bcc" in fields:
        assert taken.recipients == ("to@example.com", "jörg@xn--bcher-kva.example")
    else:
        assert "jörg@example.com".encode() in taken.content


@NEEDS_MODERN
def test_smtputf8_only_where_it_is_needed(server):
    backend_for(server).send_messages([message(to=["Jörg <a@bücher.example>"], subject="Grüße", body="Grüße")])
    assert "SMTPUTF8" not in server.accepted[0].parameters


@NEEDS_MODERN
def test_a_server_without_smtputf8_is_an_error_before_mail():
    with FaultServer(extensions=("8BITMIME",)) as server:
        made = message(to=["jörg@example.com"])
        with pytest.raises(Exception, match=r"does not offer SMTPUTF8") as caught:
            backend_for(server).send_messages([made, message(2)])
        assert caught.value.failures.keys() == {0}
        assert made.smtp_pool_status.outcome == "not_sent"
        assert len(server.commands("MAIL")) == len(server.accepted) == 1


@pytest.mark.skipif(MODERN, reason="Django 6.0 can")
@pytest.mark.parametrize("fields", STRANGE)
def test_django_5_2_names_itself(server, fields):
    with pytest.raises(ValueError, match=r"SMTPUTF8, which requires Django 6.0 or later; this is Django 5.2"):
        backend_for(server).send_messages([message(**fields)])
    assert server.connections == 0


@NEEDS_MODERN
def test_a_prep_address_that_wraps_djangos_is_asked(server):
    """`functools.wraps` makes it look like Django's own, and like a function with a cache."""
    backend = backend_for(server)
    original = backend.prep_address

    @functools.wraps(original)
    def redirecting(address, force_ascii=True):
        return original(address, force_ascii).replace("example.com", "staging.example")

    backend.prep_address = redirecting
    assert backend.send_messages([message(1), message(2)]) == 2
    assert {each for mail in server.accepted for each in mail.recipients} == {"to@staging.example"}


def test_the_fields_are_checked_if_the_recipients_are_others_for_all_messages(server, monkeypatch):
    """As in a project that redirects all its mail to the developers."""
    monkeypatch.setattr(EmailMessage, "recipients", lambda self: ["dev@example.com"])
    backend = backend_for(server)
    for bad in ("bo\x01b@example.com", "x" * 1500 + "@example.com"):
        with pytest.raises(ValueError, match="Invalid address"):
            backend.send_messages([message(to=[bad])])
    assert backend.send_messages([message(1)]) == 1
    assert [mail.recipients for mail in server.accepted] == [("dev@example.com",)]


def test_the_memory_of_configurations_shows_no_password(server):
    backend_for(server, username="me", password="my-secret").config  # noqa: B018 - a property
    assert "my-secret" not in repr(configurations)
