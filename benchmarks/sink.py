"""A mail server that counts messages and discards them; it runs in a separate process.

With one thread, one selector and no object per message, it can accept several times as much as any of the clients can
send. It prints its port to standard output and serves until it is killed. The command XCNT returns its counts.
"""

import argparse
import collections
import selectors
import socket
import ssl
import time

REPLIES = {
    b"HELO": b"250 sink\r\n",
    b"DATA": b"354 go ahead\r\n",
    b"QUIT": b"221 bye\r\n",
    b"STAR": b"220 go ahead\r\n",
}
OK = b"250 ok\r\n"
END = b"\r\n.\r\n"
BLOCK = 1 << 18


class Sink:
    """The listener, its counts, and the replies that wait for the delay.

    Arguments:
        delay: seconds between the end of a message and the reply to it.
        chunking: offer CHUNKING (RFC 3030).
        context: an SSLContext; if it is set, offer STARTTLS and AUTH.
    """

    def __init__(self, *, delay, chunking, context):
        self.delay, self.context = delay, context
        self.extensions = [b"PIPELINING", b"8BITMIME", *([b"CHUNKING"] if chunking else []), b"SIZE 104857600"]
        self.messages = self.connections = 0
        self.seconds = 0.0  # the sum of the times from the end of the data to the reply, since timers are late
        self.due = collections.deque()  # (instant, session), the earliest first, since the delay is the same for all
        # Timers of `select` are exact to the microsecond; epoll waits for whole milliseconds.
        self.selector = selectors.SelectSelector() if delay else selectors.DefaultSelector()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.listener.setblocking(False)
        self.selector.register(self.listener, selectors.EVENT_READ, self.accept)

    def serve(self):
        """Serve forever."""
        while True:
            timeout = max(0.0, self.due[0][0] - time.monotonic()) if self.due else None
            for key, _ in self.selector.select(timeout):
                key.data()
            while self.due and self.due[0][0] <= time.monotonic():
                self.due.popleft()[1].accept_message()

    def accept(self):
        """Accept a connection."""
        sock, _ = self.listener.accept()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections += 1
        session = Session(self, sock)
        self.selector.register(sock, selectors.EVENT_READ, session.readable)
        sock.send(b"220 sink ESMTP\r\n")

    def greeting(self, *, is_secure):
        """Return the reply to EHLO."""
        words = [b"sink", *self.extensions]
        if self.context is not None:
            words.append(b"AUTH PLAIN" if is_secure else b"STARTTLS")
        return b"".join(b"250-%b\r\n" % word for word in words[:-1]) + b"250 %b\r\n" % words[-1]


class Session:
    """One connection."""

    __slots__ = ("buffer", "busy_since", "in_data", "in_login", "is_last", "is_secure", "left", "sink", "sock")

    def __init__(self, sink, sock):
        self.sink, self.sock = sink, sock
        self.buffer = b""
        self.busy_since = None  # the instant since which a message waits for its reply
        self.in_data = self.in_login = self.is_last = self.is_secure = False
        self.left = 0  # octets of a chunk that are still to come

    def readable(self):
        """Read what has arrived, and answer."""
        try:
            while data := self.sock.recv(BLOCK):
                self.buffer = self.buffer + data if self.buffer else data
                if self.busy_since is None:
                    self.go_on()
                if not self.is_secure or self.sock.fileno() < 0:  # TLS may have more data than the kernel shows
                    return
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError:
            pass
        self.close()

    def close(self):
        """Hang up."""
        if self.sock.fileno() >= 0:
            self.sink.selector.unregister(self.sock)
            self.sock.close()

    def go_on(self):
        """Process commands and content until nothing is left, or a message has to wait for its reply."""
        replies = []
        while self.buffer and self.busy_since is None:
            step = self.chunk if self.left else self.data if self.in_data else self.command
            if not step(replies):
                break
        if replies and self.sock.fileno() >= 0:
            self.sock.send(b"".join(replies))

    def command(self, replies):
        """Process one command; return False if its end has not arrived."""
        end = self.buffer.find(b"\r\n")
        if end < 0:
            return False
        line, self.buffer = self.buffer[:end], self.buffer[end + 2 :]
        verb = line[:4].upper()
        if self.in_login:
            self.in_login = False
            replies.append(b"235 welcome\r\n")
        elif verb == b"BDAT":
            words = line.upper().split()
            self.left, self.is_last = int(words[1]), words[-1] == b"LAST"
            if not self.left:
                self.end_of_chunk(replies)
        elif verb == b"DATA":
            self.in_data = True
            self.buffer = b"\r\n" + self.buffer
            replies.append(REPLIES[verb])
        elif verb in {b"EHLO", b"AUTH", b"XCNT"}:
            replies.append(self.rare(verb, line))
        else:
            replies.append(REPLIES.get(verb, OK))
            if verb in {b"QUIT", b"STAR"}:
                self.sock.send(b"".join(replies))
                replies.clear()
                self.secure() if verb == b"STAR" else self.close()
        return True

    def rare(self, verb, line):
        """Return the reply to a command that is sent once per connection."""
        if verb == b"EHLO":
            return self.sink.greeting(is_secure=self.is_secure)
        if verb == b"XCNT":
            counts = (self.sink.messages, self.sink.connections, self.sink.seconds, time.process_time())
            return b"250 %d %d %.6f %.6f\r\n" % counts
        self.in_login = len(line.split()) < 3
        return b"334 \r\n" if self.in_login else b"235 welcome\r\n"

    def secure(self):
        """Continue with TLS; reading does the handshake."""
        self.sink.selector.unregister(self.sock)
        self.sock = self.sink.context.wrap_socket(self.sock, server_side=True, do_handshake_on_connect=False)
        self.sink.selector.register(self.sock, selectors.EVENT_READ, self.readable)
        self.buffer, self.is_secure = b"", True

    def chunk(self, replies):
        """Discard the part of a chunk that has arrived."""
        taken = min(self.left, len(self.buffer))
        self.buffer = self.buffer[taken:]
        self.left -= taken
        if not self.left:
            self.end_of_chunk(replies)
        return True

    def end_of_chunk(self, replies):
        """Answer a chunk; the last chunk ends the message."""
        if self.is_last:
            self.end_of_message(replies)
        else:
            replies.append(OK)

    def data(self, replies):
        """Discard the content that has arrived, except what may be the beginning of its end."""
        end = self.buffer.find(END)
        if end < 0:
            self.buffer = self.buffer[-4:]
            return False
        self.buffer = self.buffer[end + 5 :]
        self.in_data = False
        self.end_of_message(replies)
        return True

    def end_of_message(self, replies):
        """Count a message, and answer at once or after the delay."""
        if not self.sink.delay:
            self.sink.messages += 1
            replies.append(OK)
            return
        self.busy_since = time.monotonic()
        self.sink.due.append((self.busy_since + self.sink.delay, self))

    def accept_message(self):
        """Count and answer a message whose delay is over."""
        self.sink.messages += 1
        self.sink.seconds += time.monotonic() - self.busy_since
        self.busy_since = None
        if self.sock.fileno() >= 0:
            self.sock.send(OK)
            self.go_on()


def context_of(path):
    """Return a server's context for a file with a key and its certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--delay", type=float, default=0.0, help="seconds for each message")
    parser.add_argument("--chunking", action="store_true", help="offer CHUNKING (RFC 3030)")
    parser.add_argument("--certificate", type=context_of, help="a PEM file: offer STARTTLS, and logins under it")
    given = parser.parse_args()
    sink = Sink(delay=given.delay, chunking=given.chunking, context=given.certificate)
    print(sink.listener.getsockname()[1], flush=True)
    sink.serve()
