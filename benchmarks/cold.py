"""How long the first message of a process takes: over TLS with a login, 50 ms away. See README.rst in this directory.

    python -m benchmarks.cold

Each message is sent by a new process, Django's backend and ours in turn; `django.setup()` is not measured.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack

from benchmarks import project, senders, servers

RTT = 0.05  # seconds
ROUNDS = 7
BACKENDS = {"stock": project.STOCK, "pool": project.POOLED}
# TCP, greeting, EHLO, STARTTLS, TLS, EHLO, AUTH; MAIL with RCPT, content.
ROUND_TRIPS = 9


def first_message(backend, port):
    """Send the first message of this process, and return how long it took, in seconds."""
    project.configure(backend, port, username=senders.USER, password=senders.PASSWORD, use_tls=True)
    from django.core.mail import send_mail

    since = time.perf_counter()
    send_mail("Hello", project.TEXT, "from@example.com", ["to@example.com"])
    return time.perf_counter() - since


def main(rounds):
    """Print the median of all rounds for each backend."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        authority, certificate = servers.certificates(directory)
        port = stack.enter_context(servers.distance(stack.enter_context(servers.sink(certificate=certificate)), RTT))
        found = {name: [] for name in BACKENDS}
        for _ in range(rounds):
            for name, backend in BACKENDS.items():
                command = [sys.executable, "-m", "benchmarks.cold", "--send", backend, str(port)]
                environment = {**os.environ, "SSL_CERT_FILE": str(authority)}
                done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
                found[name].append(float(done.stdout) * 1000)
    for name, each in found.items():
        print(f"{name:8}{statistics.median(each):6.0f} ms   ({min(each):.0f} to {max(each):.0f})")
    print(f"{'limit':8}{ROUND_TRIPS * RTT * 1000:6.0f} ms   ({ROUND_TRIPS} round trips of {RTT * 1000:.0f} ms)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cold", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--send", nargs=2, metavar=("BACKEND", "PORT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.send:
        print(first_message(options.send[0], int(options.send[1])))
    else:
        main(options.rounds)
