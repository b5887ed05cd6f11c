"""The stream of changes that a page follows, as server-sent events.

One look at the feed a moment serves all who follow. No reader delays another: a slow one
gets `lost`, and asks for everything again. A change says what became true, gathered: the newest
score of each bucket of time is for the page to find.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

from imdiffusion.durations import SECOND_NS
from imdiffusion.errors import OutputError
from imdiffusion.live.service.context import ServiceContext
from imdiffusion.live.service.serializers import cell, event_out
from imdiffusion.records import EventRecord, Record

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
