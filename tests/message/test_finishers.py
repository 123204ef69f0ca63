"""Finishers: they have the last word, in order, and what mail cannot carry is refused."""

import shutil
import smtplib
import subprocess
from functools import partial

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.core.exceptions import ImproperlyConfigured

from django_smtp_pool.checks import check_mailers
from django_smtp_pool.core.errors import Failure
from django_smtp_pool.message.finishers import finish
from tests.backend.project import project
from tests.mailing import backend_for, message
from tests.servers import FaultServer

CONTENT = b"Subject: x\r\n\r\nHello\r\n"


def stamp(content, *, mark="A"):
    """Put a field before the others."""
    return f"X-Stamp: {mark}\r\n".encode() + content


def broken(content):
    """Fail for one message."""
    if b"Message 2" in content:
        raise LookupError("no key for this one")
    return content


def test_they_run_in_order_on_what_goes_over_the_wire(server):
    seen = []

    def look(content):
        seen.append(content)
        return content

    finishers = [partial(stamp, mark="A"), f"{__name__}.stamp", partial(stamp, mark="B"), look]
    assert backend_for(server, finishers=finishers).send_messages([message(body="Gr\u00fc\u00dfe\n" + "x" * 2000)]) == 1
    (accepted,) = server.accepted
    assert accepted.content.startswith(b"X-Stamp: B\r\nX-Stamp: A\r\nX-Stamp: A\r\n")
    assert seen == [accepted.content]
    assert seen[0].isascii()
    assert max(map(len, seen[0].split(b"\r\n"))) <= 998


@pytest.mark.parametrize("extensions", [("8BITMIME",), ()])
def test_nothing_is_encoded_again_after_them(extensions):
    with FaultServer(extensions=extensions) as server:
        backend = backend_for(server, finishers=stamp)
        assert backend.send_messages([message(body="Gr\u00fc\u00dfe")]) == 1
        backend = backend_for(server, finishers=lambda content: content + b"\xc3\xbc\r\n")
        if extensions:
            assert backend.send_messages([message()]) == 1
            assert server.accepted[-1].content.endswith(b"\xc3\xbc\r\n")
        else:
            with pytest.raises(ValueError, match="not ASCII, but the server accepts only ASCII"):
                backend.send_messages([message()])


def test_one_that_raises_is_that_messages_failure(server):
    batch = [message(number) for number in range(1, 4)]
    with pytest.raises(LookupError, match="no key for this one") as caught:
        backend_for(server, finishers=[broken]).send_messages(batch)
    assert list(caught.value.failures) == [1]
    assert [mail.smtp_pool_status.outcome for mail in batch] == ["accepted", "not_sent", "accepted"]
    assert len(server.accepted) == 2


class Odd(Exception):
    """What a library of signatures raises."""


ERRORS = [Odd("x"), smtplib.SMTPException("x"), TimeoutError("x"), OSError(5, "x"), RuntimeError("x"), StopIteration()]


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_one_raises_is_that_messages_failure(server, error, silent):
    def sign(content):
        if b"Message 2" in content:
            raise error
        return content

    batch = [message(number) for number in range(1, 4)]
    with pytest.raises(type(error)) as caught:
        backend_for(server, finishers=[sign], fail_silently=silent).send_messages(batch)
    assert caught.value is error
    assert list(error.failures) == [1]
    assert [mail.smtp_pool_status.outcome for mail in batch] == ["accepted", "not_sent", "accepted"]


@pytest.mark.parametrize(
    ("path", "kind", "text"),
    [
        ("no.such.module", ImportError, "No module named 'no'"),
        (f"{__name__}.nothing", AttributeError, "has no attribute 'nothing'"),
        (f"{__name__}.CONTENT", TypeError, "is not callable"),
    ],
)
def test_one_that_cannot_be_found_is_every_messages_failure(server, path, kind, text):
    batch = [message(1), message(2)]
    with pytest.raises(kind, match=f"finishers names '{path}'.*{text}") as caught:
        backend_for(server, finishers=path).send_messages(batch)
    assert list(caught.value.failures) == [0, 1]
    assert [mail.smtp_pool_status.outcome for mail in batch] == ["not_sent", "not_sent"]


@pytest.mark.parametrize(
    ("finished", "kind", "text"),
    [
        ("text", TypeError, "returned str, not bytes"),
        (None, TypeError, "returned NoneType, not bytes"),
        (bytearray(CONTENT), TypeError, "returned bytearray, not bytes"),
        (b"", ValueError, "without a byte"),
        (b"a\n", ValueError, "line ends other than CRLF"),
        (b"a\rb\r\n", ValueError, "line ends other than CRLF"),
        (b"a", ValueError, "line ends other than CRLF"),
        (b"a\0\r\n", ValueError, "NUL"),
        (b"x" * 999 + b"\r\n", ValueError, "a line of more than 998 octets"),
    ],
)
def test_what_mail_cannot_carry_is_refused(finished, kind, text):
    with pytest.raises(kind, match=f"the finisher .*<lambda> .*{text}"):
        finish(CONTENT, [lambda content: finished])
    assert not issubclass(kind, Failure)
    assert finish(CONTENT, [lambda content: b"x" * 998 + b"\r\n"]) == b"x" * 998 + b"\r\n"


def test_none_of_them_changes_nothing():
    assert finish(CONTENT, []) == CONTENT


@pytest.mark.parametrize("value", [1, ["sign"], [b"a.b"], [1], {"a": 1}, "sign"])
def test_bad_values(server, value):
    with pytest.raises(ImproperlyConfigured, match="finishers must be callables or dotted paths"):
        backend_for(server, finishers=value)


@pytest.mark.parametrize("path", ["no.such.module", f"{__name__}.nothing", f"{__name__}.CONTENT"])
def test_one_that_cannot_be_found_is_told_by_check(settings, server, path):
    project(settings, server, finishers=[f"{__name__}.stamp", path])
    (problem,) = check_mailers(None)
    assert problem.id == "smtp_pool.E005"
    assert f"finishers names '{path}'" in problem.msg


def test_the_recipe_for_dkim(server, monkeypatch, tmp_path):
    dkim = pytest.importorskip("dkim")
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    (tmp_path / "dkim.pem").write_bytes(pem)
    monkeypatch.setenv("DKIM_KEY", str(tmp_path / "dkim.pem"))
    finishers = ["tests.recipes.dkim_signature.sign_by_dkim"]
    mails = [message(1, body="Gr\u00fc\u00dfe\n.\n" + "x" * 1500), message(2)]
    assert backend_for(server, finishers=finishers).send_messages(mails) == 2
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    record = b"v=DKIM1; k=rsa; p=" + b"".join(public.splitlines()[1:-1])
    for accepted in server.accepted:
        assert accepted.content.startswith(b"DKIM-Signature:")
        assert dkim.verify(accepted.content, dnsfunc=lambda name, timeout=5: record)


def test_the_recipe_for_smime(server, monkeypatch, tmp_path):
    authority = trustme.CA()
    issued = authority.issue_cert("from@example.com", key_type=trustme.KeyType.RSA)
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SMIME_CERTIFICATE", str(tmp_path / "cert.pem"))
    monkeypatch.setenv("SMIME_KEY", str(tmp_path / "key.pem"))
    mail = message(subject="A long subject " * 8, body="Gr\u00fc\u00dfe\n")
    assert backend_for(server, finishers=["tests.recipes.smime_signature.sign_by_smime"]).send_messages([mail]) == 1
    (tmp_path / "message.eml").write_bytes(server.accepted[0].content)
    openssl = shutil.which("openssl") or pytest.skip("the program openssl is not installed")
    done = subprocess.run(
        [openssl, "smime", "-verify", "-in", "message.eml", "-CAfile", "ca.pem", "-purpose", "any", "-out", "plain"],
        cwd=tmp_path, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert b"Verification successful" in done.stderr, done.stderr
    assert b"Gr=C3=BC=C3=9Fe" in (tmp_path / "plain").read_bytes() or b"R3L" in (tmp_path / "plain").read_bytes()
