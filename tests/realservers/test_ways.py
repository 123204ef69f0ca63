"""The ways to a real server: through real proxies, by a unix socket, and by one of several addresses."""

import io
import smtplib
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests import ports

from . import proxies
from .mailer import a_message, backend, on_the_wire, options_for, send
from .postfix import Postfix
from .proxies import Proxy
from .test_backend import use_in_settings

# (program, scheme, whether it wants a password)
WAYS = [
    ("microsocks", "socks5", False),
    ("microsocks", "socks5h", False),
    ("microsocks", "socks5", True),
    ("microsocks", "socks5h", True),
    ("dante", "socks5", False),
    ("dante", "socks5h", False),
    ("tinyproxy", "http", False),
    ("tinyproxy", "http", True),
]
EACH = pytest.mark.parametrize(("name", "login"), [("microsocks", True), ("dante", False), ("tinyproxy", True)])


@pytest.fixture(scope="module")
def _running(
    tmp_path_factory: pytest.TempPathFactory, postfix_of_the_session: Postfix
) -> Iterator[dict[tuple[str, bool], Proxy]]:
    """Run every proxy for the tests of this file."""
    place = tmp_path_factory.mktemp("proxies")
    allowed = [postfix_of_the_session.port, postfix_of_the_session.tls_port]
    made: dict[tuple[str, bool], Proxy] = {}
    try:
        for name, login in sorted({(name, login) for name, _, login in WAYS}):
            made[name, login] = proxies.create(name, place / f"{name}-{login}", allowed=allowed, login=login)
            made[name, login].start()
        yield made
    finally:
        for proxy in made.values():
            proxy.stop()


@pytest.fixture
def proxy(_running: dict[tuple[str, bool], Proxy], name: str, login: bool) -> Proxy:
    """Return the proxy that a test is about."""
    found = _running[name, login]
    if not found.daemon.running:
        found.start()
    return found


# Proxies


@pytest.mark.parametrize(("name", "scheme", "login"), WAYS)
def test_mail_goes_through_the_proxy(postfix: Postfix, proxy: Proxy, scheme: str, tmp_path: Path) -> None:
    before = len(proxy.log())
    message = a_message()
    assert send(postfix, message, host="localhost", proxy=proxy.url(scheme)) == 1
    (mail,) = postfix.wait_for_mails(1)
    assert mail.is_exactly(on_the_wire(message))
    assert "with ESMTPSA" in str(mail.message["Received"])
    assert str(postfix.port) in proxy.log()[before:]


@EACH
def test_a_batch_shares_connections_through_the_proxy(postfix: Postfix, proxy: Proxy) -> None:
    ours = backend(postfix, proxy=proxy.url(), max_connections=3)
    assert ours.send_messages([a_message(number) for number in range(30)]) == 30
    postfix.wait_for_mails(30)
    assert postfix.connections() <= 3
    assert send(postfix, a_message(31), proxy=proxy.url(), max_connections=3) == 1
    assert postfix.connections() <= 3


@EACH
def test_implicit_tls(postfix: Postfix, proxy: Proxy) -> None:
    send(postfix, a_message(), port=postfix.tls_port, use_tls=False, use_ssl=True, proxy=proxy.url())
    postfix.wait_for_mails(1)


@EACH
def test_the_certificate_is_the_servers(postfix: Postfix, proxy: Proxy) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"certificate of 127.0.0.1 was not accepted"):
        send(postfix, a_message(), proxy=proxy.url(), tls_options={})


@EACH
def test_no_password_in_clear_to_what_localhost_is_there(postfix: Postfix, proxy: Proxy) -> None:
    with postfix.reconfigured(smtpd_tls_auth_only="no"):
        with pytest.raises(
            smtplib.SMTPNotSupportedError, match=r"would be sent to localhost through the proxy \w+://127"
        ):
            send(postfix, a_message(), host="localhost", use_tls=False, auth_method="PLAIN", proxy=proxy.url())
        assert "sasl_method" not in postfix.log()
        assert send(postfix, a_message(), host="localhost", use_tls=False, auth_method="PLAIN") == 1


@pytest.mark.parametrize("password", ["wrong", None])
@pytest.mark.parametrize(("name", "login"), [("microsocks", True), ("tinyproxy", True)])
def test_the_proxy_wants_another_password(postfix: Postfix, proxy: Proxy, password: str | None) -> None:
    message = a_message()
    with pytest.raises(
        PermissionError, match=r"through the proxy \w+://127.0.0.1:\d+: it (requires|refused)"
    ) as caught:
        send(postfix, message, proxy=proxy.url(password=password))
    assert "wrong" not in str(caught.value)
    assert message.smtp_pool_status.attempts == 1
    assert postfix.connections() == 0


@EACH
def test_nobody_listens_behind_the_proxy(postfix: Postfix, proxy: Proxy) -> None:
    """Those that have rules do not even try: the port is none of theirs."""
    message = a_message()
    kind = ConnectionRefusedError if proxy.name == "microsocks" else PermissionError
    why = pytest.raises(kind, match=r"could not connect to 127.0.0.1 port \d+ through the proxy")
    with ports.refusing() as (_, port), why:
        send(postfix, message, port=port, proxy=proxy.url())
    assert message.smtp_pool_status.attempts == 1


@EACH
def test_the_proxy_does_not_reach_the_server(postfix: Postfix, proxy: Proxy) -> None:
    message = a_message()
    with pytest.raises(OSError, match=r"could not connect to nowhere.invalid port \d+ through the proxy") as caught:
        send(
            postfix,
            message,
            host="nowhere.invalid",
            proxy=proxy.url("http" if proxy.name == "tinyproxy" else "socks5h"),
        )
    if not isinstance(caught.value, PermissionError):  # Dante's rules are about addresses
        assert message.smtp_pool_status.attempts > 1


@EACH
def test_the_proxy_goes_and_comes_back(postfix: Postfix, proxy: Proxy) -> None:
    how: dict[str, Any] = {"proxy": proxy.url(), "max_requeues": 1}
    assert send(postfix, a_message(1), **how) == 1
    proxy.stop()
    message = a_message(2)
    with pytest.raises(ConnectionRefusedError, match=rf"could not connect to the proxy \w+://127.0.0.1:{proxy.port}: "):
        send(postfix, message, **how)
    assert message.smtp_pool_status.outcome == "not_sent"
    proxy.start()
    assert send(postfix, a_message(3), **how) == 1
    assert {mail.subject for mail in postfix.wait_for_mails(2)} == {"message 1", "message 3"}


@pytest.mark.parametrize(("name", "login"), [("microsocks", False), ("tinyproxy", False)])
def test_the_wrong_kind_of_proxy(postfix: Postfix, proxy: Proxy) -> None:
    wrong = proxy.url("http" if proxy.name == "microsocks" else "socks5")
    message = a_message()
    with pytest.raises(
        OSError, match=r"does not speak HTTP|waiting for the proxy socks5://127.0.0.1:\d+ to connect to"
    ):
        send(postfix, message, proxy=wrong, connection_timeout=1, max_requeues=0)
    assert message.smtp_pool_status.outcome == "not_sent"


def verified(settings: Any, options: dict[str, Any]) -> str:
    use_in_settings(settings, options)
    out = io.StringIO()
    try:
        call_command("smtp_pool", "verify", stdout=out, no_color=True)
    except CommandError as error:
        return out.getvalue() + str(error)
    return out.getvalue()


@pytest.mark.filterwarnings("ignore:The EMAIL_", "ignore:get_connection", "ignore:Django 2028")
@EACH
def test_verify_shows_the_proxy(postfix: Postfix, proxy: Proxy, settings: Any) -> None:
    options = options_for(postfix)
    del options["local_hostname"]
    settings.EMAIL_POOL_PROXY = proxy.url()
    shown = verified(settings, options)
    where = f"127.0.0.1:{postfix.port} through the proxy {proxy.url(password=None)}\n"
    assert f"ok    connect        {where}" in shown
    assert "ok    QUIT" in shown
    with ports.refusing() as (_, port):
        shown = verified(settings, {**options, "port": port})
    assert "FAIL  connect" in shown
    assert f"fix            check that the proxy {proxy.url(password=None)} is running, and that its rules" in shown
    if proxy.password:
        assert proxy.password not in shown


# Unix sockets


def test_postfix_by_a_unix_socket(postfix: Postfix) -> None:
    there = f"unix:{postfix.socket}"
    tls = {"ca_file": str(postfix.certificates.ca_file), "server_hostname": "mail.example.com"}
    ours = backend(postfix, host=there, tls_options=tls)
    message = a_message()
    assert ours.send_messages([message, *(a_message(number) for number in range(1, 5))]) == 5
    assert len(postfix.wait_for_mails(5)) == 5
    assert ours.pool.name == there


def test_a_unix_socket_whose_server_has_gone(postfix: Postfix) -> None:
    tls = {"ca_file": str(postfix.certificates.ca_file), "server_hostname": "mail.example.com"}
    how: dict[str, Any] = {"host": f"unix:{postfix.socket}", "tls_options": tls}
    assert send(postfix, a_message(1), **how) == 1
    postfix.wait_for_mails(1)  # one in the middle of its way would be delivered once more
    postfix.stop()
    with pytest.raises((ConnectionRefusedError, FileNotFoundError), match=rf"connect to unix:{postfix.socket}: "):
        send(postfix, a_message(2), **how)
    postfix.start()
    assert send(postfix, a_message(3), **how) == 1
    postfix.wait_for_mails(2)
