"""Series of Prometheus, VictoriaMetrics and what else answers range queries, as a live source.

Time is cut into a grid of `step`; a time is read once it is `offset` behind the server's own clock,
and never again. Whatever the source was away from, it reads later, in pieces: rows do not depend
on how they were cut.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from imdiffusion.errors import ConfigError, ConnectionLost, UsageError
from imdiffusion.live.connection.http import Client, HttpOptions, Reply
from imdiffusion.live.connection.protocols import Batch, Closing
from imdiffusion.live.sources.prometheus_response import (
    Gathering,
    Grid,
    Naming,
    Query,
    RubbishError,
    Series,
    check_labels,
    parse_matrix,
    parse_queries,
    parse_time,
)

__all__ = ["PrometheusSource"]

_MOST_POINTS = 11_000  # of a series in one answer: Prometheus' own limit


class _RefusedError(Exception):
    """The server will not, or the source must not, take so much at once; its text says why."""


@dataclass(kw_only=True, repr=False, eq=False)
class PrometheusSource(Closing, HttpOptions):
    """Rows of range queries: one frame an entity, timestamps on a grid of `step`.

    query: one expression, its channels called as the metrics are; or queries: several, "name=
    expression; name=expression", its channels called by those names. groupby: labels
    whose values name the entity; without any, everything is of `entity`. ignore: labels
    that channel names leave out. step, offset, backfill: seconds between rows, behind the server's
    clock, and before the first start. max_points: most rows of one request. max_bytes: of one
    answer.

    A value that is NaN, infinite or absent is not observed. ConfigError for options out of range
    and for what the server refuses for good; see `HttpOptions` for the others.
    """

    query: str = ""
    queries: str = ""
    groupby: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    entity: str = "prometheus"
    step: float = 60.0
    offset: float = 30.0
    backfill: float = 3600.0
    max_points: int = 1000
    max_bytes: int = 16 * 1024 * 1024

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("step", "offset", "backfill"):
            value = getattr(self, name)
            if not (0 <= value < math.inf) or (name == "step" and round(value * 1000) < 1):
                raise ConfigError(
                    f"{name} is out of range: {value}", remedy="Give seconds, for instance 60."
                )
        for name, most in (("max_points", _MOST_POINTS), ("max_bytes", 1 << 30)):
            value = getattr(self, name)
            if not 1 <= value <= most:
                raise ConfigError(f"{name} is out of range: {value}", remedy=f"Give 1 to {most}.")
        if self.url and "?" in self.url:
            raise ConfigError("url holds a question mark", remedy="Give the address alone.")
        self._queries = parse_queries(self.query, self.queries)
        check_labels("groupby", self.groupby)
        check_labels("ignore", self.ignore)
        self._naming = Naming(self.groupby, self.ignore, self.entity)
        self._step = round(self.step * 1000)
        self._client: Client | None = None
        self._done: int | None = None  # milliseconds: the last time that was read
        self._ask_at = -math.inf  # monotonic seconds: nothing new can be there before
        self._most = self.max_points  # rows of the next request
        self._proved: set[Query] = set()  # queries that were answered once

    def open(self, offset: str | None) -> None:
        """Go on after the time `offset`, or `backfill` before the server's present."""
        self.close()
        self._done = None if offset is None else _milliseconds(offset)
        self._ask_at, self._most = -math.inf, self.max_points
        self._client = Client(self, limit=self.max_bytes)
        self._client.check()

    def read(self, timeout: float) -> Batch | None:
        """The next rows, all entities; None if no further time is complete within `timeout`."""
        wait = self._ask_at - time.monotonic()
        if wait > 0:
            time.sleep(min(wait, max(timeout, 0.0)))
            if wait > timeout:
                return None
        now = self._now()
        if self._done is None:
            self._done = (now - round((self.offset + self.backfill) * 1000)) // self._step
            self._done = (self._done - 1) * self._step
        first = (self._done // self._step + 1) * self._step
        due = (now - round(self.offset * 1000) - first) // self._step + 1
        if due < 1:
            # At most a step away, however far: the server's clock may be set right meanwhile.
            ahead = first + round(self.offset * 1000) - now
            self._ask_at = time.monotonic() + min(ahead, self._step) / 1000
            return None
        while True:
            grid = Grid(first, self._step, min(due, self._most))
            try:
                batch = self._gather(grid)
            except _RefusedError:  # only of more than one row: half as many may do
                self._most = grid.count // 2
                continue
            except ConnectionLost:
                self._most = max(1, grid.count // 2)  # a query that takes too long has to shrink
                raise
            self._most = min(2 * self._most, self.max_points)
            self._done = grid.last
            return batch

    def commit(self, offset: str) -> None:
        """Nothing: Prometheus keeps what it keeps."""

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _gather(self, grid: Grid) -> Batch:
        """All queries on one grid. Of a single row, one that is refused is passed over."""
        gathering, rejected = Gathering(grid, self._naming), list[str]()
        for place, query in enumerate(self._queries):
            try:
                found, remarks = self._range(query, grid)
            except _RefusedError as refusal:
                if grid.count > 1:
                    raise
                rejected.append(f"{query} at {_text(grid.first)} is skipped: {refusal}")
                continue
            rejected += [f"{query}: {remark}" for remark in remarks]
            for series in found:
                gathering.add(place, query, series)
        rejected += gathering.rejected()
        return Batch(gathering.frames(), _text(grid.last), tuple(rejected))

    def _range(self, query: Query, grid: Grid) -> tuple[list[Series], list[str]]:
        options = {
            "start": f"{grid.first / 1000:.3f}",
            "end": f"{grid.last / 1000:.3f}",
            "step": f"{grid.step / 1000:.3f}",
            "nocache": "1",  # VictoriaMetrics': what came late has to be in the answer
        }
        reply = self._ask("query_range", query=query.expression, **options)
        if reply.status == 400 and query not in self._proved:
            raise ConfigError(
                f"{query} is refused: {reply.said}", remedy=f"Correct it: {query.expression}"
            )
        if reply.status >= 400:
            raise _RefusedError(f"{reply.status}, {reply.said}")
        if reply.cut:
            raise _RefusedError(f"the answer is longer than max_bytes ({self.max_bytes})")
        try:
            found = parse_matrix(reply.body, grid)
        except RubbishError as error:
            raise self._rubbish(error) from error
        self._proved.add(query)
        return found

    def _now(self) -> int:
        """The server's clock, in milliseconds: by it samples have their timestamps."""
        reply = self._ask("query", query="time()")
        if reply.status >= 400:
            raise ConfigError(
                f"{self._server.name} does not give the time: {reply.status}, {reply.said}",
                remedy="Check that url is that of Prometheus, without /api/v1.",
            )
        try:
            return int(parse_time(reply.body) * 1000)
        except RubbishError as error:
            raise self._rubbish(error) from error

    def _ask(self, verb: str, **form: Any) -> Reply:
        """A complete answer: 2xx, or a 4xx about the query."""
        reply = self._server.request(
            f"/api/v1/{verb}",
            body=urlencode({**form, "timeout": f"{self.timeout:g}s"}).encode(),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        self._server.settle(reply, lasting=ConfigError)
        return reply

    @property
    def _server(self) -> Client:
        if self._client is None:
            raise UsageError("the source is not open", remedy="Call open first.")
        return self._client

    def _rubbish(self, error: RubbishError) -> ConnectionLost:
        return ConnectionLost(
            f"{self._server.name} answered with {error}",
            remedy="Check that url is that of Prometheus, and any proxy before it.",
        )


def _text(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


def _milliseconds(offset: str) -> int:
    try:
        return round(datetime.fromisoformat(offset).timestamp() * 1000)
    except ValueError as error:
        raise ConfigError(
            f"{offset!r} is no offset of a Prometheus source",
            remedy="Start without an offset, or give one like 2026-01-05T00:00:00.000+00:00.",
        ) from error
