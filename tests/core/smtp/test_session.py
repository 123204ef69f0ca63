"""Opening and ending a session, as transcripts."""

import pytest

from django_smtp_pool.core.errors import (
    AuthRefused,
    ConnectionLost,
    EhloRefused,
    Failure,
    GreetingRefused,
    NotOffered,
    Outcome,
    ProtocolError,
    Stage,
    StartTLSRefused,
)
from django_smtp_pool.core.options.options import ServerOptions
from django_smtp_pool.core.smtp.extensions import Extensions
from django_smtp_pool.core.smtp.session import Greeter, command, noop, open_session, quit_politely, say_hello
from tests.core.transcript import play, reply_of, resumed


def opened(transcript, **options):
    server = ServerOptions(**{"host": "mail.example", **options})
    return play(open_session(Greeter(server=server, local_hostname=lambda: "client.example")), transcript)


def test_a_plain_session():
    extensions = opened("""
        * connect mail.example:25
        S: 220 mail.example ESMTP
        C: EHLO client.example
        S: 250-mail.example
        S: 250-PIPELINING
        S: 250 SIZE 1000
        """)
    assert (extensions.pipelining, extensions.size, extensions.starttls) == (True, 1000, False)


def test_starttls_forgets_what_was_said_in_clear():
    """RFC 3207 §4.2."""
    extensions = opened(
        """
        * connect mail.example:25
        S: 220 mail.example
        C: EHLO client.example
        S: 250-mail.example
        S: 250-CHUNKING
        S: 250-AUTH LOGIN
        S: 250 STARTTLS
        C: STARTTLS
        S: 220 go
        * TLS mail.example
        C: EHLO client.example
        S: 250-mail.example
        S: 250 AUTH PLAIN
        """,
        use_tls=True,
    )
    assert extensions.auth == {"PLAIN"}
    assert not extensions.chunking


def test_implicit_tls_comes_before_the_greeting():
    opened(
        """
        * connect mail.example:465
        * TLS mail.example
        S: 220 mail.example
        C: EHLO client.example
        S: 250 mail.example
        """,
        use_ssl=True,
        port=465,
    )


def test_the_name_in_the_certificate_may_be_another():
    opened(
        """
        * connect 192.0.2.1:25
        * TLS mail.example
        S: 220 hi
        C: EHLO client.example
        S: 250 hi
        """,
        host="192.0.2.1",
        use_ssl=True,
        tls_options={"server_hostname": "mail.example"},
    )


def test_the_login_comes_last():
    opened(
        """
        * connect localhost:25
        S: 220 hi
        C: EHLO client.example
        S: 250-hi
        S: 250 AUTH PLAIN
        C: AUTH PLAIN AHUAcA==
        S: 235 welcome
        """,
        host="localhost",
        username="u",
        password="p",
    )


@pytest.mark.parametrize(("username", "password"), [("u", None), (None, "p"), ("u", ""), ("", "p")])
def test_half_a_login_is_none(username, password):
    opened(
        "* connect mail.example:25\nS: 220 hi\nC: EHLO client.example\nS: 250-hi\nS: 250 AUTH PLAIN",
        username=username,
        password=password,
    )


@pytest.mark.parametrize("line", ["554 5.7.1 no", "421 4.3.2 busy", "450 later", "354 what", "334"])
def test_a_greeting_that_is_none_ends_it(line):
    with pytest.raises(GreetingRefused) as caught:
        opened(f"* connect mail.example:25\nS: {line}")
    assert_setup_failure(caught.value, Stage.GREETING, int(line[:3]))


def assert_setup_failure(error, stage, code):
    assert (error.stage, error.outcome, error.session_survives) == (stage, Outcome.NOT_SENT, False)
    assert error.reply.code == error.smtp_code == code


def test_a_greeting_by_another_protocol_hints_at_tls():
    server = ServerOptions(host="mail.example", port=465)
    dialogue = open_session(Greeter(server=server, local_hostname=lambda: "x"))
    next(dialogue)
    next(dialogue)
    end = resumed(lambda: dialogue.throw(ProtocolError("this is no SMTP reply")))
    with pytest.raises(ProtocolError, match=r"mail\.example:465 .*if it expects TLS, set use_ssl"):
        end.result()


@pytest.mark.parametrize("line", ["500 what?", "502 5.5.1 no", "504 no", "550 no", "554 no"])
def test_a_server_without_ehlo_is_greeted_with_helo(line):
    assert (
        play(say_hello("client.example"), f"C: EHLO client.example\nS: {line}\nC: HELO client.example\nS: 250 hi")
        == Extensions()
    )


@pytest.mark.parametrize("line", ["421 4.3.2 bye", "450 later", "354 what"])
def test_a_refused_ehlo_that_may_pass_is_not_followed_by_helo(line):
    with pytest.raises(EhloRefused) as caught:
        play(say_hello("client.example"), f"C: EHLO client.example\nS: {line}")
    assert_setup_failure(caught.value, Stage.EHLO, int(line[:3]))


def test_both_ehlo_and_helo_refused():
    with pytest.raises(EhloRefused) as caught:
        play(say_hello("c"), "C: EHLO c\nS: 500 no\nC: HELO c\nS: 550 never")
    assert_setup_failure(caught.value, Stage.EHLO, 550)


@pytest.mark.parametrize("offer", ["S: 250 hi", "S: 250-hi\nS: 250 SIZE"])
def test_no_starttls_no_session(offer):
    with pytest.raises(NotOffered, match=r"does not offer STARTTLS.*nothing was sent unencrypted.*use_ssl") as caught:
        opened(f"* connect mail.example:25\nS: 220 hi\nC: EHLO client.example\n{offer}", use_tls=True)
    assert caught.value.stage is Stage.STARTTLS
    assert caught.value.is_final


def test_a_server_that_knows_only_helo_has_no_starttls():
    hello = "C: EHLO client.example\nS: 502 no\nC: HELO client.example\nS: 250 hi"
    with pytest.raises(NotOffered):
        opened(f"* connect mail.example:25\nS: 220 hi\n{hello}", use_tls=True)


@pytest.mark.parametrize("line", ["454 4.7.0 TLS not available", "501 no", "554 no", "421 bye", "334"])
def test_starttls_refused_is_never_followed_by_mail_in_clear(line):
    hello = "C: EHLO client.example\nS: 250-hi\nS: 250 STARTTLS"
    with pytest.raises(StartTLSRefused) as caught:
        opened(f"* connect mail.example:25\nS: 220 hi\n{hello}\nC: STARTTLS\nS: {line}", use_tls=True)
    assert_setup_failure(caught.value, Stage.STARTTLS, int(line[:3]))


@pytest.mark.parametrize("lines", [1, 3, 6, 9])
def test_a_connection_lost_on_the_way_is_that(lines):
    whole = """
        * connect mail.example:25
        S: 220 hi
        C: EHLO client.example
        S: 250-hi
        S: 250 STARTTLS
        C: STARTTLS
        S: 220 go
        * TLS mail.example
        C: EHLO client.example
        """
    cut = "\n".join(line.strip() for line in whole.strip().splitlines()[:lines])
    with pytest.raises(ConnectionLost) as caught:
        opened(f"{cut}\nS: <gone>", use_tls=True)
    assert caught.value.outcome is Outcome.NOT_SENT


def test_a_refused_login_ends_it():
    with pytest.raises(AuthRefused) as caught:
        opened(
            """
            * connect localhost:25
            S: 220 hi
            C: EHLO client.example
            S: 250-hi
            S: 250 AUTH PLAIN
            C: AUTH PLAIN AHUAcA==
            S: 535 5.7.8 no
            """,
            host="localhost",
            username="u",
            password="p",
        )
    assert_setup_failure(caught.value, Stage.AUTH, 535)


# Small talk


def test_noop_returns_the_reply():
    assert play(noop(), "C: NOOP\nS: 250 ok").code == 250


@pytest.mark.parametrize("answer", ["221 bye", "500 what", "421 bye", "<gone>", "<gone early>"])
def test_quit_never_fails(answer):
    assert play(quit_politely(), f"C: QUIT\nS: {answer}") is None


@pytest.mark.parametrize("evil", ["\r\nRSET", "\n", "\r", "\0"])
def test_a_command_is_one_line(evil):
    with pytest.raises(ValueError, match=r"must be one line"):
        command(f"EHLO x{evil}", stage=Stage.EHLO)


# What is offered


def test_an_offer_is_read_in_any_case():
    extensions = Extensions.from_reply(
        reply_of("250-hi SIZE", "250-size 5", "250-8bitmime", "250-Auth plain", "250 chunking")
    )
    assert (extensions.size, extensions.eight_bit_mime, extensions.auth, extensions.chunking) == (
        5,
        True,
        {"PLAIN"},
        True,
    )


def test_the_first_line_offers_nothing():
    assert Extensions.from_reply(reply_of("250-PIPELINING", "250 hi")) == Extensions(keywords=("HI",))


@pytest.mark.parametrize(
    ("line", "size"),
    [("SIZE", 0), ("SIZE 0", 0), ("SIZE 10", 10), ("SIZE x", 0), ("SIZE -1", 0), ("SIZE 9 9", 9), ("X", None)],
)
def test_the_size_is_read_with_care(line, size):
    assert Extensions.from_reply(reply_of("250-hi", f"250 {line}")).size == size


def test_a_size_without_end_is_no_error():
    assert Extensions.from_reply(reply_of("250-hi", f"250 SIZE {'9' * 4000}")).size is not None


@pytest.mark.parametrize(
    "lines", [["AUTH=LOGIN PLAIN"], ["AUTH LOGIN", "AUTH=PLAIN"], ["AUTH LOGIN PLAIN", "AUTH=LOGIN"]]
)
def test_old_exchange_writes_auth_with_an_equals_sign(lines):
    reply = reply_of("250-hi", *(f"250-{line}" for line in lines), "250 X")
    assert Extensions.from_reply(reply).auth == {"LOGIN", "PLAIN"}


@pytest.mark.parametrize("line", ["", " ", "\t", "é", "\x00"])
def test_lines_that_say_nothing_offer_nothing(line):
    extensions = Extensions.from_reply(reply_of("250-hi", f"250-{line}", "250 SIZE 5"))
    assert extensions.size == 5


def test_a_failure_is_an_smtp_exception():
    import smtplib

    assert issubclass(Failure, smtplib.SMTPException)
