"""Logging in: which mechanism, in which order, in which words, and what never travels in clear."""

import base64
import hmac

import pytest

from django_smtp_pool.core.errors import AuthRefused, ConnectionLost, NotOffered, Stage
from django_smtp_pool.core.options import extras
from django_smtp_pool.core.options.fields import Secret
from django_smtp_pool.core.options.options import ServerOptions
from django_smtp_pool.core.smtp import auth, scram
from django_smtp_pool.core.smtp.experience import Experience
from django_smtp_pool.core.smtp.extensions import Extensions
from django_smtp_pool.core.smtp.session import Greeter, log_in
from django_smtp_pool.core.smtp.steps import Heard
from tests.core.transcript import End, play, replies_of, resumed

PLAIN = base64.b64encode(b"\0user\0secret").decode()
USER = base64.b64encode(b"user").decode()
SECRET = base64.b64encode(b"secret").decode()
CHALLENGE = base64.b64encode(b"<1896.697170952@mail.example>").decode()
DIGEST = hmac.new(b"secret", b"<1896.697170952@mail.example>", "md5").hexdigest()
PROOF = base64.b64encode(f"user {DIGEST}".encode()).decode()
REFUSED_PROOF = f"C: AUTH CRAM-MD5\nS: 334 {CHALLENGE}\nC: {PROOF}\nS: 535 5.7.8 no"
FIRST = base64.b64encode(b"n,,n=user,r=nonce").decode()
CERTIFICATE = {"username": None, "password": None, "ssl_certfile": "client.pem", "use_tls": True}


@pytest.fixture
def fixed_nonce(monkeypatch):
    """Let every SCRAM use the same nonce."""
    monkeypatch.setattr(scram, "fresh_nonce", lambda: "nonce")


@pytest.fixture
def without_scramp(monkeypatch):
    """Let it look as if the extra were not installed."""
    monkeypatch.setitem(extras.EXTRAS, "scram", ("no_such_library",))


def greeter(server, experience=None):
    return Greeter(server=server, local_hostname=lambda: "client.example", experience=experience or Experience())


def login(offered, transcript, *, encrypted=True, experience=None, **options):
    server = ServerOptions(**{"host": "mail.example", "username": "user", "password": "secret", **options})
    dialogue = log_in(greeter(server, experience), Extensions(auth=frozenset(offered.split())), encrypted=encrypted)
    return play(dialogue, transcript)


def test_plain():
    login("PLAIN", f"C: AUTH PLAIN {PLAIN}\nS: 235 2.7.0 welcome")


def test_plain_on_a_server_that_asks_first():
    login("PLAIN", f"C: AUTH PLAIN {PLAIN}\nS: 334\nC: {PLAIN}\nS: 235 welcome")


def test_login_however_the_server_words_it():
    login("LOGIN", f"C: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: {USER}\nS: 334 Pa+zd29y\nC: {SECRET}\nS: 235 ok")
    login("LOGIN", f"C: AUTH LOGIN\nS: 334\nC: {USER}\nS: 334\nC: {SECRET}\nS: 235 ok")


def test_cram_md5():
    login("CRAM-MD5", f"C: AUTH CRAM-MD5\nS: 334 {CHALLENGE}\nC: {PROOF}\nS: 235 ok")


def test_the_example_of_rfc_2195():
    mechanism = auth.CramMD5(username="tim", secret=Secret("tanstaaftanstaaf"))
    answer = mechanism.respond(b"<1896.697170952@postoffice.reston.mci.net>")
    assert answer == b"tim b913a602c7eda7a495b4e6e7334d3890"


def test_names_and_passwords_beyond_ascii_are_utf_8():
    mechanism = auth.Plain(username="jürgen", secret=Secret("grün"))
    assert mechanism.initial() == "\0jürgen\0grün".encode()


def test_what_reveals_no_secret_comes_first():
    login("LOGIN PLAIN CRAM-MD5", f"C: AUTH CRAM-MD5\nS: 334 {CHALLENGE}\nC: {PROOF}\nS: 235 ok")
    login("LOGIN PLAIN", f"C: AUTH PLAIN {PLAIN}\nS: 235 ok")


@pytest.mark.parametrize("auth_method", [None, "SCRAM-SHA-256"])
def test_the_best_proof_is_by_scram(fixed_nonce, auth_method):
    with pytest.raises(ConnectionLost):
        login(
            "LOGIN CRAM-MD5 PLAIN SCRAM-SHA-1 SCRAM-SHA-256",
            f"C: AUTH SCRAM-SHA-256 {FIRST}\nS: <gone>",
            auth_method=auth_method,
        )
    with pytest.raises(ConnectionLost):
        login("LOGIN CRAM-MD5 PLAIN SCRAM-SHA-1", f"C: AUTH SCRAM-SHA-1 {FIRST}\nS: <gone>")


def test_without_its_library_scram_is_passed_over(without_scramp):
    login("SCRAM-SHA-256 SCRAM-SHA-1 PLAIN", f"C: AUTH PLAIN {PLAIN}\nS: 235 ok")


@pytest.mark.parametrize("auth_method", [None, "SCRAM-SHA-1"])
def test_where_only_its_library_is_missing_the_error_names_the_extra(without_scramp, auth_method):
    with pytest.raises(NotOffered, match=r"SCRAM-SHA-1 needs no_such_library: pip install 'django-smtp-pool\[scram\]'"):
        login("GSSAPI SCRAM-SHA-1", "", auth_method=auth_method)


def test_no_extra_is_named_that_would_not_help(without_scramp):
    with pytest.raises(NotOffered) as caught:
        login("GSSAPI", "")
    assert "pip" not in str(caught.value)


def test_the_mechanism_asked_for_is_the_one():
    login(
        "LOGIN PLAIN CRAM-MD5", "C: AUTH LOGIN\nS: 334\nC: dXNlcg==\nS: 334\nC: c2VjcmV0\nS: 235", auth_method="LOGIN"
    )


def test_a_refused_proof_is_followed_by_the_password():
    """Servers that keep hashes only offer CRAM-MD5 all the same."""
    login("CRAM-MD5 PLAIN", f"{REFUSED_PROOF}\nC: AUTH PLAIN {PLAIN}\nS: 235 ok")


def test_where_proofs_are_refused_the_next_connections_begin_with_the_password():
    """Else each of them would count as a refused login."""
    experience = Experience()
    login("CRAM-MD5 PLAIN", f"{REFUSED_PROOF}\nC: AUTH PLAIN {PLAIN}\nS: 235 ok", experience=experience)
    login("CRAM-MD5 PLAIN", f"C: AUTH PLAIN {PLAIN}\nS: 235 ok", experience=experience)
    # What must not be sent is not, whatever was learnt.
    proof = f"C: AUTH CRAM-MD5\nS: 334 {CHALLENGE}\nC: {PROOF}\nS: 235 ok"
    login("CRAM-MD5 PLAIN", proof, experience=experience, encrypted=False)
    login("CRAM-MD5", proof, experience=experience)


@pytest.mark.parametrize("end", ["S: 535 no", "S: <gone>", "S: 454 later"])
def test_that_proofs_are_refused_is_learnt_from_a_login_that_works(end):
    experience = Experience()
    with pytest.raises((AuthRefused, ConnectionLost)):
        login("CRAM-MD5 PLAIN", f"{REFUSED_PROOF}\nC: AUTH PLAIN {PLAIN}\n{end}", experience=experience)
    assert not experience.refuses_proofs


def test_a_wrong_password_is_refused_twice_at_most(fixed_nonce):
    """Each refusal counts towards a lock: after one proof there is no other, and after the password nothing."""
    with pytest.raises(AuthRefused) as caught:
        login(
            "SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5 PLAIN LOGIN",
            f"C: AUTH SCRAM-SHA-256 {FIRST}\nS: 535 5.7.8 no\nC: AUTH PLAIN {PLAIN}\nS: 535 5.7.8 never",
        )
    assert caught.value.smtp_error == b"5.7.8 never"
    with pytest.raises(AuthRefused):
        login("SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5", f"C: AUTH SCRAM-SHA-256 {FIRST}\nS: 535 5.7.8 no")


def test_a_proof_that_the_server_does_not_know_after_all_is_followed_by_the_next(fixed_nonce):
    login(
        "SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5 PLAIN",
        f"C: AUTH SCRAM-SHA-256 {FIRST}\nS: 504 5.5.4 no\nC: AUTH SCRAM-SHA-1 {FIRST}\nS: 504 5.5.4 no\n"
        f"C: AUTH CRAM-MD5\nS: 334 {CHALLENGE}\nC: {PROOF}\nS: 235 ok",
    )


def test_a_refused_password_is_not_sent_twice():
    with pytest.raises(AuthRefused) as caught:
        login("PLAIN LOGIN", f"C: AUTH PLAIN {PLAIN}\nS: 535 5.7.8 no")
    assert (caught.value.smtp_code, caught.value.stage) == (535, Stage.AUTH)
    assert caught.value.reply.enhanced == (5, 7, 8)


def test_a_mechanism_that_the_server_does_not_know_after_all_is_skipped():
    login(
        "PLAIN LOGIN",
        f"C: AUTH PLAIN {PLAIN}\nS: 504 5.5.4 no\nC: AUTH LOGIN\nS: 334\nC: {USER}\nS: 334\nC: {SECRET}\nS: 235",
    )


@pytest.mark.parametrize("reply", ["454 4.7.0 Temporary authentication failure", "421 4.7.0 Too many", "432 4.3.2 x"])
@pytest.mark.parametrize("mechanisms", ["PLAIN LOGIN", "CRAM-MD5 PLAIN"])
def test_a_failure_that_may_pass_ends_the_login(reply, mechanisms):
    first = "CRAM-MD5" if "CRAM" in mechanisms else f"PLAIN {PLAIN}"
    with pytest.raises(AuthRefused) as caught:
        login(mechanisms, f"C: AUTH {first}\nS: {reply}")
    assert not caught.value.reply.is_permanent


def test_the_last_refusal_is_raised():
    with pytest.raises(AuthRefused) as caught:
        login(
            "CRAM-MD5 PLAIN",
            f"{REFUSED_PROOF}\nC: AUTH PLAIN {PLAIN}\nS: 535 password",
        )
    assert caught.value.smtp_error == b"password"


@pytest.mark.parametrize("challenge", ["not base64!", "====", "é"])
def test_a_challenge_that_is_none_cancels_the_exchange(challenge):
    with pytest.raises(AuthRefused):
        login("CRAM-MD5", f"C: AUTH CRAM-MD5\nS: 334 {challenge}\nC: *\nS: 501 cancelled")


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_a_server_that_asks_for_ever_gets_no_answer_for_ever(mechanism):
    """Each answer would restart the deadline of a reply, and repeat the secret."""
    server = ServerOptions(username="user", password="secret")
    dialogue = log_in(greeter(server), Extensions(auth=frozenset({mechanism})), encrypted=True)
    step = resumed(lambda: next(dialogue))
    for _ in range(10):
        step = resumed(lambda: dialogue.send(Heard(replies=replies_of("334 AAAA"))))
        if isinstance(step, End):
            break
    with pytest.raises((AuthRefused, ConnectionLost)):
        step.result()


# What the server says of a login, and what follows (RFC 4954 §6)


@pytest.mark.parametrize("end", ["S: <gone>", "S: <gone early>"])
@pytest.mark.parametrize("code", [535, 534, 550, 501, 504])
def test_a_refusal_is_raised_although_the_server_hangs_up_behind_it(code, end):
    with pytest.raises(AuthRefused) as caught:
        login(
            "CRAM-MD5 PLAIN",
            f"C: AUTH CRAM-MD5\nS: 334 {CHALLENGE}\nC: {PROOF}\nS: {code} no\nC: AUTH PLAIN {PLAIN}\n{end}",
        )
    assert caught.value.smtp_code == code


@pytest.mark.parametrize("refused", ["535 5.7.8 no", "504 5.5.4 no", "454 4.7.0 not now"])
def test_where_nobody_could_try_the_password_the_next_login_begins_with_it(refused):
    experience = Experience()
    failed = f"C: AUTH CRAM-MD5\nS: 334 {CHALLENGE}\nC: {PROOF}\nS: {refused}"
    gone = "" if refused.startswith("454") else f"\nC: AUTH PLAIN {PLAIN}\nS: <gone>"
    with pytest.raises(AuthRefused):
        login("CRAM-MD5 PLAIN", failed + gone, experience=experience)
    login("CRAM-MD5 PLAIN", f"C: AUTH PLAIN {PLAIN}\nS: 235 ok", experience=experience)
    assert experience.refuses_proofs


def test_a_password_that_was_refused_is_not_the_next_to_be_tried():
    experience = Experience(password_next=True)
    with pytest.raises(AuthRefused):
        login("CRAM-MD5 PLAIN", f"C: AUTH PLAIN {PLAIN}\nS: 535 no", experience=experience)
    assert not experience.password_next


def test_a_password_transition_goes_on_to_the_password_under_tls():
    wanted = f"C: AUTH CRAM-MD5\nS: 334 {CHALLENGE}\nC: {PROOF}\nS: 432 4.7.12 A password transition is needed"
    experience = Experience()
    login("CRAM-MD5 PLAIN", f"{wanted}\nC: AUTH PLAIN {PLAIN}\nS: 235 ok", experience=experience)
    assert not experience.refuses_proofs
    for options in ({"encrypted": False, "host": "localhost"}, {"auth_method": "CRAM-MD5"}):
        with pytest.raises(AuthRefused) as caught:
            login("CRAM-MD5 PLAIN", wanted, **options)
        assert caught.value.is_final


def test_a_mechanism_that_is_too_weak_is_followed_by_the_next():
    login(
        "PLAIN LOGIN",
        f"C: AUTH PLAIN {PLAIN}\nS: 534 5.7.9 too weak\nC: AUTH LOGIN\nS: 334\nC: {USER}\nS: 334\nC: {SECRET}\nS: 235",
    )
    with pytest.raises(AuthRefused):
        login("PLAIN LOGIN", f"C: AUTH PLAIN {PLAIN}\nS: 534 5.7.14 Log in via your web browser")


def test_two_logins_are_refused_at_most(fixed_nonce):
    with pytest.raises(AuthRefused) as caught:
        login(
            "SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5 PLAIN LOGIN",
            f"C: AUTH SCRAM-SHA-256 {FIRST}\nS: 534 5.7.9 no\nC: AUTH SCRAM-SHA-1 {FIRST}\nS: 534 5.7.9 never",
        )
    assert (caught.value.smtp_error, caught.value.logins) == (b"5.7.9 never", 2)


@pytest.mark.parametrize("mechanism", ["PLAIN", "CRAM-MD5"])
def test_503_to_the_first_login_means_that_it_is_none(mechanism):
    first = {"PLAIN": f"C: AUTH PLAIN {PLAIN}", "CRAM-MD5": "C: AUTH CRAM-MD5"}[mechanism]
    login(mechanism, f"{first}\nS: 503 5.5.1 Error: already authenticated")


def test_503_to_a_later_login_is_a_refusal():
    with pytest.raises(AuthRefused):
        login("CRAM-MD5 PLAIN", f"{REFUSED_PROOF}\nC: AUTH PLAIN {PLAIN}\nS: 503 5.5.1 no")


@pytest.mark.parametrize("prompts", [("Username:", "Password:"), ("User Name", "Pass"), ("Enter name", "Enter: pass!")])
def test_login_does_not_read_its_prompts(prompts):
    name, word = prompts
    login("LOGIN", f"C: AUTH LOGIN\nS: 334 {name}\nC: {USER}\nS: 334 {word}\nC: {SECRET}\nS: 235 ok")
    login("PLAIN", f"C: AUTH PLAIN {PLAIN}\nS: 334 Go on\nC: {PLAIN}\nS: 235 welcome")


# What is not offered, and what is not safe


def test_a_server_without_auth_is_an_error_when_there_is_a_login():
    with pytest.raises(NotOffered, match=r"mail.example offers no login") as caught:
        login("", "")
    assert caught.value.stage is Stage.AUTH
    assert caught.value.is_final


def test_no_common_mechanism_is_an_error_that_names_both_sides():
    with pytest.raises(NotOffered, match=r"GSSAPI, NTLM.*CRAM-MD5, PLAIN, LOGIN"):
        login("NTLM GSSAPI", "")


def test_the_mechanism_asked_for_must_be_offered():
    with pytest.raises(NotOffered, match=r"offers only LOGIN.*PLAIN"):
        login("LOGIN", "", auth_method="PLAIN")


@pytest.mark.parametrize("mechanisms", ["PLAIN", "LOGIN", "PLAIN LOGIN"])
@pytest.mark.parametrize("host", ["mail.example", "192.0.2.1", "localhost.evil.example"])
def test_no_password_travels_in_clear(mechanisms, host):
    with pytest.raises(
        NotOffered,
        match=r"unencrypted.*use_tls or use_ssl\. To send it unencrypted on purpose, set allow_insecure_auth",
    ):
        login(mechanisms, "", encrypted=False, host=host)


def test_a_refused_proof_in_clear_is_not_followed_by_the_password():
    with pytest.raises(AuthRefused):
        login("CRAM-MD5 PLAIN", REFUSED_PROOF, encrypted=False)


@pytest.mark.parametrize("options", [{"host": "localhost"}, {"host": "127.0.0.1"}, {"allow_insecure_auth": True}])
def test_a_password_travels_in_clear_to_this_machine_or_when_asked_to(options):
    login("PLAIN", f"C: AUTH PLAIN {PLAIN}\nS: 235 ok", encrypted=False, **options)


# Client certificates


@pytest.mark.parametrize(("username", "identity"), [(None, "="), ("", "="), ("user", USER)])
@pytest.mark.parametrize("auth_method", [None, "EXTERNAL"])
def test_a_client_certificate_logs_in_where_that_is_offered(auth_method, username, identity):
    transcript = f"C: AUTH EXTERNAL {identity}\nS: 235 2.7.0 welcome"
    login("EXTERNAL PLAIN", transcript, **{**CERTIFICATE, "username": username, "auth_method": auth_method})


def test_a_server_that_asks_first_for_whom_we_act():
    login("EXTERNAL", "C: AUTH EXTERNAL =\nS: 334\nC:\nS: 235 ok", **CERTIFICATE)
    options = {**CERTIFICATE, "username": "user"}
    login("EXTERNAL", f"C: AUTH EXTERNAL {USER}\nS: 334\nC: {USER}\nS: 235 ok", **options)


@pytest.mark.parametrize("offered", ["", "PLAIN LOGIN CRAM-MD5"])
def test_where_external_is_not_offered_the_certificate_alone_must_do(offered):
    login(offered, "", **CERTIFICATE)


def test_a_certificate_that_was_not_shown_logs_nobody_in():
    options = {**CERTIFICATE, "use_tls": False, "opportunistic_tls": True}
    login("EXTERNAL", "", encrypted=False, **options)


@pytest.mark.parametrize(
    ("offered", "text"), [("", "offers no login"), ("PLAIN", "can only be used with EXTERNAL: many servers")]
)
def test_external_that_is_asked_for_must_be_offered(offered, text):
    with pytest.raises(NotOffered, match=text) as caught:
        login(offered, "", **CERTIFICATE, auth_method="EXTERNAL")
    assert caught.value.stage is Stage.AUTH


def test_a_refused_certificate_is_an_error():
    with pytest.raises(AuthRefused):
        login("EXTERNAL PLAIN", "C: AUTH EXTERNAL =\nS: 535 5.7.8 who?", **CERTIFICATE)


def test_a_password_comes_before_the_certificate_unless_that_is_asked_for():
    both = {"ssl_certfile": "client.pem", "use_tls": True}
    login("EXTERNAL PLAIN", f"C: AUTH PLAIN {PLAIN}\nS: 235 ok", **both)
    login("EXTERNAL PLAIN", f"C: AUTH EXTERNAL {USER}\nS: 235 ok", **both, auth_method="EXTERNAL")


def test_a_token_comes_before_the_certificate():
    options = {**CERTIFICATE, "username": "user", "oauth2_token": "t"}
    with pytest.raises(NotOffered, match="but the token"):
        login("EXTERNAL PLAIN", "", **options)


def test_another_method_that_is_asked_for_is_not_replaced_by_the_certificate():
    login("EXTERNAL PLAIN", "", **CERTIFICATE, auth_method="PLAIN")


# Secrets and logs


@pytest.mark.parametrize(
    ("mechanism", "answers"),
    [
        ("PLAIN", ["334", "235 ok"]),
        ("LOGIN", ["334", "334", "235 ok"]),
        ("CRAM-MD5", [f"334 {CHALLENGE}", "235 ok"]),
        ("SCRAM-SHA-256", ["334", "535 no"]),
    ],
)
def test_every_secret_is_masked_for_the_log(mechanism, answers):
    server = ServerOptions(username="user", password="secret")
    dialogue = log_in(greeter(server), Extensions(auth=frozenset({mechanism})), encrypted=True)
    step = next(dialogue)
    for answer in answers:
        said = b"".join(step.pieces).decode().rstrip()
        shown = step.masked or said
        assert shown in {f"AUTH {mechanism}", f"AUTH {mechanism} ***", "***"}
        assert said not in repr(step) or said == f"AUTH {mechanism}"
        step = resumed(lambda answer=answer: dialogue.send(Heard(replies=replies_of(answer))))


def test_a_mechanism_does_not_print_its_secret():
    for kind in auth.PASSWORD_MECHANISMS:
        assert "secret-word" not in repr(kind(username="user", secret=Secret("secret-word")))


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
@pytest.mark.parametrize("end", ["S: 535 no", "S: <gone>"])
def test_no_secret_is_left_in_a_failed_login(mechanism, end):
    """Neither in the error nor in what Django's debug page prints of its frames."""
    words = {"PLAIN": f" {PLAIN}", "LOGIN": "", "CRAM-MD5": ""}
    with pytest.raises((AuthRefused, ConnectionLost)) as caught:
        login(mechanism, f"C: AUTH {mechanism}{words[mechanism]}\n{end}")
    assert_hides(caught.value, "secret'", SECRET, PLAIN)


def assert_hides(error, *secrets):
    """Assert that no frame of the package shows a secret in its locals, nor does the error."""
    assert not any(secret in f"{error!r} {error}" for secret in secrets)
    trace = error.__traceback__
    while trace is not None:
        if "django_smtp_pool" in trace.tb_frame.f_code.co_filename:
            shown = repr(trace.tb_frame.f_locals)
            assert not any(secret in shown for secret in secrets), trace.tb_frame.f_code.co_name
        trace = trace.tb_next


def test_no_library_is_looked_for_twice(monkeypatch):
    """Python's lock for imports is lost where a signal handler raises under it, and every later login would hang."""
    before = extras.missing("scram")
    monkeypatch.setattr("importlib.util.find_spec", None)
    assert extras.missing("scram") == before
