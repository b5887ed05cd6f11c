"""What the routes have in common: the context, spans of time, the answers that are no success."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from imdiffusion.durations import HOUR_NS
from imdiffusion.live.service import schemas
from imdiffusion.live.service.context import ServiceContext
from imdiffusion.live.service.serializers import nanoseconds
from imdiffusion.live.service.web import Depends, HTTPException, Query, Request
from imdiffusion.schema import nearest

USUAL = HOUR_NS  # the span of time that is meant where none is said

Name = Annotated[str, Query(min_length=1, max_length=1_000)]
State = Literal["", "warming", "ready", "degraded", "stale"]
Until = datetime | None

Problems: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.Problem, "description": said}
    for status, said in {
        401: "a token is needed, and was absent or wrong",
        421: "the Host header names another host",
        422: "a parameter is out of range",
        429: "too many requests",
        503: "not just now",
    }.items()
}
Changes: dict[int | str, dict[str, Any]] = Problems | {
    status: {"model": schemas.Problem, "description": said}
    for status, said in {
        400: "the body is broken",
        403: "this token, or this page, may not change anything",
        408: "the body did not come in time",
        413: "the body is too long",
        415: "the body is not declared as JSON",
    }.items()
}
GONE: dict[int | str, dict[str, Any]] = {
    404: {"model": schemas.Problem, "description": "there is no such event or model"}
}


async def only_known(request: Request) -> None:
    """Refuse a parameter that the route does not know, which would else be passed over silently."""
    known = {field.alias for field in request.scope["route"].dependant.query_params}
    for name in request.query_params:
        if name not in known:
            said = f"unknown parameter {ascii(name)[:60]}. {nearest(name, known)}"
            raise HTTPException(422, said)


ONLY_KNOWN = [Depends(only_known)]


def context_of(request: Request) -> ServiceContext:
    """The context of the application that was asked."""
    context: ServiceContext = request.app.state.context
    return context


def span(
    context: ServiceContext, since: datetime | None, until: datetime | None
) -> tuple[int, int]:
    """[since, until) in ns; without them the last hour, up to and with this very moment."""
    hi = context.now() + 1 if until is None else nanoseconds(until)
    lo = hi - USUAL if since is None else nanoseconds(since)
    return lo, max(lo + 1, hi)
