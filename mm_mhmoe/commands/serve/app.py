"""The page and what it asks for, over HTTP, for this machine alone.

Other pages in the same browser must not reach it: the Host header has to be a loopback name (or a foreign name that
points here would do), and what is posted has to come from the page itself. An upload is counted while it arrives and
its header is looked at before it is decoded.
"""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from mm_mhmoe_data.pictures import decode_picture
from mm_mhmoe_eval.report_data import picture_uri
from PIL import Image, UnidentifiedImageError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mm_mhmoe.commands.serve.engine import Engine

MAX_UPLOAD = 10 << 20
MAX_PIXELS = 20_000_000
MAX_QUERY = 500
HITS = 15
_SHOWN_SIDE = 256
_TYPES = {"page.html": "text/html", "page.css": "text/css", "page.js": "text/javascript"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def make_app(engine: Engine) -> Starlette:
    """The application; hosts other than loopback names are refused."""

    async def page(request: Request) -> Response:
        name = request.path_params.get("name", "page.html")
        if name not in _TYPES:
            return _refused(404, f"there is no {name}")
        return Response(files(__package__).joinpath(name).read_bytes(), media_type=_TYPES[name], headers=_HEADERS)

    async def about(request: Request) -> Response:
        return _json(engine.about())

    async def picture(request: Request) -> Response:
        place = request.path_params["place"]
        if place >= len(engine.dataset):
            return _refused(404, f"there is no picture {place}")
        content = await run_in_threadpool(_small_png, engine, place)
        return Response(content, media_type="image/png", headers=_HEADERS)

    async def find(request: Request) -> Response:
        query = request.query_params.get("query", "").strip()
        if not query or len(query) > MAX_QUERY:
            return _refused(400, f"a query has 1 to {MAX_QUERY} characters, this one {len(query)}")
        return _json({"hits": await run_in_threadpool(engine.find, query, HITS)})

    async def look(request: Request) -> Response:
        question = request.query_params.get("question", "").strip()
        if len(question) > MAX_QUERY:
            return _refused(400, f"a question has at most {MAX_QUERY} characters, this one {len(question)}")
        content = await _body(request)
        if content is None:
            return _refused(413, f"a picture may have at most {MAX_UPLOAD >> 20} MB")
        return _json(await run_in_threadpool(_looked, engine, content, question))

    return Starlette(
        routes=[
            Route("/", page),
            Route("/static/{name}", page),
            Route("/api/about", about),
            Route("/api/picture/{place:int}", picture),
            Route("/api/find", _own(find), methods=["POST"]),
            Route("/api/look", _own(look), methods=["POST"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"], www_redirect=False)],
        exception_handlers={ValueError: _told},
    )


def _own(answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Only for requests of this page, or of programs, which send no Origin."""

    async def checked(request: Request) -> Response:
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
            return _refused(403, f"{origin} may not ask here")
        return await answer(request)

    return checked


async def _body(request: Request) -> bytes | None:
    """What is posted; None as soon as it is too much."""
    declared = request.headers.get("content-length", "0")
    if not declared.isdigit() or int(declared) > MAX_UPLOAD:
        return None
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MAX_UPLOAD:
            return None
    return bytes(content)


def _looked(engine: Engine, content: bytes, question: str) -> dict[str, Any]:
    _check_pixels(content)
    picture_CHW = decode_picture(content)
    return {"picture": picture_uri(picture_CHW, max_side=_SHOWN_SIDE), **engine.look(picture_CHW, question)}


def _check_pixels(content: bytes) -> None:
    """Raises ValueError for a picture that says it is large. What is no picture is told when it is decoded."""
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "WEBP")) as image:
            width, height = image.size
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError):
        return
    if width * height > MAX_PIXELS:
        raise ValueError(f"the picture has {width}x{height} pixels; at most {MAX_PIXELS:,} are decoded")


def _small_png(engine: Engine, place: int) -> bytes:
    height, width = (picture := engine.dataset.picture(place)).shape[1:]
    image = Image.fromarray(picture.permute(1, 2, 0).numpy())
    if max(height, width) > _SHOWN_SIDE:
        image.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
    out = io.BytesIO()
    image.save(out, format="PNG")
    return out.getvalue()


def _json(content: Any) -> Response:
    return JSONResponse(content, headers=_HEADERS)


def _refused(status: int, why: str) -> Response:
    return JSONResponse({"error": why}, status_code=status, headers=_HEADERS)


async def _told(request: Request, error: Exception) -> Response:
    return _refused(400, str(error))
