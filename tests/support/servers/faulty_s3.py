"""An S3 endpoint that fails now and then: moto's, behind a proxy that refuses, hangs up, cuts short and stalls."""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BUCKET = "bucket"
STALL = 5.0
"""Seconds without a byte: the AWS client hangs up after 3."""

SLOW = 1.5
"""Seconds before each answer of a store that is slow throughout."""

KINDS = ("slow down", "reset", "cut short", "stall")
_WEIGHTS = (6, 3, 3, 1)
_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class FaultyS3:
    """The endpoint; `share` of the requests fail, the kinds drawn by a seed and counted in `faults`.

    While `outage` is "slow down", "slow" or "never", each request does, and "never" is answered by nobody.
    """

    def __init__(self, share: float, seed: int = 0) -> None:
        from moto.server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.share, self.faults, self.requests, self.outage = share, Counter[str](), 0, ""
        self._random, self._lock = random.Random(seed), threading.Lock()
        self._moto = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
        self._moto.start()
        self.behind = self._moto.get_host_and_port()
        self._proxy = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._proxy.daemon_threads = True
        threading.Thread(target=self._proxy.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._proxy.server_address[1]}"

    def fault(self) -> str:
        """What becomes of the next request; empty: nothing."""
        with self._lock:
            self.requests += 1
            if self.outage:
                self.faults[self.outage] += 1
                return self.outage
            if self._random.random() >= self.share:
                return ""
            kind = self._random.choices(KINDS, _WEIGHTS)[0]
            self.faults[kind] += 1
            return kind

    def stop(self) -> None:
        """End both servers."""
        self._proxy.shutdown()
        self._proxy.server_close()
        self._moto.stop()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                body = self._body()
                kind = server.fault()
                if kind == "stall":
                    time.sleep(STALL)
                while kind == "never" and server.outage == kind:
                    time.sleep(0.05)
                if kind == "slow":
                    time.sleep(SLOW)
                if kind in ("reset", "stall", "never"):
                    # Without waiting for what is still to be sent: the other side sees a reset.
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.close_connection = True
                    self.connection.close()
                    return
                if kind == "slow down":
                    self._answer(503, {"Content-Type": "application/xml"}, _SLOW_DOWN)
                    return
                behind = http.client.HTTPConnection(*server.behind, timeout=60)
                try:
                    headers = {k: v for k, v in self.headers.items() if k.lower() != "transfer-encoding"}
                    behind.request(self.command, self.path, body, headers)
                    answer = behind.getresponse()
                    content = answer.read()
                finally:
                    behind.close()
                kept = {k: v for k, v in answer.getheaders() if k.lower() not in ("transfer-encoding", "connection")}
                self._answer(answer.status, kept, content, cut=kind == "cut short")

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _any

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                    parts = []
                    while length := int(self.rfile.readline().split(b";")[0], 16):
                        parts.append(self.rfile.read(length))
                        self.rfile.readline()
                    self.rfile.readline()
                    return b"".join(parts)
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))

            def _answer(self, status: int, headers: dict[str, str], content: bytes, cut: bool = False) -> None:
                self.send_response_only(status)
                if self.command != "HEAD":
                    headers = {k: v for k, v in headers.items() if k.lower() != "content-length"}
                    headers["Content-Length"] = str(len(content))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content[: len(content) // 2] if cut else content)
                if cut:
                    self.close_connection = True

            def log_message(self, *arguments: object) -> None:
                pass

        return Handler


@contextlib.contextmanager
def faulty_s3(share: float, seed: int = 0) -> Iterator[FaultyS3]:
    """An endpoint with an empty bucket, and the environment in which this process and those it starts use it."""
    server = FaultyS3(share=0.0, seed=seed)
    own = {
        "AWS_ENDPOINT_URL": server.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        connection = http.client.HTTPConnection(*server.behind, timeout=60)
        connection.request("PUT", f"/{BUCKET}")
        assert connection.getresponse().status == 200
        connection.close()
        server.share = share
        yield server
    finally:
        server.stop()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
