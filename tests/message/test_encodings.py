"""What a server takes: 8 bits or 7, so many octets, lines of so many; and the content is the same all the same."""

import re
import threading
import tracemalloc
from email import message_from_bytes, policy

import django
import pytest
from django.core.mail import EmailMessage
from hypothesis import given, settings
from hypothesis import strategies as st

from django_smtp_pool.core.errors import SenderRefused
from django_smtp_pool.core.smtp.content import with_crlf
from django_smtp_pool.message.render import envelope_of
from django_smtp_pool.message.transfer import seven_bit, short_lined
from tests.mailing import backend_for, message
from tests.message.corpus import COLLECTED, html, mail
from tests.message.test_corpus import meaning
from tests.servers import FaultServer

SEVEN_BIT = ("SIZE 10485760", "SMTPUTF8")
EIGHT_BIT_BODY = "Grüße aus Köln\n.\nÄpfel \n" + "日本語" * 8 + "\n"


def rendered(made):
    """Return a message's octets, as this Django renders them."""
    if django.VERSION >= (6, 0):
        return made.message(policy=policy.SMTP).as_bytes()
    return made.message().as_bytes(linesep="\r\n")


def header_of(content):
    return content.split(b"\r\n\r\n", 1)[0]


# -- 8BITMIME ------------------------------------------------------------------------------------------


def test_eight_bits_go_as_they_are_where_the_server_takes_them(server):
    backend_for(server).send_messages([message(body=EIGHT_BIT_BODY)])
    assert "Köln".encode() in server.accepted[0].content
    assert "BODY=8BITMIME" in server.accepted[0].parameters


def test_seven_bits_are_not_announced_as_eight(server):
    backend_for(server).send_messages([message()])
    assert not [each for each in server.accepted[0].parameters if each.startswith("BODY")]


def test_a_server_without_8bitmime_gets_seven_bits():
    with FaultServer(extensions=SEVEN_BIT) as server:
        made = html(("<p>Äpfel</p>", "text/html"), body=EIGHT_BIT_BODY, attachments=[("a.txt", "Öl\n", "text/plain")])
        backend_for(server).send_messages([made])
        taken = server.accepted[0]
    assert taken.content.isascii()
    assert not [each for each in taken.parameters if each.startswith("BODY")]
    texts = [text.decode().rstrip() for _, text in meaning(taken.content)]
    assert texts == [EIGHT_BIT_BODY.rstrip(), "<p>Äpfel</p>", "Öl"]


def test_the_size_is_that_of_what_is_sent():
    with FaultServer(extensions=SEVEN_BIT) as server:
        backend_for(server).send_messages([message(body=EIGHT_BIT_BODY)])
        taken = server.accepted[0]
    assert f"SIZE={len(taken.content)}" in taken.parameters


@pytest.mark.parametrize("name", COLLECTED)
def test_seven_bits_mean_the_same(name):
    try:
        content = with_crlf(rendered(COLLECTED[name]()))
    except (ValueError, TypeError, LookupError):
        pytest.skip("this one cannot be rendered")
    if not content or not header_of(content).isascii():
        pytest.skip("this one has a header of octets")
    clean = seven_bit(content)
    assert clean.isascii()
    assert meaning(clean) == meaning(content)
    assert header_fields(clean) == header_fields(content)


def header_fields(content):
    """Return the fields but the encoding."""
    message = message_from_bytes(content)
    return [(name, " ".join(str(value).split())) for name, value in message.items() if "transfer" not in name.lower()]


@given(octets=st.binary(max_size=200), kind=st.sampled_from(["text/plain", "application/x-any", "image/png"]))
@settings(max_examples=200)
def test_any_octets_survive(octets, kind):
    body = octets.replace(b"\r", b"").replace(b"\0", b"").replace(b"\n", b"\r\n") + b"\r\n"
    content = f"Subject: x\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: 8bit\r\n\r\n".encode() + body
    clean = seven_bit(content)
    assert clean.isascii()
    assert message_from_bytes(clean).get_payload(decode=True).replace(b"\r\n", b"\n") == body.replace(b"\r\n", b"\n")


def test_ascii_stays_as_it_is():
    content = rendered(COLLECTED["attachments"]())
    assert seven_bit(content) == content


def signed(body, *, header=None):
    content = (
        'Content-Type: multipart/signed; boundary="s"\n\n--s\nContent-Type: text/plain; charset="utf-8"\n'
        f"Content-Transfer-Encoding: 8bit\n\n{body}\n--s\nContent-Type: application/pgp-signature\n\nxyz\n--s--\n"
    )
    return f"Subject: x\n{header or 'MIME-Version: 1.0'}\n{content}".replace("\n", "\r\n").encode()


class Given(EmailMessage):
    """A message whose octets are given."""

    octets = b""

    def message(self, **options):
        return self

    def as_bytes(self, **options):
        return self.octets


def given_octets(octets):
    made = Given("Subject", "Body\n", "from@example.com", ["to@example.com"])
    made.octets = octets
    return made


@pytest.mark.parametrize(
    "content",
    [
        signed("Grüße"),
        "DKIM-Signature: v=1\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße\r\n".encode(),
    ],
)
def test_what_is_signed_is_refused_and_not_broken(content):
    with FaultServer(extensions=SEVEN_BIT) as server:
        made = given_octets(content)
        with pytest.raises(ValueError, match=r"is signed, and has to be encoded again.*only ASCII"):
            backend_for(server).send_messages([made])
        assert made.smtp_pool_status.outcome == "not_sent"
        assert not server.commands("MAIL")
        backend_for(server).send_messages([message()])
        assert server.connections == 1  # nothing was said, so it is as good as before


def test_what_is_signed_stays_as_it_is_where_that_is_possible(server):
    for content in (signed("ASCII"), signed("Grüße")):
        backend_for(server).send_messages([given_octets(content)])
        assert server.accepted[-1].content == content
    assert seven_bit(signed("ASCII")) == signed("ASCII")


def test_a_header_of_octets_cannot_be_made_seven_bit():
    with pytest.raises(ValueError, match=r"its header is not ASCII"):
        seven_bit("Subject: Grüße\r\n\r\nx\r\n".encode())


# -- lines, dots, sizes --------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [997, 998])
def test_lines_of_998_octets_stay(server, length):
    content = b"Subject: x\r\n\r\n" + b"y" * length + b"\r\n"
    backend_for(server).send_messages([given_octets(content)])
    assert server.accepted[0].content == content


@pytest.mark.parametrize("kind", ["text/plain", "text/html", "application/json"])
def test_longer_lines_are_encoded(server, kind):
    body = b"y" * 999 + b"\r\nz\r\n"
    backend_for(server).send_messages([given_octets(f"Subject: x\r\nContent-Type: {kind}\r\n\r\n".encode() + body)])
    taken = server.accepted[0].content
    assert max(map(len, taken.split(b"\r\n"))) <= 998
    assert message_from_bytes(taken).get_payload(decode=True) == body
    assert b"Subject: x\r\nContent-Type: " in taken


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"Subject: " + b"x" * 990 + b"\r\n\r\n", "a header line of more than 998"),
        (signed("x" * 999), "is signed, and has to be encoded again"),
    ],
)
def test_long_lines_that_must_stay_are_refused(server, content, text):
    with pytest.raises(ValueError, match=text):
        backend_for(server).send_messages([given_octets(content)])
    assert server.connections == 0


def test_short_lines_stay_short():
    with pytest.raises(ValueError, match=r"header line"):
        short_lined(b"X: " + b"x" * 1000 + b"\r\n\r\n")


@pytest.mark.parametrize("end", ["\n.\n", "\r\n.\r\n", "\n.\r\n", "\r.\r", "\r\n.\n", "\r.\r\n", "\n\n.\r\n"])
@pytest.mark.parametrize("how", ["body", "octets"])
def test_no_message_can_be_smuggled(server, end, how):
    text = f"first{end}MAIL FROM:<x@example.com>\r\nRCPT TO:<y@example.com>\r\nDATA\r\nsecond{end}"
    made = mail(body=text) if how == "body" else given_octets(b"Subject: x\r\n\r\n" + text.encode())
    backend_for(server, batch_connections=1).send_messages([made, message()])
    first, _ = server.accepted
    assert len(server.commands("MAIL")) == 2
    assert b"second" in first.content
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", first.content)


def test_a_message_too_large_is_refused_before_mail():
    with FaultServer(extensions=("SIZE 2000", "8BITMIME")) as server:
        made = message(body="x\n" * 1500)
        with pytest.raises(SenderRefused, match=r"server accepts at most 2000"):
            backend_for(server).send_messages([made])
        assert made.smtp_pool_status.outcome == "not_sent"
        assert made.smtp_pool_status.recipients["to@example.com"].code == 552
        assert not server.commands("MAIL")


def test_the_message_id_is_known(server):
    made = message(headers={"Message-ID": "<own@example.com>"})
    prepare = getattr(backend_for(server), "prep_address", None)
    assert envelope_of(made, prepare).message_id == "<own@example.com>"
    envelope = envelope_of(message(), prepare)
    assert f"Message-ID: {envelope.message_id}".encode() in bytes(envelope.content)


# -- memory --------------------------------------------------------------------------------------------


def test_no_more_than_two_copies_of_a_large_message():
    """One is the content, the other the same with its dots doubled, which few messages need."""
    size = 4 * 2**20
    with FaultServer(extensions=("8BITMIME",), body_after=size // 2) as server:
        server.hold("body")
        tracemalloc.start()
        try:
            sending = threading.Thread(target=_send_dots, args=(server, size))
            sending.start()
            server.wait_for(lambda: server.held)
            held = tracemalloc.take_snapshot()
        finally:
            tracemalloc.stop()
        server.release()
        sending.join()
        assert len(server.accepted[0].content) > size
    ours = held.filter_traces([tracemalloc.Filter(inclusive=False, filename_pattern="*/testing/server/*")])
    assert 1.9 * size < sum(trace.size for trace in ours.traces) < 2.6 * size


def _send_dots(server, size):
    line = b".dots and more of them, as many as are needed\r\n"
    backend_for(server).send_messages([given_octets(b"Subject: x\r\n\r\n" + line * (size // len(line) + 1))])
