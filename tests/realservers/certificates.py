"""Certificates of a throw-away authority, made anew for each test session."""

from dataclasses import dataclass
from pathlib import Path

import trustme

HOSTNAME = "mail.example.com"


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """Files in PEM: the authority, and chains with their keys: the servers', and those of clients.

    Arguments:
        client_chain: of the one account.
        stranger_chain: of somebody else whom the authority knows.
        foreign_chain: of the one account, by an authority that no server knows.
    """

    ca_file: Path
    server_chain: Path
    client_chain: Path
    stranger_chain: Path
    foreign_chain: Path


def issue(directory: Path) -> Certificates:
    """Write an authority, one server certificate for loopback, and client certificates."""
    directory.mkdir()
    authority = trustme.CA()
    made = Certificates(
        ca_file=directory / "ca.pem",
        server_chain=directory / "server.pem",
        client_chain=directory / "client.pem",
        stranger_chain=directory / "stranger.pem",
        foreign_chain=directory / "foreign.pem",
    )
    authority.cert_pem.write_to_path(made.ca_file)
    for path, issued in {
        made.server_chain: authority.issue_cert("127.0.0.1", "localhost", HOSTNAME),
        made.client_chain: authority.issue_cert("django@example.com", common_name="django@example.com"),
        made.stranger_chain: authority.issue_cert("other@example.com", common_name="other@example.com"),
        made.foreign_chain: trustme.CA().issue_cert("django@example.com", common_name="django@example.com"),
    }.items():
        issued.private_key_and_cert_chain_pem.write_to_path(path)
    # Servers read these after they have become users of their own; the keys guard nothing.
    for path in directory.iterdir():
        path.chmod(0o644)
    return made
