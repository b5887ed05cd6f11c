"""The routes that read: entities, scores, lanes, series, events, what people said, models."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from imdiffusion.durations import SECOND_NS
from imdiffusion.live.service import serializers
from imdiffusion.live.service.dependencies import (
    GONE,
    ONLY_KNOWN,
    Name,
    Problems,
    State,
    Until,
    context_of,
    span,
)
from imdiffusion.live.service.middleware import ServiceContext
from imdiffusion.live.service.serializers import (
    bounded,
    entity_out,
    event_out,
    feedback_out,
    model_out,
    nanoseconds,
    score_out,
    summary,
)
from imdiffusion.live.service.web import APIRouter, HTTPException, Path, Query, Request, Response
from imdiffusion.live.store.queries import FAR, Details
from imdiffusion.live.store.queries import Lane as LaneFound

routes = APIRouter(prefix="/api", responses=Problems, tags=["read"], dependencies=ONLY_KNOWN)

Text = Annotated[str, Query(max_length=1_000)]
Number = Annotated[str, Query(pattern=r"^-?[0-9]{0,19}$", max_length=20)]
EventId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$", max_length=64)]
LISTED = 5  # channels of an event in a list; all of them where one event is asked for


@routes.get("/entities")
async def entities(
    request: Request,
    text: Text = "",
    state: State = "",
    after: Text = "",
    limit: Annotated[int, Query(ge=1, le=1_000)] = 1_000,
) -> serializers.Entities:
    """Entities as they stand, by name; text: part of the name."""
    context = context_of(request)
    found = await context.ask(
        context.reader.entities, text=text, state=state, after=after, limit=limit
    )
    now = context.now()
    return serializers.Entities(
        entities=[entity_out(one, now) for one in found],
        next=found[-1].name if len(found) == limit else None,
    )


@routes.get("/scores")
async def scores(
    request: Request,
    entity: Name,
    since: datetime | None = None,
    until: Until = None,
    mode: serializers.Mode = "online",
    after: Number = "",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
) -> serializers.Scores:
    """Scores of an entity, the oldest first; without `since` those of the last hour."""
    context = context_of(request)
    lo, hi = span(context, since, until)
    lo = max(lo, bounded(after) + 1) if after.strip("-") else lo
    found = await context.ask(context.reader.scores, entity, lo, hi, mode=mode, limit=limit)
    return serializers.Scores(
        entity=entity,
        scores=[score_out(one) for one in found],
        next=str(found[-1].timestamp) if len(found) == limit else None,
    )


@routes.get("/lanes", response_model=serializers.Lanes)
async def lanes(
    request: Request,
    since: datetime | None = None,
    until: Until = None,
    buckets: Annotated[int, Query(ge=1, le=2_000)] = 200,
    text: Text = "",
    after: Text = "",
    limit: Annotated[int, Query(ge=1, le=1_000)] = 1_000,
) -> Response:
    """The highest scores by bucket of many entities, by name; text: part of the name."""
    context = context_of(request)
    lo, hi = span(context, since, until)

    def work() -> str:
        found = context.reader.lanes(lo, hi, buckets=buckets, text=text, after=after, limit=limit)
        return _lanes_of(found, lo, hi, buckets, limit).model_dump_json()

    return Response(await context.ask(work), media_type="application/json")


def _lanes_of(
    found: dict[str, LaneFound], lo: int, hi: int, buckets: int, limit: int
) -> serializers.Lanes:
    width = next((lane.width for lane in found.values()), max(1, -(-(hi - lo) // buckets)))
    first = lo // width * width
    count = -(-(hi - first) // width)
    laid = []
    for name, lane in found.items():
        row: list[float | None] = [None] * count
        for at, score in zip((lane.start - first) // width, _short(lane.score), strict=True):
            row[at] = score
        laid.append(serializers.Lane(entity=name, scores=row))
    return serializers.Lanes(
        start=first / SECOND_NS, width=width / SECOND_NS, buckets=count, lanes=laid,
        next=laid[-1].entity if len(laid) == limit else None,
    )  # fmt: skip


@routes.get("/series", response_model=serializers.Series)
async def series(
    request: Request,
    entity: Name,
    since: datetime | None = None,
    until: Until = None,
    channel: Annotated[list[str] | None, Query(max_length=200)] = None,
    top: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    rows: Annotated[int, Query(ge=1, le=5_000)] = 1_000,
) -> Response:
    """Rows as seen and as expected, the newest `rows` of the span.

    channel: these alone, in this order; without it the `top` that depart most from their bands.
    """
    context = context_of(request)
    lo, hi = span(context, since, until)

    def work() -> str:
        found = context.reader.details(entity, lo, hi, limit=rows)
        return _series_of(entity, found, channel, top, rows).model_dump_json()

    return Response(await context.ask(work), media_type="application/json")


def _series_of(
    entity: str, found: Details, wanted: list[str] | None, top: int, rows: int
) -> serializers.Series:
    departed = _departures(found)
    order = np.argsort(-departed, kind="stable").tolist()
    if wanted is not None:
        place = {name: k for k, name in enumerate(found.channels)}
        order = [place[name] for name in dict.fromkeys(wanted) if name in place]
    order = order[:top]
    cells = {
        part: [_short(found.cells[:, number, k]) for k in order]
        for number, part in enumerate(("seen", "expected", "lower", "upper"))
    }
    return serializers.Series(
        entity=entity, cut=len(found.timestamps) == rows, of=len(found.channels),
        parts=departed[order].tolist(), channels=[found.channels[k] for k in order],
        times=(found.timestamps / SECOND_NS).tolist(), **cells,
    )  # fmt: skip


def _departures(found: Details) -> NDArray[np.float64]:
    """Each channel's part (K,) of how far all were outside their bands, in widths of the bands."""
    seen, _, lower, upper = np.moveaxis(found.cells.astype(np.float64), 1, 0)
    beyond = np.maximum(0.0, np.maximum(seen - upper, lower - seen))
    width = np.maximum(upper - lower, 1e-12 * (1.0 + np.abs(upper)))
    sums: NDArray[np.float64] = np.nan_to_num(beyond / width).sum(axis=0)
    total = float(sums.sum())
    return sums / total if total > 0 else sums


def _short(values: NDArray[Any]) -> list[float | None]:
    """Six significant digits, None for NaN: what a chart can show."""
    return [float(f"{v:.6g}") if math.isfinite(v) else None for v in values.tolist()]


@routes.get("/events")
async def events(
    request: Request,
    status: Annotated[serializers.Status | None, Query()] = None,
    entity: Text = "",
    since: datetime | None = None,
    until: datetime | None = None,
    text: Text = "",
    before: Annotated[str, Query(pattern=r"^(-?[0-9]{1,19}\.[A-Za-z0-9_-]{1,64})?$")] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> serializers.Events:
    """Events that touch the span, the latest onset first; text: part of an entity or channel."""
    context = context_of(request)
    start, _, key = before.partition(".")

    def work() -> tuple[list[serializers.EventOut], str | None]:
        found = context.reader.events(
            status=status or "",
            entity=entity,
            since=0 if since is None else nanoseconds(since),
            until=FAR if until is None else nanoseconds(until),
            text=text,
            before=(bounded(start), key) if before else None,
            limit=limit,
        )
        last = f"{found[-1].start}.{found[-1].id}" if len(found) == limit else None
        said = [event_out(one, verdict=_verdict(context, one.id), channels=LISTED) for one in found]
        return said, last

    said, last = await context.ask(work)
    return serializers.Events(events=said, next=last)


def _verdict(context: ServiceContext, event: str) -> str | None:
    """What was said of an event last."""
    said = context.reader.feedback(event)
    return said[-1].verdict if said else None


@routes.get("/events/{event}", responses=GONE)
async def explain(request: Request, event: EventId) -> serializers.Explanation:
    """One event: what, when, which channels, how sure, what was expected, what people said."""
    context = context_of(request)
    return await context.ask(_explain, context, event)


def _explain(context: ServiceContext, event: str) -> serializers.Explanation:
    updates = context.reader.event(event)
    if not updates:
        raise HTTPException(404, f"there is no event {event!r}")
    last, now = updates[-1], context.now()
    said = context.reader.feedback(event)
    verdict = said[-1].verdict if said else None
    end = now if last.end is None else last.end
    rows = context.reader.scores(last.entity, last.start, max(end, last.start + 1))
    peak = [one.state for one in rows if one.timestamp == last.peak]
    return serializers.Explanation(
        event=event_out(last, verdict=verdict),
        # While it lasts, it lasts up to the newest row: a replay of the past is not years long.
        summary=summary(last, rows[-1].timestamp if rows else last.start),
        sure=serializers.Sureness(
            score=event_out(last).score,
            rows=len(rows),
            anomalous=int(np.sum([one.score > 1.0 for one in rows])),
            state=peak[0] if peak else None,
        ),
        updates=[event_out(one, channels=LISTED) for one in updates],
        feedback=[feedback_out(one) for one in said],
    )


@routes.get("/feedback")
async def feedback(
    request: Request,
    event: Text = "",
    after: Annotated[int, Query(ge=0, le=FAR)] = 0,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 1_000,
) -> serializers.Feedbacks:
    """What people said of an event, or of all, the oldest first."""
    context = context_of(request)
    found = await context.ask(context.reader.feedback, event, after=after, limit=limit)
    return serializers.Feedbacks(
        feedback=[feedback_out(one) for one in found],
        next=found[-1].id if len(found) == limit else None,
    )


@routes.get("/models")
async def versions(request: Request, entity: Text = "") -> serializers.Models:
    """Models of an entity, or of all, the newest first, with the one that is live."""
    context = context_of(request)
    found = await context.ask(context.reader.models, entity)
    return serializers.Models(models=[model_out(one, context.now()) for one in found])
