"""Files: in Base64 in one pass, held once, and encoded once for all messages of a call."""

import base64
import tracemalloc
from email.mime.image import MIMEImage

import pytest
from django.core.mail import EmailMultiAlternatives

from django_smtp_pool.message import parts
from django_smtp_pool.message.base64_lines import Base64Lines
from django_smtp_pool.message.parts import Batch
from django_smtp_pool.message.render import envelope_of
from tests.mailing import backend_for, message
from tests.message.reader import read

BLOCK = 57 * 4096


@pytest.mark.parametrize("size", [0, 1, 56, 57, 58, 114, 1000, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 100])
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_lines_are_those_of_base64(size, kind):
    content = kind(number % 251 for number in range(size))
    lines = Base64Lines(content)
    assert b"".join(lines) == base64.encodebytes(content).replace(b"\n", b"\r\n")
    assert lines.octets == len(b"".join(lines))


def with_file(content, number=1):
    made = message(number)
    made.attach("a.bin", content, "application/octet-stream")
    return made


class Counted(Base64Lines):
    """Counts what is encoded."""

    count = 0

    def __iter__(self):
        Counted.count += 1
        return super().__iter__()


@pytest.fixture
def encoded(monkeypatch):
    """Return a function that tells how many files have been encoded."""
    monkeypatch.setattr(parts, "Base64Lines", Counted)
    monkeypatch.setattr(Counted, "count", 0)
    return lambda: Counted.count


def test_the_same_file_is_encoded_once_for_a_mailing(server, encoded):
    file = bytes(range(256)) * 40
    assert backend_for(server).send_messages([with_file(file, number) for number in range(5)]) == 5
    assert encoded() == 1
    assert [read(each.content).parts[1].content for each in server.accepted] == [file] * 5


@pytest.mark.parametrize("batch", [Batch(), Batch(is_alone=False)])
@pytest.mark.parametrize("sizes", [[], [0], [57], [1000, 1], [BLOCK + 1, 3, 400_000]])
def test_an_envelope_says_where_its_files_are(batch, sizes):
    contents = [bytes(number % 251 for number in range(size)) for size in sizes]
    mail = message()
    for number, content in enumerate(contents):
        mail.attach(f"{number}.bin", content, "application/octet-stream")
    envelope = envelope_of(mail, None, batch=batch)
    assert [base64.b64decode(envelope.content[start:end]) for start, end in envelope.base64] == contents
    assert [part.content for part in read(envelope.content).parts[1:]] == contents


def test_equal_files_that_are_not_the_same_are_encoded_each(encoded):
    batch = Batch(is_alone=False)
    for number in range(3):
        envelope_of(with_file(bytes([number]) * 10), None, batch=batch)
    assert encoded() == 3


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(Batch, "LARGEST", 1000)
    batch = Batch(is_alone=False)
    for number in range(10):
        envelope_of(with_file(bytes([number]) * 300), None, batch=batch)
        assert sum(len(content) for content, _ in batch._files.values()) <= 1000
    envelope_of(with_file(b"x" * 2000), None, batch=batch)
    assert all(len(content) <= 1000 for content, _ in batch._files.values())


@pytest.mark.filterwarnings("ignore:MIMEBase attachments are deprecated")
def test_a_part_that_is_changed_between_two_messages_is_written_anew():
    batch = Batch(is_alone=False)
    logo = MIMEImage(b"\x89PNG", "png")
    mail = EmailMultiAlternatives("x", "y", "a@example.com", ["b@example.com"], attachments=[logo])
    before = envelope_of(mail, None, batch=batch).content
    assert b"Content-ID" not in before
    logo.add_header("Content-ID", "<logo>")
    after = envelope_of(mail, None, batch=batch).content
    assert b"Content-ID: <logo>\r\n" in after
    assert read(after).parts[1].content == b"\x89PNG"


@pytest.mark.parametrize(("batch", "most"), [(Batch(), 30_000_000), (Batch(is_alone=False), 58_000_000)])
def test_a_large_file_is_held_once_and_once_more_for_the_rest_of_a_mailing(batch, most):
    file = b"x" * 20_000_000
    mail = with_file(file)
    envelope_of(with_file(b"x"), None)  # what is remembered for good
    tracemalloc.start()
    try:
        content = envelope_of(mail, None, batch=batch).content
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(content) > 27_000_000
    assert peak < most


def test_a_text_that_messages_have_in_common_is_encoded_once_and_personal_ones_are_not_kept(monkeypatch):
    encoded = []
    text_part = parts.text_part
    monkeypatch.setattr(parts, "text_part", lambda *what: encoded.append(what[1]) or text_part(*what))
    batch = Batch(is_alone=False)
    for number in range(20):
        mail = EmailMultiAlternatives("Hello", f"Dear {number}", "a@example.com", ["b@example.com"])
        mail.attach_alternative("<p>The same for all", "text/html")
        text, html = read(envelope_of(mail, None, batch=batch).content).parts
        assert [text.content.strip(), html.content.strip()] == [f"Dear {number}", "<p>The same for all"]
    assert encoded.count("<p>The same for all") == 1
    assert len(batch._texts) == Batch.TEXTS


@pytest.mark.parametrize("change", [{"encoding": "iso-8859-1"}, {"content_subtype": "html"}])
def test_the_same_text_in_another_form_is_encoded_for_itself(change):
    batch, mails = Batch(is_alone=False), [message(1, body="Grüße"), message(1, body="Grüße")]
    vars(mails[1]).update(change)
    one, other = [read(envelope_of(mail, None, batch=batch).content) for mail in mails]
    assert one.content == other.content
    assert (one["content-type"], one.body) != (other["content-type"], other.body)
