"""The name in EHLO: one that servers accept, from the option, or from this machine."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_smtp_pool import registry
from django_smtp_pool.core.options.host import name_to_greet_with
from tests.interrupts import Limit
from tests.mailing import backend_for, message

GOOD = {
    "mail.example.com": "mail.example.com",
    "mail.example.com.": "mail.example.com",
    "localhost": "localhost",
    "web_1.example.com": "web_1.example.com",
    "[192.0.2.1]": "[192.0.2.1]",
    "192.0.2.1": "[192.0.2.1]",
    "[IPv6:2001:db8::1]": "[IPv6:2001:db8::1]",
    "2001:db8::1": "[IPv6:2001:db8::1]",
}
BAD = ["x y", "büro.example", "a" * 602, "a..b", "-a.example", "a.example-", "[192.0.2.999]", "[x]", "a,b", "a" * 64]
BAD += [".", "http://example.com", "a\r\nMAIL FROM:<x@example.com>"]


@pytest.mark.parametrize(("given", "said"), GOOD.items())
def test_the_option_is_said(server, given, said):
    backend_for(server, local_hostname=given).send_messages([message()])
    assert server.commands("EHLO")[0][1] == f"EHLO {said}"


@pytest.mark.parametrize("given", BAD)
def test_what_is_no_host_name_is_an_error_that_names_the_option(server, given):
    with pytest.raises(ImproperlyConfigured, match=r"local_hostname") as caught:
        backend_for(server, local_hostname=given)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        ("web.example.com", "web.example.com"),
        ("web.example.com.", "web.example.com"),
        ("3f2a9c1b7d44", "[127.0.0.1]"),
        ("localhost", "[127.0.0.1]"),
        ("web_1.example.com", "[127.0.0.1]"),
        ("-.example.com", "[127.0.0.1]"),
        ("", "[127.0.0.1]"),
        ("192.0.2.7", "[127.0.0.1]"),
    ],
)
def test_the_name_of_the_machine_or_the_address_of_the_socket(server, monkeypatch, machine, said):
    monkeypatch.setattr(registry.DNS_NAME, "get_fqdn", lambda: machine)
    backend_for(server, local_hostname=None).send_messages([message()])
    assert server.commands("EHLO")[0][1] == f"EHLO {said}"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("192.0.2.1", "[192.0.2.1]"),
        ("2001:db8::1", "[IPv6:2001:db8::1]"),
        ("fe80::1%eth0", "[IPv6:fe80::1]"),
        ("::ffff:192.0.2.1", "[192.0.2.1]"),
        (None, "[127.0.0.1]"),
    ],
)
def test_the_literal_is_that_of_the_address(address, said):
    assert name_to_greet_with("container", address) == said
    assert name_to_greet_with("büro.example.com", address) == said


def test_an_interrupt_beside_the_machines_name_ends_the_batch(server, monkeypatch):
    """Only what the name's own code raises is its own affair: a failed dial, and the next one may be luckier."""
    errors = [Limit()]

    def greets(machine, local_address):
        if errors:
            raise errors.pop()
        return "client.example"

    monkeypatch.setattr(registry, "name_to_greet_with", greets)
    with pytest.raises(Limit):
        backend_for(server, local_hostname=None).send_messages([message(number) for number in range(3)])
    assert server.accepted == []
