"""Certificates created at run time: a CA, valid and invalid server certificates, and a client certificate."""

import datetime as dt
import ssl
from functools import cached_property, lru_cache
from pathlib import Path

from ...core.options import extras

try:
    import trustme
except ImportError:
    raise ImportError(f"TLS for tests {extras.missing('testing')}") from None

LONG_AGO = dt.datetime(2001, 1, 1, tzinfo=dt.timezone.utc)
HOSTS = ("localhost", "127.0.0.1", "::1")


class Certificates:
    """A CA and the certificates that it issued; each key is created when it is first used."""

    @cached_property
    def authority(self):
        """Return the CA that clients should trust."""
        return trustme.CA()

    @cached_property
    def good(self):
        """Return a valid certificate for the names and addresses of the loopback interface."""
        return self.authority.issue_cert(*HOSTS)

    @cached_property
    def wrong_host(self):
        """Return a certificate for another host."""
        return self.authority.issue_cert("elsewhere.example")

    @cached_property
    def expired(self):
        """Return an expired certificate for the right host."""
        over = LONG_AGO + dt.timedelta(days=90)
        return self.authority.issue_cert(*HOSTS, not_before=LONG_AGO, not_after=over)

    @cached_property
    def unknown(self):
        """Return a certificate for the right host from a CA that is not trusted."""
        return trustme.CA().issue_cert(*HOSTS)

    @cached_property
    def client(self):
        """Return a client certificate."""
        return self.authority.issue_cert("client@example.com")

    def server_context(self, name="good", *, client_required=False, maximum=None):
        """Return a new server context with certificate `name`; `maximum` is the newest TLS version."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        getattr(self, name).configure_cert(context)
        if client_required:
            context.verify_mode = ssl.CERT_REQUIRED
            self.authority.configure_trust(context)
        if maximum is not None:
            context.maximum_version = maximum
        return context

    def client_context(self):
        """Return a new client context that trusts the CA and checks host names."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context

    def write_authority(self, directory):
        """Write the CA's certificate into `directory`; return the path of the PEM file."""
        path = Path(directory) / "authority.pem"
        self.authority.cert_pem.write_to_path(path)
        return path

    def write_client(self, directory):
        """Write the client's certificate and key into `directory`; return the two paths of PEM files."""
        certificate, key = Path(directory) / "client.pem", Path(directory) / "client.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in self.client.cert_chain_pems))
        self.client.private_key_pem.write_to_path(key)
        return certificate, key


@lru_cache(maxsize=1)
def certificates():
    """Return the Certificates of the process; they are shared because creating keys takes time."""
    return Certificates()
