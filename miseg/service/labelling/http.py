"""The labelling page over HTTP: an ASGI application around a session. It knows no Ray."""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from miseg.data.labels.files import MOST_BYTES
from miseg.data.labels.store import StaleError
from miseg.file_names import shown
from miseg.json_values import parse
from miseg.service.labelling.entrance import BodyLimit
from miseg.service.labelling.maps import SupersededError
from miseg.service.labelling.session import Session

PAGE = Path(__file__).with_name("page")
"""The page's own folder: index.html, scripts, styles, OpenLayers."""

OWN_HEADER = "x-miseg"
"""Sent by the page with every request: a page of another site cannot, unless this server allowed it to."""

MOST_CHANGE_BYTES = 2**20

_POLICY = "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

Answer = Callable[[Request], Awaitable[Response]]


class TooLargeError(ValueError):
    """A body that is longer than it may be."""


def application(session: Session, page: Path, hosts: list[str], token: str = "") -> Starlette:
    """The page and its data.

    Args:
        session: what is labelled.
        page: the folder of index.html and what belongs to it.
        hosts: names that requests may address, without port; "*" for any.
        token: what every request for data must bear; empty, as in tests: none is wanted.
    """

    async def view(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(session.view))

    async def state(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(session.state))

    async def image(request: Request) -> Response:
        png = await run_in_threadpool(session.image, _text(request, "scene"))
        return Response(png, media_type="image/png")

    async def progress(request: Request) -> Response:
        return JSONResponse(session.progress(_text(request, "compare")))

    async def change(request: Request) -> Response:
        body = await _json(request)
        await run_in_threadpool(session.store.apply, _number(body, "revision"), _object(body, "change"))
        return await state(request)

    async def undo(request: Request) -> Response:
        await run_in_threadpool(session.store.undo, _number(await _json(request), "revision"))
        return await state(request)

    async def redo(request: Request) -> Response:
        await run_in_threadpool(session.store.redo, _number(await _json(request), "revision"))
        return await state(request)

    async def load(request: Request) -> Response:
        content = await _body(request, MOST_BYTES)
        report = await run_in_threadpool(session.load, _text(request, "name"), content, _text(request, "scene"))
        return JSONResponse(report | {"state": await run_in_threadpool(session.state)})

    async def export(request: Request) -> Response:
        arguments = [_text(request, name) for name in ("kind", "scene", "compare")]
        name, content = await run_in_threadpool(session.export, *arguments)
        kind = "application/zip" if name.endswith(".zip") else "application/geo+json"
        return Response(content, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})

    async def class_map(request: Request) -> Response:
        labels = await run_in_threadpool(session.current_labels)
        if len(labels.class_ids) < 2:
            return JSONResponse({"empty": True})
        label_map = await run_in_threadpool(
            session.map,
            _text(request, "scene"),
            _text(request, "compare"),
            labels,
            client=_text(request, "client"),
            ticket=_ticket(request),
            whole=_text(request, "whole") == "true",
        )
        details = {
            "classes": labels.class_ids,
            "pixels": sum(len(labelled.rows) for labelled in labels.labelled),
            "whole": label_map.whole,
            "seconds": round(label_map.seconds, 4),
        }
        confidence = (np.clip(label_map.confidence, 0, 1) * 255).round().astype(np.uint8)
        headers = {"X-Miseg-Map": json.dumps(details)}
        return Response(label_map.classes.tobytes() + confidence.tobytes(), headers=headers)

    async def index(request: Request) -> Response:
        return FileResponse(page / "index.html")

    # As a header has it: an address of IPv6 stands in brackets.
    hosts = [f"[{host}]" if ":" in host else host for host in hosts]
    routes = [
        Route("/api/view", _guarded(view, token)),
        Route("/api/state", _guarded(state, token)),
        Route("/api/image", _guarded(image, token)),
        Route("/api/progress", _guarded(progress, token)),
        Route("/api/map", _guarded(class_map, token)),
        # What writes, be it to the session's folder alone, is no GET: a link or a picture of another page makes those.
        *(
            Route(f"/api/{answer.__name__}", _guarded(answer, token), methods=["POST"])
            for answer in (change, undo, redo, load, export)
        ),
        Route("/", index),
        Mount("/", StaticFiles(directory=page)),
    ]
    middleware = [
        Middleware(_Policy),
        Middleware(BodyLimit),
        Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False),
        Middleware(GZipMiddleware, minimum_size=1000, compresslevel=1),
    ]
    return Starlette(routes=routes, middleware=middleware)


def _guarded(answer: Answer, token: str) -> Answer:
    """`answer` for those who may ask, with errors that the page can show.

    A question computes maps, so another site may not even have this one ask.
    """

    async def guarded(request: Request) -> Response:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token and not hmac.compare_digest(given.encode(), token.encode()):
            return JSONResponse({"error": "give the token that was printed with the address"}, 401)
        if OWN_HEADER not in request.headers:
            return JSONResponse({"error": "this answers the labelling page alone"}, 403)
        try:
            response = await answer(request)
        except SupersededError:
            return JSONResponse({"superseded": True}, 409)
        except StaleError as error:
            return JSONResponse({"error": str(error), "stale": True}, 409)
        except TooLargeError as error:
            return JSONResponse({"error": str(error)}, 413)
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 422)
        except ClientDisconnect:
            return Response(status_code=400)
        except OSError as error:
            return JSONResponse({"error": f"it could not be saved ({error.strerror or error})"}, 507)
        response.headers["Cache-Control"] = "no-store"
        return response

    return guarded


class _Policy:
    """Has pages load nothing from elsewhere."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(b"content-security-policy", _POLICY.encode()), (b"x-content-type-options", b"nosniff")]
                message = {**message, "headers": [*message.get("headers", ()), *own]}
            await send(message)

        await self.app(scope, receive, sent)


async def _body(request: Request, most: int) -> bytes:
    """The body.

    Raises:
        TooLargeError: it is longer than `most` bytes; no more than that was read.
    """
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > most:
            raise TooLargeError(f"more than {most >> 20} MiB: give a smaller file")
    return bytes(content)


async def _json(request: Request) -> dict[str, Any]:
    content = await _body(request, MOST_CHANGE_BYTES)
    try:
        body = parse(content)
    except ValueError as error:
        raise ValueError(f"no JSON ({error}): reload the page") from None
    if not isinstance(body, dict):
        raise ValueError("no JSON object: reload the page")
    return body


def _text(request: Request, name: str) -> str:
    return request.query_params.get(name, "")


def _ticket(request: Request) -> int:
    """The number of a client's request for a map, by which a later one supersedes it."""
    text = _text(request, "ticket")
    if not re.fullmatch("[0-9]{1,15}", text):
        raise ValueError(f"ticket = {shown(text)}: a number is expected; reload the page")
    return int(text)


def _number(body: dict[str, Any], name: str) -> int:
    if type(body.get(name)) is not int:
        raise ValueError(f"{name} = {shown(body.get(name))}: a number is expected; reload the page")
    return body[name]


def _object(body: dict[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(body.get(name), dict):
        raise ValueError(f"{name} is no object: reload the page")
    return body[name]
