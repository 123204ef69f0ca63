"""A mail server that counts messages and throws them away, with a delay for each: run in a process of its own."""

import argparse
import asyncio
import selectors

EHLO = b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n%b250 SIZE 104857600\r\n"
REPLIES = {b"HELO": b"250 sink\r\n", b"DATA": b"354 go ahead\r\n", b"QUIT": b"221 bye\r\n"}


class Counts:
    """What the sink took."""

    messages = connections = 0
    seconds = 0.0  # from the ends of the data to the replies, together: timers of an event loop are late


class Session(asyncio.Protocol):
    """One connection: the reply to the end of the data comes after the delay."""

    def __init__(self, counts, delay, *, chunking):
        self._counts, self._delay = counts, delay
        self._replies = {**REPLIES, b"EHLO": EHLO % (b"250-CHUNKING\r\n" if chunking else b"")}
        self._buffer = bytearray()
        self._in_content = self._is_waiting = False

    def connection_made(self, transport):
        """Greet."""
        self._transport = transport
        self._counts.connections += 1
        transport.write(b"220 sink ESMTP\r\n")

    def data_received(self, data):
        """Take what comes, command by command."""
        self._buffer += data
        self._go_on()

    def _go_on(self):
        replies = bytearray()
        while not self._is_waiting and (self._content() if self._in_content else self._command(replies)):
            pass
        if replies:
            self._transport.write(bytes(replies))

    def _command(self, replies):
        line, found, _ = self._buffer.partition(b"\r\n")
        if not found:
            return False
        del self._buffer[: len(line) + 2]
        verb = bytes(line[:4]).upper()
        if verb == b"BDAT":
            return self._chunk(line, replies)
        if verb == b"XCNT":
            counts = self._counts
            replies += b"250 %d %d %.6f\r\n" % (counts.messages, counts.connections, counts.seconds)
        else:
            replies += self._replies.get(verb, b"250 ok\r\n")
        self._in_content = verb == b"DATA"
        if verb == b"QUIT":
            self._transport.write(bytes(replies))
            replies.clear()
            self._transport.close()
        return True

    def _chunk(self, line, replies):
        size = int(line.split()[1])
        if len(self._buffer) < size:
            self._buffer[:0] = bytes(line) + b"\r\n"  # not all of it is there yet
            return False
        del self._buffer[:size]
        if replies:  # to the commands before it
            self._transport.write(bytes(replies))
            replies.clear()
        return self._decide()

    def _content(self):
        end = self._buffer.find(b"\r\n.\r\n")
        if end < 0:
            return False
        del self._buffer[: end + 5]
        self._in_content = False
        return self._decide()

    def _decide(self):
        self._is_waiting = True
        loop = asyncio.get_running_loop()
        self._since = loop.time()
        loop.call_later(self._delay, self._accept)
        return True

    def _accept(self):
        self._counts.messages += 1
        self._counts.seconds += asyncio.get_running_loop().time() - self._since
        self._is_waiting = False
        self._transport.write(b"250 taken\r\n")
        self._go_on()


async def serve(delay, *, chunking):
    """Say the port on standard output, and serve until killed."""
    counts = Counts()
    server = await asyncio.get_running_loop().create_server(
        lambda: Session(counts, delay, chunking=chunking), "127.0.0.1", 0
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--delay", type=float, default=0.0, help="seconds for each message")
    parser.add_argument("--chunking", action="store_true", help="offer CHUNKING (RFC 3030)")
    given = parser.parse_args()
    # Its timers are right to the microsecond; epoll waits for whole milliseconds, half a one too long on average.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    loop.run_until_complete(serve(given.delay, chunking=given.chunking))
