"""An HTTP proxy that does to a server what networks and busy machines do, for a share of the requests."""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAULTS = ("error", "slow", "hang", "reset", "lost")


@dataclass
class Faults:
    """What is done, each to its share (0..1) of the requests; the shares together are at most 1.

    It may be changed while the proxy runs.
    """

    error: float = 0
    """The server is not asked; the answer is `status`."""
    slow: float = 0
    """The request waits for `delay` seconds."""
    hang: float = 0
    """Nobody answers, and the connection stays open, until `hang` is 0 again."""
    reset: float = 0
    """The connection is reset, and the server is not asked."""
    lost: float = 0
    """The server does what was asked, and its answer is lost: the connection is reset."""
    status: int = 500
    delay: float = 2.0


class FaultyProxy:
    """Stands on 127.0.0.1 before a server on another of its ports.

    Args:
        target: the server's port.
        seed: of the dice.

    Attributes:
        faults: what is done from now on.
        done: how often each fault was, and requests that went through as "ok".
    """

    def __init__(self, target: int, seed: int = 0) -> None:
        self.target, self.faults, self.done = target, Faults(), Counter[str]()
        self._dice, self._lock = random.Random(seed), threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        """What clients are told."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def draw(self) -> str:
        """The fault of the next request, or "ok"."""
        with self._lock:
            thrown, faults = self._dice.random(), self.faults
            for name in FAULTS:
                thrown -= getattr(faults, name)
                if thrown < 0:
                    self.done[name] += 1
                    return name
            self.done["ok"] += 1
            return "ok"

    def start(self) -> None:
        """Serve, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Close the port; requests that hang are let go."""
        self.faults = Faults()
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def faulty_proxy(target: int, seed: int = 0) -> Iterator[FaultyProxy]:
    """A proxy for as long as the block lasts."""
    proxy = FaultyProxy(target, seed)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is not worth a trace."""


def _handler(proxy: FaultyProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = proxy.draw()
            if fault == "error":
                self._answer(proxy.faults.status, [], b"this is the proxy's own")
                return
            if fault == "slow":
                time.sleep(proxy.faults.delay)
            while fault == "hang" and proxy.faults.hang:
                time.sleep(0.05)
            if fault == "reset":
                self._reset()
                return
            try:
                status, headers, answer = self._asked(body)
            except (OSError, http.client.HTTPException):
                self._reset()  # as a server that is not there
                return
            if fault == "lost":
                self._reset()
            else:
                self._answer(status, headers, answer)

        def _asked(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", proxy.target, timeout=120)
            try:
                headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
                headers["Host"] = f"127.0.0.1:{proxy.target}"
                connection.request(self.command, self.path, body, headers)
                found = connection.getresponse()
                return found.status, found.getheaders(), found.read()
            finally:
                connection.close()

        def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _reset(self) -> None:
            # With no time to linger, closing sends a reset and not an end.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"):
        setattr(Handler, f"do_{method}", Handler.forward)
    return Handler
