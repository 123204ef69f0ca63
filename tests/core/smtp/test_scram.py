"""SCRAM: both sides prove that they know the password; what servers get wrong ends the login."""

import base64
import pickle

import pytest
import scramp

from django_smtp_pool.core.delivery.retry import may_pass
from django_smtp_pool.core.errors import AuthRefused, NotOffered, Outcome, ProtocolError, Stage
from django_smtp_pool.core.options import extras
from django_smtp_pool.core.options.fields import Secret
from django_smtp_pool.core.options.options import ServerOptions
from django_smtp_pool.core.smtp import scram
from django_smtp_pool.core.smtp.extensions import Extensions
from django_smtp_pool.core.smtp.scram import ScramSHA1, ScramSHA256
from django_smtp_pool.core.smtp.session import Greeter, log_in
from tests.core.smtp.test_auth import assert_hides
from tests.core.transcript import play

KINDS = [ScramSHA256, ScramSHA1]
# The examples of RFC 7677 §3 and RFC 5802 §5: our nonce, then what server, client and server say.
EXAMPLES = [
    (
        ScramSHA256,
        "rOprNGfwEbeRWgbNEkqO",
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    ),
    (
        ScramSHA1,
        "fyko+d2lbbFgONRv9qkxdawL",
        "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
        "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    ),
]
KIND, NONCE, SERVER_FIRST, PROOF, SERVER_FINAL = EXAMPLES[0]


def encoded(text):
    return base64.b64encode(text.encode()).decode()


AUTH = f"C: AUTH SCRAM-SHA-256 {encoded(f'n,,n=user,r={NONCE}')}"
ASKED = f"{AUTH}\nS: 334 {encoded(SERVER_FIRST)}\nC: {encoded(PROOF)}"


@pytest.fixture
def nonce(monkeypatch):
    """Return a function that fixes our nonce."""

    def fix(value=NONCE):
        monkeypatch.setattr(scram, "fresh_nonce", lambda: value)

    fix()
    return fix


def login(transcript, offered="SCRAM-SHA-256", **options):
    server = ServerOptions(**{"host": "mail.example", "username": "user", "password": "pencil", **options})
    greeter = Greeter(server=server, local_hostname=lambda: "client.example")
    return play(log_in(greeter, Extensions(auth=frozenset(offered.split())), encrypted=True), transcript)


def refused(transcript, text, **options):
    """Play a login that must end in an error of ours, which tells no secret and is not tried again."""
    with pytest.raises(ProtocolError, match=text) as caught:
        login(transcript, "SCRAM-SHA-256 CRAM-MD5 PLAIN LOGIN", **options)
    error = caught.value
    assert (error.stage, error.outcome, may_pass(error)) == (Stage.AUTH, Outcome.NOT_SENT, False)
    assert error.__cause__ is None
    assert error.__context__ is None
    assert not may_pass(pickle.loads(pickle.dumps(error)))
    assert_hides(error, "pencil")


# What is said


@pytest.mark.parametrize(("kind", "ours", "first", "proof", "final"), EXAMPLES)
def test_the_examples_of_the_rfcs(nonce, kind, ours, first, proof, final):
    nonce(ours)
    mechanism = kind(username="user", secret=Secret("pencil"))
    assert mechanism.initial() == f"n,,n=user,r={ours}".encode()
    assert mechanism.respond(first.encode()) == proof.encode()
    assert mechanism.respond(final.encode()) == b""
    mechanism.conclude(b"2.7.0 welcome")


def test_the_whole_conversation(nonce):
    login(f"{ASKED}\nS: 334 {encoded(SERVER_FINAL)}\nC:\nS: 235 2.7.0 welcome")


def test_a_server_that_asks_first(nonce):
    first = AUTH.rpartition(" ")[2]
    login(
        f"{AUTH}\nS: 334\nC: {first}\nS: 334 {encoded(SERVER_FIRST)}\nC: {encoded(PROOF)}\n"
        f"S: 334 {encoded(SERVER_FINAL)}\nC:\nS: 235 ok"
    )


def test_a_proof_in_the_last_reply_will_do(nonce):
    """RFC 4954 §4 wants it in a challenge; it is no worse a proof here."""
    login(f"{ASKED}\nS: 235 2.7.0 {encoded(SERVER_FINAL)} django@example.com logged in")


def test_no_two_logins_use_the_same_nonce():
    said = {KIND(username="user", secret=Secret("x")).initial() for _ in range(10)}
    assert len(said) == 10


def server_for(kind, username, password, count=4096):
    """Return the library's own server, which knows one account."""
    mechanism = scramp.ScramMechanism(kind.name)
    accounts = {username: mechanism.make_auth_info(password, iteration_count=count)}
    return mechanism.make_server(lambda name: accounts[name])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("username", "stored", "password", "kept"),
    [
        ("user", "user", "pencil", "pencil"),
        ("a,b=c,=2C", "a,b=c,=2C", "x,y=z,p=", "x,y=z,p="),
        ("jürgen@example.com", "jürgen@example.com", "grün €", "grün €"),
        ("u\u00adser", "user", "I\u00adX", "IX"),  # RFC 4013 §3: mapped to nothing
        ("user", "user", "\u2168", "IX"),  # ... and NFKC
        ("user", "user", "a\u00a0b", "a b"),
        ("user", "user", "e\u0301", "\u00e9"),
    ],
)
def test_names_and_passwords_as_saslprep_has_them(kind, username, stored, password, kept):
    server = server_for(kind, stored, kept)
    mechanism = kind(username=username, secret=Secret(password))
    server.set_client_first(mechanism.initial().decode())
    server.set_client_final(mechanism.respond(server.get_server_first().encode()).decode())
    assert mechanism.respond(server.get_server_final().encode()) == b""
    mechanism.conclude(b"ok")


@pytest.mark.parametrize(("username", "password"), [("user", "bell\x07"), ("user", "🔑"), ("u\u0627s", "pencil")])
def test_what_saslprep_forbids_goes_by_the_next_mechanism(username, password):
    plain = base64.b64encode(f"\0{username}\0{password}".encode()).decode()
    options = {"username": username, "password": password}
    login(f"C: AUTH PLAIN {plain}\nS: 235 ok", "SCRAM-SHA-256 SCRAM-SHA-1 PLAIN", **options)
    with pytest.raises(NotOffered, match=r"SCRAM-SHA-256 cannot be used with this username and password") as caught:
        login("", "SCRAM-SHA-256 SCRAM-SHA-1 PLAIN", **options, auth_method="SCRAM-SHA-256")
    assert caught.value.__context__ is None
    assert_hides(caught.value, password)
    with pytest.raises(AuthRefused):
        login(f"C: AUTH PLAIN {plain}\nS: 535 no", "SCRAM-SHA-256 PLAIN", **options)


# What a server gets wrong


WRONG_FIRST = {
    "empty nonce": "r=,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    "no salt": f"r={NONCE}x,i=4096",
    "salt that is no base64": f"r={NONCE}x,s=!!!,i=4096",
    "no count": f"r={NONCE}x,s=W22ZaJ0SNY7soEsUEjb6gQ==",
    "no number": f"r={NONCE}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=many",
    "negative": f"r={NONCE}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=-4096",
    "nothing": f"r={NONCE}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=0",
    "endless number": f"r={NONCE}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i={'9' * 2000}",
    "another order": f"s=W22ZaJ0SNY7soEsUEjb6gQ==,r={NONCE}x,i=4096",
    "said twice": f"r={NONCE}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,i=9999999",
    "an extension that must be known": f"m=x,r={NONCE}x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    "octets of no text": "r=\udcff,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    "words": "Password:",
}


@pytest.mark.parametrize("first", WRONG_FIRST.values(), ids=WRONG_FIRST)
def test_a_first_message_that_is_none(nonce, first):
    challenge = base64.b64encode(first.encode("utf-8", "surrogateescape")).decode()
    refused(f"{AUTH}\nS: 334 {challenge}", "the server's first message of SCRAM-SHA-256 is malformed")


@pytest.mark.parametrize("said", ["other", NONCE[:-1] + "xyz", "x" + NONCE])
def test_a_nonce_that_is_not_ours(nonce, said):
    first = f"r={said},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    refused(f"{AUTH}\nS: 334 {encoded(first)}", "the server's first message of SCRAM-SHA-256 is not acceptable")


@pytest.mark.parametrize("count", [1, 4095, 2_000_001, 10_000_000, 10**15])
def test_a_count_of_iterations_that_is_too_small_or_too_large(nonce, count):
    """Small: easy to guess the password from the proof. Large: our threads would compute for hours."""
    first = SERVER_FIRST.replace("i=4096", f"i={count}")
    refused(
        f"{AUTH}\nS: 334 {encoded(first)}", rf"requires {count} iterations of SCRAM-SHA-256, but only 4096 to 2000000"
    )


WRONG_FINAL = {
    "another signature": "v=" + base64.b64encode(bytes(32)).decode(),
    "half a signature": SERVER_FINAL[:-8],
    "no signature": "v=",
    "no base64": "v=!!!!",
    "octets of no text": "v=\udcff",
    "nothing": "",
    "the first message again": SERVER_FIRST,
}


@pytest.mark.parametrize("final", WRONG_FINAL.values(), ids=WRONG_FINAL)
def test_a_server_that_lies(nonce, final):
    challenge = base64.b64encode(final.encode("utf-8", "surrogateescape")).decode()
    refused(f"{ASKED}\nS: 334 {challenge}", "the server's proof by SCRAM-SHA-256 is wrong .*may be an impostor")


@pytest.mark.parametrize(
    "reply", ["235 2.7.0 welcome", "235", "235 2.7.0 dj0=", f"235 {encoded(SERVER_FINAL[:-6])}", "250 ok"]
)
@pytest.mark.parametrize("asked", [AUTH, f"{AUTH}\nS: 334 {encoded(SERVER_FIRST)}\nC: {encoded(PROOF)}"])
def test_a_login_that_proves_nothing_is_none(nonce, asked, reply):
    """A server that does not know the password could say so to anybody."""
    refused(f"{asked}\nS: {reply}", "may be an impostor")


def test_a_proof_is_asked_for_once(nonce):
    challenge = f"S: 334 {encoded(SERVER_FINAL)}"
    refused(f"{ASKED}\n{challenge}\nC:\n{challenge}", "proof by SCRAM-SHA-256 is wrong")


@pytest.mark.parametrize("asked", [AUTH, ASKED])
def test_an_error_of_the_server_explains_its_refusal(nonce, asked):
    with pytest.raises(AuthRefused, match=r"535.*5.7.8 no \(the server's explanation: invalid-proof\)"):
        login(f"{asked}\nS: 334 {encoded('e=invalid-proof')}\nC:\nS: 535 5.7.8 no")


def test_an_error_of_the_server_is_no_proof(nonce):
    refused(f"{ASKED}\nS: 334 {encoded('e=other-error')}\nC:\nS: 235 ok", "did not prove that it knows the password")


def test_the_password_is_shown_nowhere(nonce):
    mechanism = KIND(username="user", secret=Secret("pencil"))
    mechanism.respond(SERVER_FIRST.encode())
    assert "pencil" not in repr(mechanism)
    assert "pencil" not in repr(vars(mechanism))


# The library


def test_what_the_library_raises_is_not_what_we_raise(nonce, monkeypatch):
    """Whatever it is, and whatever its version calls it: its frames hold the password."""

    def fail(*_, **__):
        secret = "pencil"
        raise RuntimeError(f"not this version, {len(secret)}")

    monkeypatch.setattr(scramp.ScramClient, "get_client_final", fail)
    refused(f"{AUTH}\nS: 334 {encoded(SERVER_FIRST)}", "is not acceptable: not this version, 6")


def test_the_extra_is_looked_up(monkeypatch):
    assert extras.missing("scram") is None
    monkeypatch.setitem(extras.EXTRAS, "scram", ("no_such_library",))
    assert extras.missing("scram") == "needs no_such_library: pip install 'django-smtp-pool[scram]'"
