"""What the routes have in common: the context, spans of time, the answers that are no success."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any, Literal

from imdiffusion.durations import HOUR_NS, SECOND_NS
from imdiffusion.errors import OutputError
from imdiffusion.live.service import serializers
from imdiffusion.live.service.middleware import ServiceContext
from imdiffusion.live.service.serializers import cell, event_out, nanoseconds
from imdiffusion.live.service.web import Depends, HTTPException, Query, Request
from imdiffusion.records import EventRecord, Record
from imdiffusion.schema import nearest

log = logging.getLogger(__name__)

LOOK = 0.1  # seconds between two looks at the feed, while anybody follows
TICK = 0.25  # seconds after which a follower looks whether the service ends
BEAT = 15.0  # seconds after which a line is sent though nothing changed
MOST_RECORDS = 20_000  # in one change; beyond them followers ask for everything again
MOST_WAITING = 50  # changes that wait for one follower


class ChangeStream:
    """Looks at the feed for everybody who follows."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self._queues: set[asyncio.Queue[str]] = set()
        self._looking: asyncio.Task[None] | None = None

    @property
    def full(self) -> bool:
        """Whether as many follow as may."""
        return len(self._queues) >= self._context.limits.streams

    async def follow(self) -> AsyncIterator[str]:
        """Server-sent events, until the follower goes away or the service ends."""
        waiting: asyncio.Queue[str] = asyncio.Queue(MOST_WAITING)
        self._queues.add(waiting)
        try:
            last = await self._context.ask(self._context.reader.last)
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look(last))
            yield _sent("hello", {"last": last}, last)
            quiet = 0.0
            while not self._context.closing:
                try:
                    async with asyncio.timeout(TICK):
                        text = await waiting.get()
                    quiet = 0.0
                    yield text
                except TimeoutError:
                    quiet += TICK
                    if quiet >= BEAT:
                        quiet = 0.0
                        yield ": still here\n\n"
        finally:
            self._queues.discard(waiting)

    async def _look(self, last: int) -> None:
        ask, reader = self._context.ask, self._context.reader
        while self._queues and not self._context.closing:
            await asyncio.sleep(LOOK)
            try:
                newest = await ask(reader.last)
                if newest == last:
                    continue
                records = await ask(reader.feed, last, limit=MOST_RECORDS + 1)
            except OutputError as error:
                log.warning("followers are updated later: %s", error)
                continue
            if len(records) > MOST_RECORDS:
                text = _sent("lost", {"last": newest}, newest)
            else:
                newest = records[-1][0] if records else newest
                text = _sent("change", change_of([one for _, one in records]), newest)
            last = newest
            for waiting in self._queues:
                _offer(waiting, text, newest)


def _offer(waiting: asyncio.Queue[str], text: str, newest: int) -> None:
    if waiting.full():
        while not waiting.empty():
            waiting.get_nowait()
        text = _sent("lost", {"last": newest}, newest)
    waiting.put_nowait(text)


def change_of(records: list[Record]) -> dict[str, Any]:
    """Scores online as [entity, seconds, score, state, detector], and updates of events."""
    scores, events = [], {}
    for one in records:
        if isinstance(one, EventRecord):
            events[one.id] = event_out(one, channels=5).model_dump()
        elif one.mode == "online":
            scores.append(
                [one.entity, one.timestamp / SECOND_NS, cell(one.score), one.state, one.detector]
            )
    return {"scores": scores, "events": list(events.values())}


def _sent(kind: str, facts: dict[str, Any], number: int) -> str:
    text = json.dumps(facts, separators=(",", ":"))
    return f"id: {number}\nevent: {kind}\ndata: {text}\n\n"


USUAL = HOUR_NS  # the span of time that is meant where none is said

Name = Annotated[str, Query(min_length=1, max_length=1_000)]
State = Literal["", "warming", "ready", "degraded", "stale"]
Until = datetime | None

Problems: dict[int | str, dict[str, Any]] = {
    status: {"model": serializers.Problem, "description": said}
    for status, said in {
        401: "a token is needed, and was absent or wrong",
        421: "the Host header names another host",
        422: "a parameter is out of range",
        429: "too many requests",
        503: "not just now",
    }.items()
}
Changes: dict[int | str, dict[str, Any]] = Problems | {
    status: {"model": serializers.Problem, "description": said}
    for status, said in {
        400: "the body is broken",
        403: "this token, or this page, may not change anything",
        408: "the body did not come in time",
        413: "the body is too long",
        415: "the body is not declared as JSON",
    }.items()
}
GONE: dict[int | str, dict[str, Any]] = {
    404: {"model": serializers.Problem, "description": "there is no such event or model"}
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
