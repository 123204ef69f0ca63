"""International domains: as browsers and mail programs read them (UTS #46), in envelope and header."""

import subprocess
import sys

import django
import pytest
from django.utils.encoding import punycode

from django_smtp_pool.message.domains import ascii_domain
from django_smtp_pool.message.render import envelope_of
from tests.mailing import backend_for, message

DOMAINS = {
    "faß.test": "xn--fa-hia.test",
    "FAß.test": "xn--fa-hia.test",
    "βόλος.example": "xn--nxasmm1c.example",
    "نامه‌ای.example": "xn--mgba3gch31f060k.example",
    "bücher.example": "xn--bcher-kva.example",
    "bücher.example.": "xn--bcher-kva.example.",
    "Example.BÜCHER": "Example.xn--bcher-kva",
    "例え。example": "xn--r8jz45g.example",
    "\uff45xample.com": "example.com",
}
# What idna refuses, and Django sends to all the same.
AS_DJANGO = ["☃.example", "a_ü.example", "üb--x.example", "🎉.example"]
BAD = ["bücher..example", ".bücher", "ü" * 70 + ".example", "ü.\u2024.example", "a" * 64 + ".bücher", "ü\u2488.example"]


@pytest.mark.parametrize(("domain", "expected"), DOMAINS.items())
def test_a_domain_is_the_one_that_a_browser_goes_to(domain, expected):
    assert ascii_domain(domain) == expected


@pytest.mark.parametrize("domain", AS_DJANGO)
def test_a_domain_that_idna_refuses_is_the_one_of_django(domain):
    assert ascii_domain(domain) == punycode(domain)


@pytest.mark.parametrize("domain", ["example.com", "EXAMPLE.com", "a_b.example", "-a-.example", "a..b", "[192.0.2.1]"])
def test_a_domain_in_ascii_stays_as_it_is(domain):
    assert ascii_domain(domain) is domain


@pytest.mark.parametrize("field", ["to", "from_email", "reply_to"])
@pytest.mark.parametrize("domain", BAD)
def test_a_bad_domain_is_an_error_that_names_the_address(server, domain, field):
    address = f"u@{domain}"
    with pytest.raises(ValueError, match=r".") as caught:
        backend_for(server).send_messages([message(**{field: address if field == "from_email" else [address]})])
    assert type(caught.value) is ValueError
    assert address[:20] in str(caught.value)
    assert server.connections == 0


@pytest.mark.parametrize("written", ["u@faß.test", "Ann <u@faß.test>", "Zoë <u@faß.test>", '"Doe, Ann" <u@faß.test>'])
def test_envelope_and_header_say_the_same(server, written):
    backend_for(server).send_messages([message(to=[written], from_email=written, cc=["b@bücher.example"])])
    taken = server.accepted[0]
    assert (taken.sender, *taken.recipients) == ("u@xn--fa-hia.test",) * 2 + ("b@xn--bcher-kva.example",)
    assert taken.content.count(b"u@xn--fa-hia.test") == 2
    assert b"Cc: b@xn--bcher-kva.example\r\n" in taken.content


@pytest.mark.skipif(django.VERSION < (6, 0), reason="Django 5.2 knows no SMTPUTF8")
def test_a_local_part_beyond_ascii_keeps_its_domain(server):
    backend_for(server).send_messages([message(to=["jörg@faß.test"])])
    assert server.accepted[0].recipients == ("jörg@xn--fa-hia.test",)


def test_a_quoted_name_is_no_domain():
    content = bytes(envelope_of(message(to=['"Ann@Köln" <a@example.com>']), None).content)
    assert b"xn--" not in content


def test_idna_is_imported_at_the_first_domain_that_needs_it():
    script = """
import os, sys
import django
django.setup()
from tests.mailing import message
from django_smtp_pool.message.render import envelope_of
envelope_of(message(), None)
assert "idna" not in sys.modules
envelope_of(message(to=["a@bücher.example"]), None)
assert "idna" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
