"""The application: routes behind the middleware, the page, health, metrics.

The files of the page are read from the package once, kept in memory, and known by name alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import imdiffusion
from imdiffusion.errors import ImDiffusionError, UsageError
from imdiffusion.live.connection.exposition import CONTENT_TYPE
from imdiffusion.live.service import routes_read, routes_write, serializers
from imdiffusion.live.service.auth import Access
from imdiffusion.live.service.dependencies import ONLY_KNOWN, ChangeStream, Problems, context_of
from imdiffusion.live.service.health import MOST, metrics_text, readiness
from imdiffusion.live.service.middleware import (
    OPEN,
    Health,
    Ingest,
    Limits,
    ServiceContext,
    ServiceMiddleware,
)
from imdiffusion.live.service.web import (
    APIRouter,
    FastAPI,
    HTTPException,
    JSONResponse,
    Request,
    RequestValidationError,
    Response,
    StreamingResponse,
)
from imdiffusion.live.sinks.metrics import MetricsSink
from imdiffusion.live.store.live_state import Store

PAGE = "index.html"
# In this order; the first ones are those of the offline report: one look, one set of charts.
REPORT = ("format", "view", "paint", "charts", "channels")
OWN = ("net", "model", "lanes", "series", "cards", "hands", "live")
_STYLES = ("vendor/uPlot.min.css", "page/page.css", "page/chrome.css")


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is served."""

    content: bytes
    kind: str


def assets() -> dict[str, Asset]:
    """Every file of the page by its name."""
    report, own = "imdiffusion.report", "imdiffusion.live.service"
    library = _text(report, "vendor/uPlot.iife.min.js").split("\n", 1)[1]  # less its address
    parts = [_text(report, f"page/{name}.js") for name in REPORT]
    parts += [_text(own, f"page/{name}.js") for name in OWN]
    script = library + '\n(() => {\n"use strict";\n' + "".join(parts) + "})();\n"
    style = "\n".join([_text(report, name) for name in _STYLES] + [_text(own, "page/live.css")])
    return {
        PAGE: Asset(_text(own, "page/index.html").encode(), "text/html; charset=utf-8"),
        "live.js": Asset(script.encode(), "text/javascript; charset=utf-8"),
        "live.css": Asset(style.encode(), "text/css; charset=utf-8"),
        "licences.txt": Asset(
            _text(report, "vendor/LICENSE-uplot.txt").encode(), "text/plain; charset=utf-8"
        ),
    }


def _text(package: str, name: str) -> str:
    return files(package).joinpath(*name.split("/")).read_text(encoding="utf-8")


routes = APIRouter(responses=Problems, tags=["service"], dependencies=ONLY_KNOWN)


def make_app(
    store: Store,
    *,
    ingest: Ingest | None = None,
    metrics: MetricsSink | None = None,
    health: Health | None = None,
    limits: Limits | None = None,
    access: Access | None = None,
) -> FastAPI:
    """The service over a live state.

    ingest: takes a frame of rows that were pushed, or raises queue.Full; None = no rows are taken.
    metrics: the sink whose text is served with the service's own metrics. health: as
    `Engine.health`. The store stays the caller's to close, after the service has ended.

    ConfigError: `access` lacks a token that it needs, or one cannot be read.
    """
    limits, access = limits or Limits(), access or Access()
    access.check()
    context = ServiceContext(store, ingest=ingest, metrics=metrics, health=health, limits=limits)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        context.close()

    app = FastAPI(
        title="imdiffusion",
        version=imdiffusion.__version__,
        summary="Scores, events and explanations of live detection; and rows in.",
        docs_url=None,  # its pages load from elsewhere
        redoc_url=None,
        lifespan=life,
        redirect_slashes=False,
    )
    app.state.context, app.state.following = context, ChangeStream(context)
    app.state.access, app.state.assets = access, assets()
    app.include_router(routes_read.routes)
    app.include_router(routes_write.routes)
    if ingest is not None:
        app.include_router(routes_write.rows)
    app.include_router(routes)
    for kind, handler in _HANDLERS:
        app.add_exception_handler(kind, handler)
    app.openapi = _described(app, access)  # type: ignore[method-assign]
    app.add_middleware(ServiceMiddleware, access=access, limits=limits, tally=context.tally)
    return app


def _described(app: FastAPI, access: Access) -> Any:
    """The OpenAPI text, with the rows that are read by hand and the tokens that the gate wants."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        text = plain()
        parts = text["components"]
        schema = serializers.Rows.model_json_schema(ref_template="#/components/schemas/{model}")
        parts["schemas"].update(schema.pop("$defs", {}), Rows=schema)
        if access.demands_a_token():
            parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            for path, methods in text["paths"].items():
                for method, operation in methods.items():
                    if path not in OPEN or method != "get":
                        operation["security"] = [{"token": []}]
        return text

    return openapi


@routes.get("/api/stream", response_class=StreamingResponse)
async def stream(request: Request) -> Response:
    """Changes as they become true, as server-sent events: hello, change, lost."""
    following: ChangeStream = request.app.state.following
    if following.full:
        raise HTTPException(503, "as many follow as may")
    return StreamingResponse(following.follow(), media_type="text/event-stream")


@routes.get("/healthz")
async def healthz() -> serializers.Alive:
    """The service answers."""
    return serializers.Alive(status="alive")


@routes.get("/readyz", responses={503: {"model": serializers.Ready, "description": "not ready"}})
async def readyz(request: Request) -> JSONResponse:
    """Whether detection goes on: false when the last score is older than two intervals."""
    context = context_of(request)
    entities = await context.ask(context.reader.entities, limit=MOST)
    found = readiness(entities, context.now(), context.health() if context.health else {})
    return JSONResponse(found.model_dump(), status_code=200 if found.ready else 503)


@routes.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Everything that Prometheus scrapes."""
    context = context_of(request)
    health = context.health() if context.health else {}
    counts = context.tally.counts()
    text = await context.ask(metrics_text, context.reader, context.now(), health, counts)
    before = context.metrics.text() if context.metrics else ""
    return Response(before + text, media_type=CONTENT_TYPE)


@routes.get("/", include_in_schema=False)
async def page(request: Request) -> Response:
    """The page."""
    return _file(request, PAGE)


@routes.get("/static/{name}", include_in_schema=False)
async def static(request: Request, name: str) -> Response:
    """What the page is made of: names in a table, never a path."""
    return _file(request, name)


def _file(request: Request, name: str) -> Response:
    found: Asset | None = request.app.state.assets.get(name)
    if found is None:
        raise HTTPException(404, "there is no such file")
    return Response(found.content, media_type=found.kind)


async def _problem(request: Request, error: Exception) -> Response:
    """An error of ours: what a caller asked wrongly is his, anything else is the service's."""
    status = 404 if isinstance(error, UsageError) else 503
    what, remedy = (error.what, error.remedy) if isinstance(error, ImDiffusionError) else ("", "")
    if status == 503:  # where the live state lies is not for other programs
        what, remedy = "the live state cannot be used just now", ""
    return JSONResponse({"error": what, "remedy": remedy}, status_code=status)


async def _refused(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 500)
    said = {"error": str(getattr(error, "detail", "")), "remedy": ""}
    return JSONResponse(said, status_code=status, headers=getattr(error, "headers", None))


async def _invalid(request: Request, error: Exception) -> Response:
    """Where and why, without what was sent."""
    found = error.errors() if isinstance(error, RequestValidationError) else []
    first = found[0] if found else {"loc": (), "msg": "invalid"}
    where = " ".join(str(part) for part in first["loc"])
    status = 400 if first.get("type") == "json_invalid" else 422
    return JSONResponse(
        {"error": f"{where[:200]}: {first['msg'][:200]}", "remedy": "See /openapi.json."},
        status_code=status,
    )


_HANDLERS: tuple[tuple[Any, Any], ...] = (
    (ImDiffusionError, _problem),
    (RequestValidationError, _invalid),
    (HTTPException, _refused),
    # What the framework itself raises is of another class.
    (400, _refused),
    (404, _refused),
    (405, _refused),
)
