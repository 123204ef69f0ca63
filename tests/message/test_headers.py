"""What users type into subjects, names and headers: no field but those that the message has reaches the wire."""

import re
from email import policy
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

import django
import pytest
from django.core.mail import EmailMessage
from hypothesis import given, settings
from hypothesis import strategies as st

from django_smtp_pool.message.render import envelope_of
from django_smtp_pool.message.safety import check_rendered, has_long_line
from tests.mailing import backend_for, message
from tests.message.corpus import BOUNCE, html
from tests.servers import FaultServer

MODERN = django.VERSION >= (6, 0)
OURS = {b"content-type", b"content-transfer-encoding", b"mime-version", b"subject", b"from", b"to", b"date"}
OURS |= {b"message-id", b"cc", b"reply-to"}

# What has broken out of a header somewhere: encoded and plain line ends, in every disguise.
BREAKS = ["\r\n", "\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\r\n ", "\n\t", "\r\n\r\n", "\0"]
WORDS = ["=?utf-8?q?=0A?=", "=?UTF-8?Q?=0D=0A?=", "=?utf-8?b?Cg==?=", "=?utf-8?q?a=0ABcc=3A_x?=", "é", "日", '"', ","]
FIELDS = ["Bcc: x@evil.example", "Reply-To: x@evil.example", "X-I: 1", "--boundary", "<x@evil.example>", ":", " ", "("]
TEXTS = st.lists(st.sampled_from([*BREAKS, *WORDS, *FIELDS]) | st.text(max_size=20), max_size=6).map("".join)


@pytest.fixture(scope="module")
def prepare():
    """Return the backend's prep_address, None for a Django that has none."""
    with FaultServer() as server:
        return getattr(backend_for(server), "prep_address", None)


def block_of(content):
    """Return the names of the header block, read as the strictest and the laxest server would."""
    head = re.split(rb"\r\n\r\n|\n\n|\r\r", content, maxsplit=1)[0]
    lines = re.split(rb"\r\n|\r|\n", head)
    return [line.partition(b":")[0].lower() for line in lines if line[:1] not in (b" ", b"\t")]


def assert_safe(envelope, *also):
    """Check, without the package's own code, that nothing got into the header."""
    names = block_of(bytes(envelope.content))
    assert set(names) <= OURS | {name.lower().encode() for name in also}
    assert len(names) == len(set(names))
    assert b"\0" not in bytes(envelope.content)
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", bytes(envelope.content))


def assert_refused_or_safe(prepare, made, *also):
    try:
        envelope = envelope_of(made, prepare)
    except ValueError:
        return
    assert_safe(envelope, *also)


@given(text=TEXTS)
@settings(max_examples=150)
def test_no_subject_breaks_out(prepare, text):
    assert_refused_or_safe(prepare, message(subject=text))


@given(text=TEXTS)
@settings(max_examples=100)
def test_no_header_value_breaks_out(prepare, text):
    assert_refused_or_safe(prepare, message(headers={"X-Value": text}), "X-Value")


@given(text=TEXTS)
@settings(max_examples=100)
def test_no_header_name_breaks_out(prepare, text):
    if text.lower() in {"bcc", "resent-bcc"}:
        return
    assert_refused_or_safe(prepare, message(headers={text: "value"}), *([text] if text.isascii() else []))


@given(text=TEXTS)
@settings(max_examples=100)
def test_no_name_of_a_person_breaks_out(prepare, text):
    made = message(
        to=[f"{text} <a@example.com>"], from_email=f'"{text}" <b@example.com>', reply_to=[f"{text}<c@d.example>"]
    )
    assert_refused_or_safe(prepare, made)


@given(text=TEXTS, name=TEXTS)
@settings(max_examples=100)
def test_nothing_breaks_out_of_a_part(prepare, text, name):
    made = html((text, "text/html"), body=text, attachments=[(name, text, "text/plain"), (name, b"x", None)])
    try:
        envelope = envelope_of(made, prepare)
    except ValueError:
        return
    boundaries = re.findall(rb'boundary="([^"]+)"', bytes(envelope.content))
    for boundary in boundaries:
        parts = bytes(envelope.content).split(b"\r\n--" + boundary + b"\r\n")[1:]
        for part in parts:
            assert set(block_of(part)) <= OURS | {b"content-disposition", b"content-id"}


@given(text=TEXTS)
@settings(max_examples=50)
def test_nothing_breaks_out_of_a_forwarded_message(prepare, text):
    inner = EmailMessage(text, text, "a@example.com", ["b@example.com"])
    try:
        envelope = envelope_of(html(attachments=[(None, inner, "message/rfc822")]), prepare)
    except ValueError:
        return
    inside = bytes(envelope.content).split(b"Content-Type: message/rfc822")[1].split(b"\r\n\r\n", 1)[1]
    assert set(block_of(inside)) <= OURS


INJECTIONS = [
    {"subject": "é=?UTF-8?Q?=0A?=Bcc: x@evil.example"},
    {"subject": "é=?UTF-8?Q?=0A?=Reply-To: x@evil.example"},
    {"subject": "é=?UTF-8?Q?=0D=0A=0D=0A?=A body of their own"},
    {"headers": {"X-A\nBcc": "x@evil.example"}},
    {"headers": {"X-A: 1\r\nBcc": "x@evil.example"}},
    {"headers": {"X-A": "é=?UTF-8?Q?=0A?=Bcc: x@evil.example"}},
]


@pytest.mark.parametrize("fields", INJECTIONS)
def test_known_injections_inject_nothing(server, fields):
    made = message(**fields)
    try:
        backend_for(server).send_messages([made])
    except ValueError:
        assert made.smtp_pool_status.outcome == "not_sent"
        assert not server.commands("MAIL")
        return
    names = block_of(server.accepted[0].content)
    assert b"bcc" not in names
    assert b"reply-to" not in names


REFUSED = {
    "NUL": ({"body": "a\0b"}, "contains a NUL"),
    "NUL in the subject": ({"subject": "a\0b"}, None),
    "no name": ({"headers": {"": "x"}}, "not a header field"),
    "name with a blank": ({"headers": {"X A": "x"}}, "not a header field"),
    "name with a colon": ({"headers": {"X:A": "x"}}, None),
    "Bcc": ({"headers": {"Bcc": "x@example.com"}}, "(?i)bcc"),
    "Resent-Bcc": ({"headers": {"Resent-Bcc": "x@example.com"}}, "use the `bcc` argument"),
    "two subjects": ({"headers": {"SUBJECT": "x"}}, "(?i)more than one|at most 1"),
    "two types": ({"headers": {"Content-Type": "text/html"}}, "(?i)more than one|at most 1"),
}


@pytest.mark.parametrize(("fields", "text"), REFUSED.values(), ids=REFUSED)
def test_what_must_not_go_out_is_refused(server, fields, text):
    with pytest.raises(ValueError, match=text):
        backend_for(server).send_messages([message(**fields)])
    assert server.connections == 0


# -- the check itself, over what no Django makes today -------------------------------------------------


class Rendered(MIMEText):
    """A message whose octets are given: what a broken e-mail package would write."""

    def __init__(self, *names):
        super().__init__("Body")
        for name in list(self.keys()):
            del self[name]
        for name in names:
            self[name] = "x"


@pytest.mark.parametrize(
    "content",
    [
        b"A: x\r\nB: y\r\n\r\n",
        b"B: y\r\nA: x\r\n\r\n",
        b"\r\nA: x\r\n\r\n",
        b"B: x\r\n\r\n",
        b"A: x\r\n",
        b"A: x",
        b"A : x\r\n\r\n",
        b"\xc3\xa9: x\r\n\r\n",
        b"A: x\0\r\n\r\n",
        b" A: x\r\n\r\n",
        b"a: x\r\n\r\n",
        b"",
    ],
)
def test_octets_that_are_not_the_message_are_refused(content):
    with pytest.raises(ValueError, match=r"."):
        check_rendered(Rendered("A"), content)


def test_the_order_and_the_number_of_fields_count():
    check_rendered(Rendered("A", "B", "B"), b"A: x\r\nB: y\r\nB: z\r\n\r\n")
    for content in (b"B: y\r\nA: x\r\nB: z\r\n\r\n", b"A: x\r\nB: y\r\n\r\nB: z\r\n\r\n"):
        with pytest.raises(ValueError, match=r"does not have the fields"):
            check_rendered(Rendered("A", "B", "B"), content)


@pytest.mark.parametrize("content", [b"A: x\r\n\r\n", b"A:\r\n x\r\n\ty\r\n\r\nBody", b"A: \xc3\xa9\r\n\r\n"])
def test_octets_that_are_the_message_pass(content):
    check_rendered(Rendered("A"), content)


class Signed(Rendered):
    """A message that signs itself."""

    def as_bytes(self, **options):
        return b"DKIM-Signature: x\r\nA: x\r\n\r\n"


def test_a_message_that_renders_itself_may_put_its_signature_first():
    check_rendered(Signed("A"), Signed("A").as_bytes())
    with pytest.raises(ValueError, match=r"does not have the fields"):
        check_rendered(Signed("A"), b"A: x\r\nInjected: y\r\n\r\n")
    check_rendered(object(), b"Any: thing\r\n\r\n")


def multipart(*parts, boundary="b"):
    made = MIMEMultipart(boundary=boundary)
    for part in parts:
        made.attach(part)
    return made


def as_sent(made):
    return made.as_bytes(policy=policy.compat32.clone(linesep="\r\n"))


def test_every_part_is_looked_at():
    made = multipart(MIMEText("one"), multipart(MIMEText("two"), MIMEText("three"), boundary="c"), MIMEText("four"))
    content = as_sent(made)
    check_rendered(made, content)
    for text in (b"one", b"two", b"three", b"four"):
        with pytest.raises(ValueError, match=r"became 'X-I'"):
            check_rendered(made, content.replace(b"\r\n\r\n" + text, b"\r\nX-I: 1\r\n\r\n" + text))


@pytest.mark.parametrize("text", ["\n--b\n\nfake", "\n--b\nContent-Type: text/plain\n\nfake", "\n--b--\n"])
def test_a_part_cannot_contain_its_own_boundary(text):
    made = multipart(MIMEText(text), MIMEText("two"))
    with pytest.raises(ValueError, match=r"boundary|fields it was given|not a header field"):
        check_rendered(made, as_sent(made))


def test_a_missing_part_is_noticed():
    made = multipart(MIMEText("one"))
    with pytest.raises(ValueError, match=r"is missing"):
        check_rendered(made, as_sent(made).replace(b"--b", b"--c"))


def test_a_forwarded_bounce_is_not_a_fault():
    made = html(attachments=[("bounce.eml", BOUNCE, "message/rfc822")])
    rendered = made.message(policy=policy.SMTP) if MODERN else made.message()
    check_rendered(rendered, rendered.as_bytes() if MODERN else rendered.as_bytes(linesep="\r\n"))


@pytest.mark.parametrize(
    ("content", "is_long"),
    [
        (b"", False),
        (b"x" * 998, False),
        (b"x" * 999, True),
        (b"x" * 998 + b"\r\n", False),
        (b"x" * 999 + b"\r\n", True),
        (b"x\r\n" * 2000, False),
        (b"x\r\n" * 2000 + b"y" * 999, True),
        ((b"x" * 998 + b"\r\n") * 20, False),
        ((b"x" * 998 + b"\r\n") * 20 + b"y" * 999 + b"\r\n" + b"x\r\n" * 500, True),
    ],
)
def test_long_lines_are_found(content, is_long):
    assert has_long_line(content) is is_long


@given(lengths=st.lists(st.sampled_from([0, 1, 500, 996, 997, 998, 999, 1000, 1001]), max_size=8))
def test_long_lines_are_found_wherever_they_are(lengths):
    content = b"".join(b"x" * length + b"\r\n" for length in lengths)
    assert has_long_line(content) is any(length > 998 for length in lengths)
