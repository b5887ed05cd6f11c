"""The routes that change something: rows in, what people say, which model is live."""

from __future__ import annotations

import json
import queue
from typing import Any

from imdiffusion.live.service import serializers
from imdiffusion.live.service.dependencies import GONE, ONLY_KNOWN, Changes, context_of
from imdiffusion.live.service.middleware import ServiceContext
from imdiffusion.live.service.routes_read import EventId
from imdiffusion.live.service.serializers import feedback_out
from imdiffusion.live.service.web import APIRouter, HTTPException, JSONResponse, Request, Response
from imdiffusion.live.sources.text_rows import Gathering, RowForm

MOST_WHY = 20  # sentences in an answer

rows = APIRouter(prefix="/api", responses=Changes, tags=["change"], dependencies=ONLY_KNOWN)
routes = APIRouter(prefix="/api", responses=Changes, tags=["change"], dependencies=ONLY_KNOWN)

_ROWS = {"$ref": "#/components/schemas/Rows"}
_LINES = {"type": "string", "description": "a row a line"}


@rows.post(
    "/ingest",
    status_code=202,
    response_model=serializers.Taken,
    responses={
        422: {"model": serializers.Taken | serializers.Problem, "description": "no row can be used"}
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _ROWS},
                "application/x-ndjson": {"schema": _LINES},
            },
        }
    },
)
async def ingest(request: Request) -> Response:
    """Take rows: `{"rows": [...]}`, or a row a line. What cannot be used is passed over and said.

    202: taken, to be scored. 429: too much waits, send all of it again later; what was taken of it
    already changes nothing the second time.
    """
    context = context_of(request)
    body = await request.body()
    lines = request.headers.get("content-type", "").startswith("application/x-ndjson")
    status, taken = await context.ask(_ingest, context, body, lines)
    return JSONResponse(taken.model_dump(), status_code=status)


def _ingest(context: ServiceContext, body: bytes, lines: bool) -> tuple[int, serializers.Taken]:
    gathering = Gathering(RowForm())
    if lines:
        for number, line in enumerate(body.splitlines(), 1):
            if line.strip():
                gathering.add_json(line, f"line {number}", "")
    else:
        for number, row in enumerate(_rows_of(body), 1):
            if isinstance(row, dict):
                gathering.add(row, f"row {number}", "")
            else:
                gathering.reject(f"row {number}", "not a JSON object")
    batch = gathering.batch("")
    why = [] if batch is None else list(batch.rejected)
    taken = values = 0
    for frame in () if batch is None else batch.frames:
        if frame.width > context.limits.channels:
            why.append(f"{_quoted(frame.entity)}: more than {context.limits.channels} channels")
        elif not context.admits(frame.entity or ""):
            why.append(f"{_quoted(frame.entity)}: more than {context.limits.entities} entities")
        else:
            _push(context, frame)
            taken, values = taken + len(frame), values + int(frame.observed.sum())
    context.tally.add("rows", "taken", taken)
    context.tally.add("rows", "rejected", len(why))
    said = serializers.Taken(rows=taken, values=values, rejected=len(why), why=why[:MOST_WHY])
    return (202 if taken else 422), said


def _push(context: ServiceContext, frame: Any) -> None:
    assert context.ingest is not None  # noqa: S101  the route is there only if it is
    try:
        context.ingest(frame)
    except queue.Full as error:
        context.tally.add("rows", "full")
        raise HTTPException(
            429, "too much waits to be scored: send all of it again later", {"Retry-After": "1"}
        ) from error


def _rows_of(body: bytes) -> list[Any]:
    try:
        facts = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "the body is no JSON") from error
    found = facts.get("rows") if isinstance(facts, dict) else None
    if not isinstance(found, list) or not found or len(facts) > 1:
        raise HTTPException(422, 'the body is not {"rows": [...]} with at least one row')
    return found


def _quoted(name: str | None) -> str:
    return ascii(name)[:60]


@routes.post("/events/{event}/feedback", status_code=201, responses=GONE)
async def add_feedback(
    request: Request, event: EventId, said: serializers.FeedbackIn
) -> serializers.FeedbackOut:
    """Say of an event that it is confirmed, expected, a false alarm, the new normal, not over."""
    context = context_of(request)
    if not await context.ask(context.reader.event, event):
        raise HTTPException(404, f"there is no event {event!r}")
    kept = await context.ask(
        context.store.add_feedback,
        event,
        said.verdict,
        who=said.who,
        text=said.text,
        now=context.now(),
    )
    context.tally.add("feedback", said.verdict)
    return feedback_out(kept)


@routes.post("/models/rollback", responses=GONE)
async def roll_back(request: Request, asked: serializers.RollbackIn) -> serializers.Live:
    """Make the model live that was before the live one."""
    context = context_of(request)
    digest = await context.ask(
        context.store.roll_back, asked.entity, reason=asked.reason, now=context.now()
    )
    return serializers.Live(entity=asked.entity, digest=digest)


@routes.post("/models/live", responses=GONE)
async def promote(request: Request, asked: serializers.PromoteIn) -> serializers.Live:
    """Make one of an entity's models the live one."""
    context = context_of(request)
    await context.ask(
        context.store.promote, asked.entity, asked.digest, reason=asked.reason, now=context.now()
    )
    return serializers.Live(entity=asked.entity, digest=asked.digest)
