"""A raw client: it says what it is told to, whether or not that is wise, and hears octets."""

import select
import socket

from tests.servers.certificates import certificates

OK = b"250 2.0.0 Ok\r\n"  # the proper answer to NOOP
ENVELOPE = ("MAIL FROM:<a@example.com>", "RCPT TO:<b@example.com>", "DATA")


class Client:
    """A client that says what it is told to and hears octets."""

    def __init__(self, server):
        self.sock = socket.create_connection((server.host, server.port), timeout=10)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def say(self, *lines):
        """Send lines, all in one write."""
        self.sock.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def hear(self):
        """Return one reply, octet by octet, so that nothing behind it is swallowed."""
        lines = [b""]
        while not (lines[-1].endswith(b"\r\n") and lines[-1][3:4] != b"-"):
            if lines[-1].endswith(b"\r\n"):
                lines.append(b"")
            octet = self.sock.recv(1)
            assert octet, lines
            lines[-1] += octet
        return b"".join(lines).decode()

    def ask(self, *lines):
        """Say the lines one by one; return the last reply."""
        replies = []
        for line in lines:
            self.say(line)
            replies.append(self.hear())
        return replies[-1]

    def rest(self):
        """Return all that comes until the end, and whether that is a "fin" or a "rst"."""
        heard = b""
        try:
            while octets := self.sock.recv(65536):
                heard += octets
        except ConnectionError:
            return heard, "rst"
        return heard, "fin"

    def there(self):
        """Return what has arrived already."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return self.sock.recv(65536) if poll.poll(0) else b""

    def secure(self):
        """Do STARTTLS."""
        assert self.ask("STARTTLS").startswith("220")
        self.sock = certificates().client_context().wrap_socket(self.sock, server_hostname="localhost")


def greeted(server):
    """Return a client that has said EHLO."""
    client = Client(server)
    client.hear()
    assert client.ask("EHLO client.test").startswith("250-fault.test\r\n")
    return client


def sent(client, content="Subject: x\r\n\r\nhello\r\n"):
    """Return the reply to the end of data of one message."""
    client.ask(*ENVELOPE)
    client.say(content + ".")
    return client.hear()
