"""A mail server for the example: aiosmtpd in a separate process, which keeps received mail in an mbox file.

`EmbeddedServer` starts and stops it. As a program (`python -m newsletter.embedded_server`), it serves the site's
contact form and admin until Ctrl-C.
"""

import argparse
import asyncio
import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from aiosmtpd.smtp import SMTP


class Mailbox:
    """An SMTP handler that appends to an mbox file and refuses the configured recipients."""

    def __init__(self, path, refuse=()):
        self.path = path
        self.refuse = {address.lower() for address in refuse}
        self.connections = 0
        self.messages = 0

    async def handle_RCPT(self, _server, _session, envelope, address, _options):  # noqa: N802 (aiosmtpd's name)
        """Accept a recipient, or refuse it."""
        if address.lower() in self.refuse:
            return f"550 5.1.1 <{address}>: no such mailbox here"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, _server, _session, envelope):  # noqa: N802 (aiosmtpd's name)
        """Keep a message; it is in the file before the client gets the reply."""
        with self.path.open("ab") as file:
            file.write(mbox_entry(envelope.mail_from, envelope.rcpt_tos, envelope.original_content))
        self.messages += 1
        return f"250 2.0.0 OK: queued as {self.messages:06d}"


class Session(SMTP):
    """One connection: counted, and delayed like one to a distant server."""

    def __init__(self, mailbox, delay):
        super().__init__(mailbox, hostname="mail.example.com", ident="embedded server", enable_SMTPUTF8=True)
        self.delay = delay

    def connection_made(self, transport):
        """Count the connection."""
        self.event_handler.connections += 1
        super().connection_made(transport)

    async def push(self, status):
        """Reply, after the delay."""
        if self.delay:
            await asyncio.sleep(self.delay)
        await super().push(status)


def mbox_entry(sender, recipients, content):
    """Return a message in the format of an mbox file ("mboxrd": a `From ` in the text gets a `>`)."""
    head = f"From {sender or 'MAILER-DAEMON'} {time.asctime(time.gmtime())}\n"
    head += "".join(f"Delivered-To: {recipient}\n" for recipient in recipients)
    text = content.replace(b"\r\n", b"\n")
    return head.encode() + re.sub(rb"^(>*From )", rb">\1", text, flags=re.MULTILINE).rstrip(b"\n") + b"\n\n"


async def serve(mailbox, *, port, delay, ready, ended):
    """Serve on loopback until `ended` is awaited; `ready` is called with the port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Session(mailbox, delay), "127.0.0.1", port)
    ready(server.sockets[0].getsockname()[1])
    await ended()
    server.close()


async def parent_gone():
    """Wait until the parent closes our standard input, which also happens when it dies."""
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)


async def for_ever():
    """Wait for Ctrl-C."""
    await asyncio.Event().wait()


def main():
    """Run the server as a program."""
    parser = argparse.ArgumentParser(description="A mail server on loopback that keeps all mail in an mbox file.")
    parser.add_argument("--port", type=int, default=1025, help="0 for a free one (default: %(default)s)")
    parser.add_argument(
        "--mbox", type=Path, default=Path("var/inbox.mbox"), help="file to append to (default: %(default)s)"
    )
    parser.add_argument("--refuse", action="append", default=[], metavar="ADDRESS", help="recipient to refuse")
    parser.add_argument("--delay", type=float, default=0, metavar="MS", help="milliseconds before each reply")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.mbox.parent.mkdir(parents=True, exist_ok=True)
    mailbox = Mailbox(args.mbox, args.refuse)

    def ready(port):
        line = json.dumps({"port": port}) if args.child else f"Receiving on 127.0.0.1:{port}, into {args.mbox}."
        print(line, flush=True)

    ended = parent_gone if args.child else for_ever
    try:
        asyncio.run(serve(mailbox, port=args.port, delay=args.delay / 1000, ready=ready, ended=ended))
    except KeyboardInterrupt:
        print(f"\n{mailbox.messages} messages over {mailbox.connections} connections.")
    if args.child:
        print(json.dumps({"connections": mailbox.connections, "messages": mailbox.messages}))


@dataclass(frozen=True, kw_only=True)
class Received:
    """The counts of the server."""

    connections: int
    messages: int


class EmbeddedServer:
    """The server as a child process: a context manager; `received` has its counts after the end."""

    # A process, not a thread: a thread would compete with the sender for the interpreter lock, and change the
    # figures in the table.

    def __init__(self, mbox, *, refuse=(), delay_ms=0):
        self._options = ["--child", "--port", "0", "--mbox", str(mbox), "--delay", str(delay_ms)]
        self._options += [f"--refuse={address}" for address in refuse]
        self.port = None
        self.received = None

    def __enter__(self):
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "newsletter.embedded_server", *self._options],
            cwd=Path(__file__).resolve().parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches only the sender, which then stops this process
        )
        try:
            self.port = json.loads(self._process.stdout.readline())["port"]
        except BaseException as error:  # even Ctrl-C: the child must not outlive this process
            self.__exit__()
            if isinstance(error, ValueError):  # it printed no port, and its error is on standard error
                raise RuntimeError("the embedded mail server did not start") from None
            raise
        return self

    def __exit__(self, *_):
        last, _ = self._process.communicate()  # closes its standard input, which ends it
        if last:
            self.received = Received(**json.loads(last.splitlines()[-1]))


if __name__ == "__main__":
    main()
