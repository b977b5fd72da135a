"""What the page's server answers to (docs/web.md lists the addresses)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from functools import cache, partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from mdrun.errors import DataError, MdrunError, UsageError
from mdrun.web.describe import describe_shot
from mdrun.web.guard import SAFE_METHODS, Guard, check_token, error_answer
from mdrun.web.pictures import VIEWS, Style
from mdrun.web.registration import describe_registration, fit, parse_points, save
from mdrun.web.snapshot import make_snapshot
from mdrun.web.streams import BOUNDARY, event_stream, picture_stream
from mdrun.web.view import RigView

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

SCRIPT = "text/javascript; charset=utf-8"
STATIC = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "app.js": SCRIPT,
    "charts.js": SCRIPT,
    "dom.js": SCRIPT,
    "notices.js": SCRIPT,
    "panels.js": SCRIPT,
    "picker.js": SCRIPT,
    "registration.js": SCRIPT,
    "views.js": SCRIPT,
}
PROBES = ("livez", "readyz", "startupz", "healthz")
FRAME_WAIT_S = 1.0  # a viewer who asks for the next picture is answered so late at most: with it, or that there is none
MOST_BODY = 1 << 16  # bytes; the 1000 point pairs of a fit take 40 bytes each
NO_STORE = {"cache-control": "no-store", "x-accel-buffering": "no"}  # the second tells nginx to pass streams through

Handler = Callable[["Request", RigView], Awaitable["Response"]]


def make_app(rigs: dict[str, RigView]) -> ASGIApp:
    """The ASGI application for rigs that may come and go."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.routing import Route

    def of_rig(path: str, handler: Handler, methods: tuple[str, ...] = ("GET",)) -> Route:
        return Route(f"/api/{{rig}}/{path}", partial(_for_rig, rigs, handler), methods=list(methods))

    routes = [
        Route("/", partial(_static, "index.html")),
        *(Route(f"/{name}", partial(_static, name)) for name in STATIC),
        Route("/api/rigs", partial(_rigs, rigs)),
        of_rig("status", _status),
        of_rig("events", _events),
        of_rig("frame", _frame),
        of_rig("{view}.mjpeg", _mjpeg),
        of_rig("{view}.jpg", _jpeg),
        of_rig("snapshot.zip", _snapshot),
        of_rig("registration", _registration, ("GET", "POST")),
        of_rig("registration/fit", _fit),
        Route("/metrics", partial(_metrics, rigs)),
        *(Route(f"/{kind}", partial(_health, rigs, kind)) for kind in PROBES),
    ]
    guard = Middleware(Guard, addresses=lambda: [rig.address for rig in list(rigs.values())])
    middleware = [guard, Middleware(ReadOnly, rigs=rigs)]
    return Starlette(routes=routes, middleware=middleware, exception_handlers={HTTPException: _no_route})


class ReadOnly:
    """ASGI middleware: whatever changes something wants the rig's token, wherever it is sent."""

    def __init__(self, app: ASGIApp, rigs: dict[str, RigView]) -> None:
        self._app = app
        self._rigs = rigs

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer 403 without the token."""
        from starlette.datastructures import Headers

        if scope["method"] not in SAFE_METHODS:
            parts = scope["path"].split("/")
            rig = self._rigs.get(parts[2]) if len(parts) > 3 and parts[1] == "api" else None
            refusal = await check_token(Headers(scope=scope), "" if rig is None else rig.address.token)
            if refusal is not None:
                await error_answer(refusal, 403)(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _for_rig(rigs: dict[str, RigView], handler: Handler, request: Request) -> Response:
    rig = rigs.get(request.path_params["rig"])
    if rig is None:
        return error_answer(f"no rig of this name; there are: {', '.join(rigs) or 'none'}", 404)
    try:
        return await handler(request, rig)
    except (UsageError, DataError) as error:
        return error_answer(str(error), 400, error.code)
    except MdrunError as error:
        return error_answer(str(error), 500, error.code)


async def _no_route(_: Request, error: Exception) -> Response:
    status: int = getattr(error, "status_code", 404)
    return error_answer("no such address, or not by this method; docs/web.md lists them", status)


async def _static(name: str, _: Request) -> Response:
    from starlette.responses import Response

    return Response(_read_static(name), media_type=STATIC[name], headers={"cache-control": "no-cache"})


@cache
def _read_static(name: str) -> bytes:
    return (files("mdrun.web") / "static" / name).read_bytes()


async def _rigs(rigs: dict[str, RigView], _: Request) -> Response:
    return _json(
        [{"rig": rig.name, "engine": rig.context.look.engine, "state": rig.state()} for rig in list(rigs.values())]
    )


async def _status(_: Request, rig: RigView) -> Response:
    return _json(await asyncio.to_thread(rig.status))


async def _events(_: Request, rig: RigView) -> Response:
    from starlette.responses import StreamingResponse

    return StreamingResponse(event_stream(rig), media_type="text/event-stream", headers=NO_STORE)


async def _frame(request: Request, rig: RigView) -> Response:
    """The first picture after the one that the viewer has, its views and its data in one answer.

    multipart/form-data, which browsers take apart by themselves (`Response.formData`); 204 where nothing new came.
    """
    from starlette.responses import Response

    started = time.monotonic()
    after = request.query_params.get("after", "")
    shot = await rig.following(int(after) if after.isdecimal() else None, FRAME_WAIT_S)
    if shot is None:
        age_s = rig.age_s()
        return Response(status_code=204, headers=NO_STORE | ({} if age_s is None else {"x-age": f"{age_s:.3f}"}))
    views = [view for view in request.query_params.get("views", "visible,thermal").split(",") if view in VIEWS]
    jpegs = [await shot.jpeg(Style(view, marked=False), rig.context.look, rig.address) for view in views]
    data = describe_shot(shot, rig) | {"waited_s": round(time.monotonic() - started, 3)}
    parts = [_part("shot", "application/json", json.dumps(data).encode())]
    parts += [_part(view, "image/jpeg", jpeg) for view, jpeg in zip(views, jpegs, strict=True)]
    body = b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
    return Response(body, media_type=f"multipart/form-data; boundary={BOUNDARY}", headers=NO_STORE)


async def _mjpeg(request: Request, rig: RigView) -> Response:
    from starlette.responses import StreamingResponse

    kind = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
    return StreamingResponse(picture_stream(rig, _style(request)), media_type=kind, headers=NO_STORE)


async def _jpeg(request: Request, rig: RigView) -> Response:
    from starlette.responses import Response

    style, age_s = _style(request), rig.age_s()
    jpeg = await rig.picture(style, rig.current())
    headers = NO_STORE | ({} if age_s is None else {"x-age": f"{age_s:.3f}"})
    return Response(jpeg, media_type="image/jpeg", headers=headers)


async def _snapshot(_: Request, rig: RigView) -> Response:
    from starlette.responses import Response

    latest = rig.latest()
    if latest is None:
        raise DataError("no result has come yet, so there is nothing to keep; wait for the cameras")
    data = await asyncio.to_thread(make_snapshot, latest[0], rig.context, rig.address.quality)
    name = f"{rig.name}-{latest[0].pair.sequence:06d}.zip"
    headers = {"cache-control": "no-store", "content-disposition": f'attachment; filename="{name}"'}
    return Response(data, media_type="application/zip", headers=headers)


async def _registration(request: Request, rig: RigView) -> Response:
    if request.method != "POST":
        return _json(await asyncio.to_thread(describe_registration, rig))
    body = parse_points(await _body(request))
    points = body.get("points") if isinstance(body, dict) else body
    found, shown = await asyncio.to_thread(fit, rig, points)
    path = await asyncio.to_thread(save, rig, found)
    return _json(shown | {"saved": str(path)})


async def _fit(request: Request, rig: RigView) -> Response:
    """Only looks, changes nothing: allowed to everybody."""
    points = parse_points(request.query_params.get("points", ""))
    return _json((await asyncio.to_thread(fit, rig, points))[1])


async def _metrics(rigs: dict[str, RigView], _: Request) -> Response:
    from starlette.responses import Response

    try:
        from mdrun.observe.metrics import CONTENT_TYPE, metrics_text
    except ModuleNotFoundError as error:
        return _missing(error)
    monitors = [rig.context.monitor for rig in list(rigs.values())]
    return Response(await asyncio.to_thread(metrics_text, monitors), headers={"content-type": CONTENT_TYPE})


async def _health(rigs: dict[str, RigView], kind: str, _: Request) -> Response:
    try:
        from mdrun.observe.health import health
    except ModuleNotFoundError as error:
        return _missing(error)
    status, data = health([rig.context.monitor for rig in list(rigs.values())], kind)
    return _json(data, status)


def _style(request: Request) -> Style:
    view = request.path_params["view"]
    if view not in VIEWS:
        raise UsageError(f"no view {view!r}; there are: {', '.join(VIEWS)}")
    text = request.query_params.get("opacity", "0.5")
    try:
        opacity = float(text)
    except ValueError:
        opacity = float("nan")
    if not 0 <= opacity <= 1:
        raise UsageError(f"opacity is {text!r}, wanted a number from 0 to 1")
    marked = request.query_params.get("marks", "1") != "0"
    return Style(view, marked, round(opacity, 2) if view == "fused" else Style.opacity)


async def _body(request: Request) -> str:
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > MOST_BODY:
            raise UsageError(f"the request is longer than {MOST_BODY} bytes, wanted at most 1000 point pairs")
    return data.decode(errors="replace")


def _part(name: str, kind: str, data: bytes) -> bytes:
    named = f'Content-Disposition: form-data; name="{name}"; filename="{name}"'
    return f"--{BOUNDARY}\r\n{named}\r\nContent-Type: {kind}\r\n\r\n".encode() + data + b"\r\n"


def _json(data: Any, status: int = 200) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse(data, status, headers={"cache-control": "no-store"})


def _missing(error: ModuleNotFoundError) -> Response:
    return error_answer(f"not in this installation: {error.name} is missing", 501, MdrunError.code)
