"""Whose TLS context it is: a subclass's own, one that is set on a backend, and files that are renewed."""

import gc
import logging
import ssl
import uuid
import weakref
from functools import cached_property

import pytest
import trustme
from django.core.exceptions import ImproperlyConfigured

from django_smtp_pool import registry as registries
from django_smtp_pool.backend import PooledBackend
from django_smtp_pool.core.net import tls
from tests.mailing import backend_for, message
from tests.servers import FaultServer
from tests.servers.certificates import certificates


class Authority:
    """A certificate authority, and a server of its own."""

    def __init__(self, folder, name):
        self.made = trustme.CA()
        self.file = folder / f"{name}.pem"
        self.made.cert_pem.write_to_path(str(self.file))

    def server(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.made.issue_cert("localhost", "127.0.0.1").configure_cert(context)
        return FaultServer(implicit_tls=context, users={"a": "1", "b": "1"})

    def context(self):
        return ssl.create_default_context(cafile=str(self.file))


@pytest.fixture
def authorities(tmp_path):
    yield {name: Authority(tmp_path, name) for name in "ab"}
    registries.reset()


class Pinned(PooledBackend):
    """Trusts the authority that its attribute `trusted` is."""

    trusted = None

    def __init__(self, *args, trusted=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.trusted = trusted

    @property
    def ssl_context(self):
        return self.trusted.context()


class Kept(Pinned):
    @cached_property
    def ssl_context(self):
        return self.trusted.context()


def send(server, kind, **options):
    return backend_for(server, kind, use_ssl=True, max_requeues=0, **options).send_messages([message()])


@pytest.mark.parametrize("kind", [Pinned, Kept])
@pytest.mark.parametrize("account", [{}, {"username": "a", "password": "1"}], ids=["nobody", "the same account"])
def test_what_one_mailer_trusts_is_not_what_another_trusts(authorities, kind, account):
    a, b = authorities["a"], authorities["b"]
    with a.server() as of_a, b.server() as of_b:
        assert send(of_a, kind, trusted=a, **account) == 1
        with pytest.raises(ssl.SSLCertVerificationError):
            send(of_a, kind, trusted=b, **account)
        assert send(of_b, kind, trusted=b, **account) == 1
        assert (len(of_a.accepted), len(of_b.accepted)) == (1, 1)
        registries.reset()


class ByGlobal(PooledBackend):
    """Trusts what is not an attribute of the backend at all."""

    now = None

    @property
    def ssl_context(self):
        return ByGlobal.now.context()


def test_trust_that_no_attribute_shows(authorities):
    with authorities["a"].server() as server:
        ByGlobal.now = authorities["a"]
        assert send(server, ByGlobal) == 1
        ByGlobal.now = authorities["b"]
        with pytest.raises(ssl.SSLCertVerificationError):
            send(server, ByGlobal)
        registries.reset()


@pytest.mark.parametrize("kind", [Pinned, Kept])
def test_a_new_context_for_each_backend_is_not_a_new_pool(authorities, kind):
    with authorities["a"].server() as server:
        for _ in range(4):
            assert send(server, kind, trusted=authorities["a"]) == 1
        assert (server.connections, len(registries.registry.pools())) == (1, 1)
        registries.reset()


@pytest.mark.parametrize(
    "change",
    [
        lambda context: setattr(context, "check_hostname", False),
        lambda context: setattr(context, "maximum_version", ssl.TLSVersion.TLSv1_2),
        lambda context: context.set_ciphers("ECDHE+AESGCM"),
        lambda context: setattr(context, "verify_flags", context.verify_flags | ssl.VERIFY_CRL_CHECK_LEAF),
        lambda context: context.load_default_certs(),
    ],
    ids=["check_hostname", "version", "ciphers", "flags", "certificates"],
)
def test_a_context_that_differs_has_a_pool_of_its_own(server, change):
    class Changing(PooledBackend):
        how = staticmethod(lambda context: None)

        @property
        def ssl_context(self):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            Changing.how(context)
            return context

    def pool():
        return backend_for(server, Changing, use_tls=True).pool

    before = pool()
    assert pool() is before
    Changing.how = staticmethod(change)
    assert pool() is not before


@pytest.mark.parametrize("differing", ["alias", "attribute", "class"])
def test_a_client_certificate_cannot_be_seen_so_the_rest_tells(server, differing):
    """Contexts that look alike may hold different client certificates."""

    class Tenant(PooledBackend):
        @property
        def ssl_context(self):
            return certificates().client_context()

    def pool(**attributes):
        kind = attributes.pop("kind", Tenant)
        backend = backend_for(server, kind, use_tls=True)
        vars(backend).update(attributes)
        return backend.pool

    other = {"alias": {"alias": "x"}, "attribute": {"tenant": 2}, "class": {"kind": type("Other", (Tenant,), {})}}
    assert pool() is pool()
    assert pool(**other[differing]) is not pool()
    assert pool(**other[differing]) is pool(**other[differing])


def test_the_same_context_object_is_the_same_whatever_the_backend_says(server):
    shared = certificates().client_context()

    class Sharing(PooledBackend):
        ssl_context = shared

    pools = []
    for number in range(3):
        backend = backend_for(server, Sharing, use_tls=True)
        backend.number = number
        pools.append(backend.pool)
    assert pools[0] is pools[1] is pools[2]


@pytest.mark.parametrize("value", [uuid.UUID(int=1), ("a", {"b": [1]}), {"x"}, None], ids=repr)
def test_attributes_are_compared_by_value(server, value):
    def pool(value):
        backend = backend_for(server, ByGlobal, use_tls=True)
        backend.tenant = value
        return backend.pool

    ByGlobal.now = Fixed()
    assert pool(value) is pool(value)
    assert pool(value) is not pool("another")


class Fixed:
    def context(self):
        return certificates().client_context()


def test_what_cannot_be_compared_shares_nothing_and_the_log_says_so_once(server, caplog):
    class Tenant(PooledBackend):
        @property
        def ssl_context(self):
            return certificates().client_context()

    def pool(tenant):
        backend = backend_for(server, Tenant, use_tls=True)
        backend.tenant = tenant
        return backend.pool

    one = object()
    assert pool(one) is pool(one)
    assert caplog.records == []
    assert len({id(pool(object())) for _ in range(3)}) == 3
    (told,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert "Tenant has its own pool, and they share no connections" in told.getMessage()


@pytest.mark.parametrize("context", [None, "TLSv1.3"])
def test_what_is_no_context_is_an_error_that_names_the_class(server, context):
    """Django's backend takes None for a connection that verifies nothing."""
    kind = type("Trusting", (PooledBackend,), {"ssl_context": context})
    with pytest.raises(ImproperlyConfigured, match=r"^Trusting.ssl_context is \w+, and must be an SSLContext"):
        backend_for(server, kind, use_tls=True).send_messages([message()])
    assert server.accepted == []


def test_no_context_is_made_where_nothing_is_encrypted(server):
    class Failing(PooledBackend):
        @property
        def ssl_context(self):
            raise AssertionError("nobody asked for TLS")

    assert backend_for(server, Failing).send_messages([message()]) == 1


def test_a_context_that_is_set_on_the_backend_is_used(authorities):
    a, b = authorities["a"], authorities["b"]
    with a.server() as server:
        backend = backend_for(server, use_ssl=True, max_requeues=0)
        backend.ssl_context = a.context()
        assert backend.send_messages([message()]) == 1
        backend.ssl_context = b.context()
        with pytest.raises(ssl.SSLCertVerificationError):
            backend.send_messages([message()])
        registries.reset()


def test_the_context_of_django_may_be_changed_in_place(authorities):
    with authorities["a"].server() as server:
        backend = backend_for(server, use_ssl=True, max_requeues=0)
        backend.ssl_context.load_verify_locations(str(authorities["a"].file))
        assert backend.send_messages([message()]) == 1
        registries.reset()


# -- files that are renewed -----------------------------------------------------------------------------------


def write_client(authority, folder):
    made = authority.made.issue_cert("client.example")
    file = folder / "client.pem"
    file.write_bytes(made.private_key_and_cert_chain_pem.bytes())
    return str(file)


@pytest.fixture
def shown(authorities):
    """A server that wants a client certificate, and the serial numbers of those it has been shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authorities["a"].made.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    authorities["a"].made.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    with FaultServer(implicit_tls=context) as server:
        yield server
        registries.reset()


def loading(path, ca_file):
    context = ssl.create_default_context(cafile=ca_file)
    context.load_cert_chain(path)
    return context


class Loading(PooledBackend):
    paths = ()

    @property
    def ssl_context(self):
        return loading(*self.paths)


@pytest.mark.parametrize("way", ["options", "callable", "subclass"])
def test_a_renewed_client_certificate_is_loaded_by_the_next_connection(shown, authorities, tmp_path, way):
    ca_file = str(authorities["a"].file)
    path = write_client(authorities["a"], tmp_path)
    Loading.paths = (path, ca_file)

    def make_context():
        return loading(path, ca_file)

    kind = Loading if way == "subclass" else PooledBackend
    options = {
        "options": {"ssl_certfile": path, "tls_options": {"ca_file": ca_file}},
        "callable": {"tls_options": {"context": make_context}},
        "subclass": {},
    }[way]
    first = []
    for _ in range(2):
        backend = backend_for(shown, kind, use_ssl=True, max_messages=1, **options)
        assert backend.send_messages([message()]) == 1
        pool = backend.pool
        first.append(pool)
        context = tls.context_for(backend.config.server)
        write_client(authorities["a"], tmp_path)
        later = backend_for(shown, kind, use_ssl=True, max_messages=1, **options)
        assert tls.context_for(later.config.server) is not context
    assert first[0] is first[1]


def test_a_renewed_ca_file_is_read(authorities):
    a, b = authorities["a"], authorities["b"]
    with a.server() as server:
        options = {"use_ssl": True, "max_requeues": 0, "tls_options": {"ca_file": str(b.file)}}
        with pytest.raises(ssl.SSLCertVerificationError):
            backend_for(server, **options).send_messages([message()])
        b.file.write_bytes(a.file.read_bytes() + b"\n")
        assert backend_for(server, **options).send_messages([message()]) == 1
        registries.reset()


def test_the_same_files_are_read_once(server, tmp_path):
    certificate, key = certificates().write_client(tmp_path)
    options = backend_for(server, use_tls=True, ssl_certfile=str(certificate), ssl_keyfile=str(key)).config.server
    assert tls.context_for(options) is tls.context_for(options)
    certificate.unlink()
    with pytest.raises(FileNotFoundError):
        tls.context_for(options)


def test_contexts_are_bounded_and_go_with_their_backends(server):
    alive = weakref.WeakSet()
    for _ in range(60):
        context = certificates().client_context()
        alive.add(context)
        tls.context_for(backend_for(server, use_tls=True, tls_options={"context": context}).config.server)
    del context
    registries.reset()
    gc.collect()
    assert not alive
    for number in range(tls.MOST + 5):
        options = {"minimum_version": "TLSv1.3", "server_hostname": f"{number}.example"}
        tls.context_for(backend_for(server, use_tls=True, tls_options=options).config.server)
    assert len(tls._contexts) <= tls.MOST
