"""Run the sink and the distance to it, each in a separate process, and ask the sink for its counts."""

import contextlib
import smtplib
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent


@contextlib.contextmanager
def _running(script, *arguments):
    """Run one of the scripts in this directory, and yield the port that it prints."""
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


@contextlib.contextmanager
def sink(*, delay=0.0, chunking=True, certificate=None):
    """Run a sink, and yield its port."""
    options = [*(["--chunking"] if chunking else []), *(["--certificate", certificate] if certificate else [])]
    with _running("sink.py", "--delay", delay, *options) as port:
        yield port


@contextlib.contextmanager
def distance(port, rtt):
    """Simulate a round trip of `rtt` seconds to a port, and yield the port to use; if it is 0, the same port."""
    if not rtt:
        yield port
        return
    with _running("distance.py", "--rtt", rtt, "--port", port) as nearer:
        yield nearer


def certificates(directory):
    """Write a certificate for this machine; return the paths of its authority and of the server's part."""
    import trustme  # not for those that only count

    issuer, authority, certificate = trustme.CA(), Path(directory, "authority.pem"), Path(directory, "server.pem")
    issuer.cert_pem.write_to_path(authority)
    issuer.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(certificate)
    return authority, certificate


class Counted(NamedTuple):
    """The counts of a sink so far; in seconds, how long messages waited for their replies, and its CPU time."""

    messages: int
    connections: int
    waited: float
    cpu: float


def counted(port):
    """Ask a sink for its counts, including this connection."""
    with smtplib.SMTP("127.0.0.1", port) as client:
        messages, connections, waited, cpu = client.docmd("XCNT")[1].split()
    return Counted(int(messages), int(connections), float(waited), float(cpu))


if __name__ == "__main__":
    print(counted(int(sys.argv[1])).cpu)
