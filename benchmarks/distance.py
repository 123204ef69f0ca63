"""A proxy that simulates the distance between a client and a server; it runs in a separate process.

It passes on each piece half a round trip after it arrived. A new connection also takes as long as over that distance:
the greeting arrives two round trips after the client began to connect. The port is printed to standard output.
"""

import argparse
import asyncio
import selectors
import socket


class End(asyncio.Protocol):
    """One end of a connection: what it receives is sent at the other end, later."""

    def __init__(self, one_way):
        self._one_way = one_way
        self.transport = self.other = None

    def connection_made(self, transport):
        """Set TCP_NODELAY, so that the distance is the only delay."""
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data):
        """Pass on, later."""
        self.later(self.other.transport.write, data)

    def connection_lost(self, _):
        """Close the other end, later, after the data that is on its way."""
        if self.other is not None and self.other.transport is not None:
            self.later(self.other.transport.close)

    def later(self, action, *arguments):
        """Call a function half a round trip from now."""
        asyncio.get_running_loop().call_later(self._one_way, action, *arguments)


class ClientEnd(End):
    """The end of the client; it connects to the server when the TCP handshake would be complete there."""

    def __init__(self, one_way, port):
        super().__init__(one_way)
        self._port = port
        self._early = []

    def connection_made(self, transport):
        """Simulate the TCP handshake, which takes three times half a round trip."""
        super().connection_made(transport)
        asyncio.get_running_loop().call_later(3 * self._one_way, self._begin)

    def _begin(self):
        self._task = asyncio.ensure_future(self._connect())

    async def _connect(self):
        other = End(self._one_way)
        other.other = self
        await asyncio.get_running_loop().create_connection(lambda: other, "127.0.0.1", self._port)
        self.other = other
        for data in self._early:
            super().data_received(data)

    def data_received(self, data):
        """Pass on; keep data that arrives before the connection to the server."""
        if self.other is None:
            self._early.append(data)
        else:
            super().data_received(data)


async def serve(one_way, port):
    """Serve forever."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: ClientEnd(one_way, port), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rtt", type=float, required=True, help="seconds for a round trip")
    parser.add_argument("--port", type=int, required=True, help="of the server on this machine")
    given = parser.parse_args()
    # Timers of `select` are exact to the microsecond; epoll waits for whole milliseconds.
    asyncio.SelectorEventLoop(selectors.SelectSelector()).run_until_complete(serve(given.rtt / 2, given.port))
