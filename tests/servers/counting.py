"""A proxy that counts round trips: how often the client speaks after it has heard."""

import selectors
import socket
import threading


class CountingProxy:
    """Pass octets between clients and a server while the `with` block lasts, and count the turns of each connection.

    A turn is one flight of the client: everything that it says before it hears something again. With TCP's own
    and the wait for the banner, they are the round trips that a user waits for.
    """

    host = "127.0.0.1"

    def __init__(self, server):
        self._server = server
        self._lock = threading.Lock()
        self._turns = []  # guarded by: _lock; one number a connection
        self._stop, self._stopped = socket.socketpair()

    def __enter__(self):
        self._listener = socket.create_server((self.host, 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="counting-proxy", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.send(b"!")
        self._thread.join(10)
        for each in (self._listener, self._stop, self._stopped):
            each.close()

    @property
    def turns(self):
        """Return the turns of each connection so far."""
        with self._lock:
            return list(self._turns)

    def _run(self):
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ, self._accept)
            selector.register(self._stopped, selectors.EVENT_READ, None)
            while True:
                for key, _ in selector.select():
                    if key.data is None:
                        for other in [each.fileobj for each in selector.get_map().values()]:
                            if other not in (self._listener, self._stopped):
                                other.close()
                        return
                    key.data(selector, key.fileobj)

    def _accept(self, selector, listener):
        client, _ = listener.accept()
        server = socket.create_connection((self._server.host, self._server.port))
        with self._lock:
            number = len(self._turns)
            self._turns.append(0)
        state = {"listening": True}
        for source, target, is_client in ((client, server, True), (server, client, False)):
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(source, selectors.EVENT_READ, self._passing(target, is_client, number, state))

    def _passing(self, target, is_client, number, state):
        def pass_on(selector, source):
            if source.fileno() < 0:  # closed a moment ago, by what the other end had to say
                return
            try:
                data = source.recv(1 << 16)
                if data:
                    self._count(is_client, number, state)
                    target.sendall(data)
                    return
            except OSError:
                pass  # one of them is gone: so is the connection
            for end in (source, target):
                selector.unregister(end)
                end.close()

        return pass_on

    def _count(self, is_client, number, state):
        if is_client and state["listening"]:
            with self._lock:
                self._turns[number] += 1
        state["listening"] = not is_client
