"""Files: in Base64 in one pass, held once, and encoded once for all messages of a call."""

import base64
import tracemalloc
from email.mime.image import MIMEImage

import pytest
from django.core.mail import EmailMultiAlternatives

from django_smtp_pool.core.smtp.content import Base64
from django_smtp_pool.message import parts
from django_smtp_pool.message.base64_lines import in_base64
from django_smtp_pool.message.parts import Batch
from django_smtp_pool.message.render import envelope_of
from tests.mailing import backend_for, message
from tests.message.reader import read

BLOCK = 57 * 4096


@pytest.mark.parametrize("size", [0, 1, 56, 57, 58, 114, 1000, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 100])
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_lines_are_those_of_base64(size, kind):
    content = kind(number % 251 for number in range(size))
    assert in_base64(content) == base64.encodebytes(content).replace(b"\n", b"\r\n")


def with_file(content, number=1):
    made = message(number)
    made.attach("a.bin", content, "application/octet-stream")
    return made


@pytest.fixture
def encoded(monkeypatch):
    """Return a function that tells how many files have been encoded."""
    files = []
    monkeypatch.setattr(parts, "in_base64", lambda content: files.append(content) or in_base64(content))
    return lambda: len(files)


def test_the_same_file_is_encoded_once_for_a_mailing(server, encoded):
    file = bytes(range(256)) * 40
    assert backend_for(server).send_messages([with_file(file, number) for number in range(5)]) == 5
    assert encoded() == 1
    assert [read(each.content).parts[1].content for each in server.accepted] == [file] * 5


@pytest.mark.parametrize("is_alone", [True, False])
@pytest.mark.parametrize("sizes", [[], [0], [57], [1000, 1], [BLOCK + 1, 3, 400_000]])
def test_a_file_is_a_separate_piece(is_alone, sizes):
    contents = [bytes(number % 251 for number in range(size)) for size in sizes]
    mail = message()
    for number, content in enumerate(contents):
        mail.attach(f"{number}.bin", content, "application/octet-stream")
    envelope = envelope_of(mail, None, batch=Batch(is_alone=is_alone))
    files = [piece for piece in envelope.content._pieces if isinstance(piece, Base64)]
    assert [base64.b64decode(file.octets) for file in files] == contents
    texts = [piece for piece in envelope.content._pieces if isinstance(piece, bytes)]
    assert len(texts) == len(files) + 1, "texts that follow each other are joined"
    assert [part.content for part in read(bytes(envelope.content)).parts[1:]] == contents


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
    before = bytes(envelope_of(mail, None, batch=batch).content)
    assert b"Content-ID" not in before
    logo.add_header("Content-ID", "<logo>")
    after = bytes(envelope_of(mail, None, batch=batch).content)
    assert b"Content-ID: <logo>\r\n" in after
    assert read(after).parts[1].content == b"\x89PNG"


def grown_by(make):
    """Return what a function returns, and the bytes that it added at its peak."""
    tracemalloc.start()
    try:
        made = make()
        return made, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_large_file_is_held_once():
    mail = with_file(b"x" * 20_000_000)
    envelope_of(with_file(b"x"), None)  # what is remembered for good
    envelope, peak = grown_by(lambda: envelope_of(mail, None))
    assert 27_000_000 < envelope.content.size < peak < 29_500_000


def test_the_messages_of_a_mailing_share_a_large_file():
    batch, file = Batch(is_alone=False), b"x" * 20_000_000
    mails = [with_file(file, number) for number in range(5)]
    envelope_of(mails[0], None, batch=batch)
    envelopes, peak = grown_by(lambda: [envelope_of(mail, None, batch=batch) for mail in mails])
    assert sum(envelope.content.size for envelope in envelopes) > 5 * 27_000_000
    assert peak < 100_000


def test_a_text_that_messages_have_in_common_is_encoded_once_and_personal_ones_are_not_kept(monkeypatch):
    encoded = []
    text_part = parts.text_part
    monkeypatch.setattr(parts, "text_part", lambda *what: encoded.append(what[1]) or text_part(*what))
    batch = Batch(is_alone=False)
    for number in range(20):
        mail = EmailMultiAlternatives("Hello", f"Dear {number}", "a@example.com", ["b@example.com"])
        mail.attach_alternative("<p>The same for all", "text/html")
        text, html = read(bytes(envelope_of(mail, None, batch=batch).content)).parts
        assert [text.content.strip(), html.content.strip()] == [f"Dear {number}", "<p>The same for all"]
    assert encoded.count("<p>The same for all") == 1
    assert len(batch._texts) == Batch.TEXTS


@pytest.mark.parametrize("change", [{"encoding": "iso-8859-1"}, {"content_subtype": "html"}])
def test_the_same_text_in_another_form_is_encoded_for_itself(change):
    batch, mails = Batch(is_alone=False), [message(1, body="Grüße"), message(1, body="Grüße")]
    vars(mails[1]).update(change)
    one, other = [read(bytes(envelope_of(mail, None, batch=batch).content)) for mail in mails]
    assert one.content == other.content
    assert (one["content-type"], one.body) != (other["content-type"], other.body)
