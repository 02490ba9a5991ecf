"""The part of a spot machine's metadata services that tells that it is taken back: EC2's, and Google's cloud's."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar


class Metadata(BaseHTTPRequestHandler):
    """Answers as either service; `notice` is what EC2 says, None before it does."""

    notice: ClassVar[dict[str, str] | None] = None
    asked: ClassVar[int] = 0
    """Questions so far."""
    token: ClassVar[str] = "a-token"

    def do_PUT(self) -> None:
        """EC2 hands out a token first."""
        self._say(200 if self.path == "/latest/api/token" else 404, self.token)

    def do_GET(self) -> None:
        """The question itself."""
        Metadata.asked += 1
        if self.path == "/computeMetadata/v1/instance/preempted":
            self._say(200 if self.headers["Metadata-Flavor"] == "Google" else 403, "TRUE" if self.notice else "FALSE")
        elif self.path != "/latest/meta-data/spot/instance-action" or not self.notice:
            self._say(404, "")
        else:
            known = self.headers["X-aws-ec2-metadata-token"] == self.token
            self._say(200 if known else 401, json.dumps(self.notice))

    def _say(self, status: int, text: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the output of whoever serves is read."""


@contextlib.contextmanager
def serving() -> Iterator[dict[str, str]]:
    """A service without a notice, on this machine; the variables that lead to it, gone with the block."""
    Metadata.notice, Metadata.asked = None, 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    host = f"127.0.0.1:{server.server_port}"
    try:
        yield {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://{host}", "GCE_METADATA_HOST": host}
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
