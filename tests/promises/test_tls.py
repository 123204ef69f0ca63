"""TLS that was asked for is TLS or an error, and the error says what to do."""

import ssl

import django
import pytest
from cryptography.hazmat.primitives import serialization
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured

from django_smtp_pool.core.errors import NotOffered, ProtocolError, ReplyTimeout, StartTLSRefused
from django_smtp_pool.core.net import tls
from django_smtp_pool.core.options.options import ServerOptions
from django_smtp_pool.core.smtp.auth import choose
from tests.mailing import backend_for, message
from tests.servers import Fault, FaultServer, faults
from tests.servers.certificates import certificates


@pytest.fixture
def ca_file(tmp_path):
    return str(certificates().write_authority(tmp_path))


def server_with(name="good", *, how="starttls", **options):
    """Return a server that shows a certificate, after STARTTLS or from the first octet."""
    keywords = {key: options.pop(key) for key in ("client_required", "maximum") if key in options}
    return FaultServer(**{how: certificates().server_context(name, **keywords)}, **options)


def send(server, *, how="starttls", **options):
    mode = {"use_tls": True} if how == "starttls" else {"use_ssl": True}
    backend_for(server, **{**mode, **options}).send_messages([message()])


BOTH = pytest.mark.parametrize("how", ["starttls", "implicit_tls"])


@BOTH
def test_mail_goes_encrypted(ca_file, how):
    with server_with(how=how) as server:
        send(server, how=how, tls_options={"ca_file": ca_file})
        assert server.accepted[0].tls


@BOTH
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("wrong_host", r"certificate of 127.0.0.1 was not accepted.*for another.*tls_options\['server_hostname'\]"),
        ("expired", r"certificate of 127.0.0.1 was not accepted.*it has expired: the server's administrator"),
        ("unknown", r"certificate of 127.0.0.1 was not accepted.*its CA is not trusted.*\['ca_file'\]"),
    ],
)
def test_a_bad_certificate_is_told_clearly(ca_file, how, name, text):
    with server_with(name, how=how) as server:
        with pytest.raises(ssl.SSLCertVerificationError, match=text):
            send(server, how=how, tls_options={"ca_file": ca_file})
        assert not server.commands("MAIL")
        assert server.connections == 1  # another try would not help


def test_a_certificate_of_our_own_ca_is_not_trusted_by_the_system():
    with server_with() as server, pytest.raises(ssl.SSLCertVerificationError, match=r"tls_options\['ca_file'\]"):
        send(server)


@pytest.mark.parametrize("name", ["wrong_host", "expired", "unknown"])
def test_verify_can_be_switched_off(name):
    with server_with(name) as server:
        send(server, tls_options={"verify": False})
        assert server.accepted[0].tls


def test_the_name_to_look_for_can_be_set(ca_file):
    seen = []
    context = certificates().server_context("wrong_host")
    context.sni_callback = lambda sock, name, context: seen.append(name)
    with FaultServer(starttls=context) as server:
        send(server, tls_options={"ca_file": ca_file, "server_hostname": "elsewhere.example"})
        assert server.accepted[0].tls
    assert seen == ["elsewhere.example"]


def test_the_host_is_asked_for_by_name(ca_file):
    seen = []
    context = certificates().server_context()
    context.sni_callback = lambda sock, name, context: seen.append(name)
    with FaultServer(starttls=context) as server:
        server.host = "localhost"
        send(server, tls_options={"ca_file": ca_file})
    assert seen == ["localhost"]


def test_the_minimum_version_is_kept(ca_file):
    with server_with(maximum=ssl.TLSVersion.TLSv1_2) as server:
        send(server, tls_options={"ca_file": ca_file})
        with pytest.raises(ssl.SSLError, match=r"no TLS version that is new enough.*minimum_version"):
            send(server, tls_options={"ca_file": ca_file, "minimum_version": "TLSv1.3"})


def test_ciphers_are_used(ca_file):
    with server_with(maximum=ssl.TLSVersion.TLSv1_2) as server:
        server.starttls.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
        send(server, tls_options={"ca_file": ca_file, "ciphers": "ECDHE-ECDSA-AES128-GCM-SHA256"})
        with pytest.raises(ssl.SSLError, match=r"the TLS handshake with 127.0.0.1 failed"):
            send(server, tls_options={"ca_file": ca_file, "ciphers": "ECDHE-ECDSA-AES256-GCM-SHA384"})


def test_bad_options_are_told_when_the_backend_is_made(server):
    for options, text in [
        ({"minimum_version": "TLSv1"}, "minimum_version must be one of"),
        ({"verfy": False}, "unknown keys: verfy; known are ca_file"),
        ({"context": "nodots"}, "context must be a dotted path"),
        ({"context": ssl.create_default_context(), "verify": False}, "context replaces verify: set one or the other"),
        ("on", "must be a dict"),
    ]:
        with pytest.raises(ImproperlyConfigured, match=text):
            backend_for(server, tls_options=options)


def test_a_file_that_is_not_there_is_told_before_anything_is_dialled(tmp_path):
    with server_with() as server:
        path = tmp_path / "ca.pem"
        with pytest.raises(ImproperlyConfigured, match=r"tls_options\['ca_file'\] .* cannot be read: No such file"):
            send(server, tls_options={"ca_file": path})
        path.write_text("no certificate")
        with pytest.raises(ssl.SSLError, match=r"tls_options\['ca_file'\] .* contains no certificate in PEM"):
            send(server, tls_options={"ca_file": path})
        assert server.connections == 0


# -- a context of one's own ----------------------------------------------------------------------------


def made_context():
    """Return a context that trusts the tests' CA; named by a dotted path below."""
    return certificates().client_context()


SHARED = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@pytest.mark.parametrize("kind", ["context", "callable", "path"])
def test_a_context_of_ones_own(kind):
    given = {"context": made_context(), "callable": made_context, "path": f"{__name__}.made_context"}[kind]
    with server_with() as server:
        send(server, tls_options={"context": given})
        assert server.accepted[0].tls


def test_a_dotted_path_may_name_a_context():
    assert tls.found(f"{__name__}.SHARED") is SHARED
    assert tls.found(f"{__name__}:SHARED") is SHARED


def test_a_dotted_path_is_compared_as_its_text(server):
    path = f"{__name__}.made_context"
    one, same, other = (
        backend_for(server, use_tls=True, tls_options={"context": given}) for given in (path, path, made_context)
    )
    assert one.pool is same.pool
    assert one.pool is not other.pool


@pytest.mark.parametrize(
    ("given", "error"), [("no.such.module", ImportError), (f"{__name__}.no_such", AttributeError), (int, TypeError)]
)
def test_a_context_that_is_none(given, error):
    with server_with() as server:
        with pytest.raises(error):
            send(server, tls_options={"context": given})
        assert server.connections == 0


@pytest.mark.parametrize(
    ("path", "kind"),
    [("no.such.module", ImportError), ("tests.mailing.nothing", AttributeError), ("tests.promises", TypeError)],
)
def test_a_path_that_leads_nowhere_names_the_option(path, kind):
    with FaultServer(starttls=certificates().server_context()) as server:
        mail = message()
        with pytest.raises(kind, match=rf"^tls_options\['context'\] names '{path}'"):
            backend_for(server, use_tls=True, tls_options={"context": path}).send_messages([mail])
        assert mail.smtp_pool_status.outcome == "not_sent"


def test_a_path_that_leads_nowhere_is_told_by_the_checks(settings):
    options = {"host": "mail.example.com", "use_tls": True, "tls_options": {"context": "no.such.module"}}
    if django.VERSION >= (6, 1):
        settings.MAILERS = {"default": {"BACKEND": "django_smtp_pool.backend.PooledBackend", "OPTIONS": options}}
    else:
        settings.EMAIL_BACKEND = "django_smtp_pool.backend.PooledBackend"
        settings.EMAIL_USE_TLS, settings.EMAIL_TLS_OPTIONS = True, options["tls_options"]
    problems = [problem for problem in run_checks() if problem.id == "smtp_pool.E001"]
    assert "no.such.module" in problems[0].msg


# -- client certificates -------------------------------------------------------------------------------


def test_a_client_certificate_and_the_ca_store_together(ca_file, tmp_path):
    certificate, key = certificates().write_client(tmp_path)
    with server_with(client_required=True) as server:
        send(server, ssl_certfile=str(certificate), ssl_keyfile=str(key), tls_options={"ca_file": ca_file})
        assert server.accepted[0].tls


def test_the_systems_store_is_loaded_beside_a_client_certificate(server, tmp_path):
    certificate, key = certificates().write_client(tmp_path)
    backend = backend_for(server, use_tls=True, ssl_certfile=str(certificate), ssl_keyfile=str(key))
    loaded = tls.context_for(backend.config.server).cert_store_stats()
    assert loaded == ssl.create_default_context().cert_store_stats()


def test_without_the_client_certificate_the_server_hangs_up(ca_file):
    with server_with(client_required=True) as server:
        with pytest.raises(OSError, match=r".") as caught:
            send(server, max_requeues=0, tls_options={"ca_file": ca_file})
        assert not server.commands("MAIL")
        assert caught.value is not None


def test_an_encrypted_key_does_not_ask_the_terminal(tmp_path):
    certificate, key = certificates().write_client(tmp_path)
    encrypt(key)
    with server_with() as server, pytest.raises(ValueError, match=r"ssl_keyfile\) is encrypted"):
        send(server, ssl_certfile=str(certificate), ssl_keyfile=str(key))


def encrypt(path):
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    protection = serialization.BestAvailableEncryption(b"x")
    pem, traditional = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL
    path.write_bytes(key.private_bytes(pem, traditional, protection))


# -- attackers and wrong ports -------------------------------------------------------------------------


def test_stripping_is_an_error(server):
    with pytest.raises(
        NotOffered, match=r"does not offer STARTTLS, and use_tls requires it: nothing was sent unencrypted"
    ):
        backend_for(server, use_tls=True, username="user", password="secret").send_messages([message()])
    assert not server.commands("AUTH")
    assert not server.commands("MAIL")


@pytest.mark.parametrize("misbehaviour", [faults.code_4xx, faults.code_5xx])
def test_a_refused_starttls_is_an_error(misbehaviour):
    with server_with(fault=Fault(at="starttls", do=misbehaviour, times=None)) as server:
        with pytest.raises(StartTLSRefused):
            send(server, max_requeues=0)
        assert not server.commands("MAIL")


def test_what_is_injected_behind_starttls_ends_the_session(ca_file):
    with server_with(fault=Fault(at="starttls", do=faults.stray, times=None)) as server:
        with pytest.raises(ProtocolError, match=r"sent something unrequested: 250 2.0.0 And one more"):
            send(server, max_requeues=0, tls_options={"ca_file": ca_file})
        assert not server.commands("MAIL")


def test_what_was_offered_in_clear_is_forgotten(ca_file):
    with server_with(auth_before_tls=True) as server:
        server.advertise = ["STARTTLS", "AUTH PLAIN"]

        def only_before_tls(conversation):
            return [] if conversation.tls else ["STARTTLS", "AUTH PLAIN"]

        server.offers = only_before_tls
        with pytest.raises(NotOffered, match=r"offers no login"):
            send(server, username="user", password="secret", tls_options={"ca_file": ca_file})
        assert not server.commands("AUTH")


def test_tls_at_a_port_that_speaks_in_clear(server):
    text = (
        r"127.0.0.1 does not speak TLS on this port: use_ssl needs port 465; use_tls \(STARTTLS\) needs port 587 or 25"
    )
    with pytest.raises(ssl.SSLError, match=text):
        send(server, how="implicit_tls")


def test_clear_text_at_a_port_that_speaks_tls():
    with (
        server_with(how="implicit_tls") as server,
        pytest.raises(ReplyTimeout, match=r"if it expects TLS, set use_ssl"),
    ):
        backend_for(server, greeting_timeout=0.05, max_requeues=0).send_messages([message()])


# -- opportunistic -------------------------------------------------------------------------------------


def test_opportunistic_uses_what_is_offered(ca_file):
    with server_with() as server:
        backend_for(server, opportunistic_tls=True, tls_options={"ca_file": ca_file}).send_messages([message()])
        assert server.accepted[0].tls


def test_opportunistic_goes_on_in_clear(server):
    backend_for(server, opportunistic_tls=True).send_messages([message()])
    assert not server.accepted[0].tls


def test_opportunistic_goes_on_after_a_refusal():
    with server_with(fault=Fault(at="starttls", do=faults.code_4xx, times=None)) as server:
        backend_for(server, opportunistic_tls=True).send_messages([message()])
        assert not server.accepted[0].tls
        assert server.connections == 1


def test_opportunistic_sends_no_password_in_clear():
    with FaultServer() as server:
        backend = backend_for(server, opportunistic_tls=True, username="user", password="secret")
        backend.send_messages([message()])  # to a loopback address it may
        assert server.accepted[0].user == "user"
    options = ServerOptions(host="mail.example.com", opportunistic_tls=True, username="u", password="p")
    with pytest.raises(NotOffered, match=r"the password would be sent to mail.example.com unencrypted"):
        choose(options, {"PLAIN"}, encrypted=False)


def test_opportunistic_still_checks_the_certificate(ca_file):
    with server_with("expired") as server, pytest.raises(ssl.SSLCertVerificationError):
        backend_for(server, opportunistic_tls=True, tls_options={"ca_file": ca_file}).send_messages([message()])


def test_opportunistic_is_no_way_around_use_tls(server):
    with pytest.raises(NotOffered):
        backend_for(server, opportunistic_tls=True, use_tls=True).send_messages([message()])
