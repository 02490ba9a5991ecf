"""Entrance of the labelling page: bodies have a length, and only so many bytes of them are on their way at a time."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from miseg.data.labels.files import MOST_BYTES

IN_FLIGHT = 2 * MOST_BYTES
"""Bytes of bodies that are read at the same time, in all; the page asks again where there are more."""


class BodyLimit:
    """Refuses bodies of unknown length, of more than `most` bytes, and those that are more than `in_flight` together.

    Ray Serve's proxy reads a whole body before it is asked for, so this stands before the proxy, too.

    Args:
        app: what follows.
        most: bytes of one body.
        in_flight: bytes of all bodies whose requests are not answered yet.
    """

    def __init__(self, app: ASGIApp, most: int = MOST_BYTES, in_flight: int = IN_FLIGHT) -> None:
        self.app, self.most, self.in_flight = app, most, in_flight
        self.reserved = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        length = headers.get("content-length", "0")
        size = int(length) if length.isascii() and length.isdigit() and len(length) < 20 else -1
        if "transfer-encoding" in headers or size < 0:
            refusal = 411, "say how long the body is (Content-Length)"
        elif size > self.most:
            refusal = 413, f"more than {self.most >> 20} MiB: give a smaller file"
        elif self.reserved + size > self.in_flight:
            refusal = 503, "too much is being sent at the same time: try again"
        else:
            self.reserved += size
            try:
                await self.app(scope, receive, send)
            finally:
                self.reserved -= size
            return
        status, error = refusal
        # What is on its way is not waited for.
        await JSONResponse({"error": error}, status, {"Connection": "close"})(scope, receive, send)


def middlewares() -> list[Middleware]:
    """For Ray Serve's proxy; see `serve.start`."""
    return [Middleware(BodyLimit)]
