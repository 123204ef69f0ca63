"""Certificates of a throw-away authority, made anew for each test session."""

from dataclasses import dataclass
from pathlib import Path

import trustme

HOSTNAME = "mail.example.com"


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """Files in PEM: the authority, the servers' chain with its key, and a client's."""

    ca_file: Path
    server_chain: Path
    client_chain: Path


def issue(directory: Path) -> Certificates:
    """Write an authority, one server certificate for loopback, and one client certificate."""
    directory.mkdir()
    authority = trustme.CA()
    made = Certificates(
        ca_file=directory / "ca.pem",
        server_chain=directory / "server.pem",
        client_chain=directory / "client.pem",
    )
    authority.cert_pem.write_to_path(made.ca_file)
    server = authority.issue_cert("127.0.0.1", "localhost", HOSTNAME)
    server.private_key_and_cert_chain_pem.write_to_path(made.server_chain)
    client = authority.issue_cert("django@example.com", common_name="django@example.com")
    client.private_key_and_cert_chain_pem.write_to_path(made.client_chain)
    # Servers read these after they have become users of their own; the keys guard nothing.
    for path in (made.ca_file, made.server_chain, made.client_chain):
        path.chmod(0o644)
    return made
