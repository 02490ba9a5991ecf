"""A server that takes connections and never says a word, as an object store behind a network that lost its way."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


class Silent:
    """Its address, and how many connections it took."""

    def __init__(self, listener: socket.socket) -> None:
        self.address = f"127.0.0.1:{listener.getsockname()[1]}"
        self.connections: list[socket.socket] = []
        self._listener = listener

    def take(self) -> None:
        """Take connections until the listener is closed."""
        with contextlib.suppress(OSError):
            while True:
                self.connections.append(self._listener.accept()[0])


@contextlib.contextmanager
def silent() -> Iterator[Silent]:
    """The server, for as long as the context lasts."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        server = Silent(listener)
        thread = threading.Thread(target=server.take, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            for connection in server.connections:
                connection.close()
