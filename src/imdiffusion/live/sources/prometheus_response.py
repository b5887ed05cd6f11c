"""The answer to a range query, read with suspicion, and frames made of several of them."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imdiffusion.data.frame import Frame
from imdiffusion.durations import MILLISECOND_NS
from imdiffusion.errors import ConfigError
from imdiffusion.live.connection.exposition import LABEL_NAME, labelled

# A piece of a list of queries: anything but a semicolon, or a string of PromQL with whatever in it.
_PIECE = re.compile(r"""(?:[^;"'`]|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`)+""", re.DOTALL)
_NAMED = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_.]*)\s*=(?![=~])\s*(\S.*)", re.DOTALL)
_NAME = "__name__"
_NAMELESS = "value"


@dataclass(frozen=True, slots=True)
class Query:
    """One expression. name: what its channels are called; "" = as their metrics are."""

    name: str
    expression: str

    def __str__(self) -> str:
        return f"query {self.name!r}" if self.name else "the query"


def parse_queries(query: str, queries: str) -> tuple[Query, ...]:
    """`query` alone, or "name=expression; name=expression"; ConfigError for anything else."""
    if bool(query.strip()) == bool(queries.strip()):
        raise ConfigError(
            "one of query and queries has to be given",
            remedy='Give query="EXPRESSION", or queries="NAME=EXPRESSION; NAME=EXPRESSION".',
        )
    if query.strip():
        return (Query("", query.strip()),)
    if _PIECE.sub("", queries).strip(";"):
        raise ConfigError("a string in queries has no end", remedy="Close its quotes.")
    found = []
    for piece in filter(str.strip, _PIECE.findall(queries)):
        match = _NAMED.fullmatch(piece)
        if match is None:
            raise ConfigError(
                f"queries: {piece.strip()!r} has no name",
                remedy="Write NAME=EXPRESSION; NAME=EXPRESSION.",
            )
        found.append(Query(match[1], match[2].strip()))
    names = [each.name for each in found]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ConfigError(
            f"queries: {sorted(twice)[0]!r} is there twice", remedy="Give each its own name."
        )
    return tuple(found)


def check_labels(option: str, names: Iterable[str]) -> None:
    """ConfigError, naming the option, for a name that no label may have."""
    for name in names:
        if not LABEL_NAME.fullmatch(name):
            raise ConfigError(
                f"{option}: {name!r} is no label name", remedy="Give names like: instance, job."
            )


@dataclass(frozen=True, slots=True)
class Naming:
    """From the labels of a series to its entity and its channel; the same labels, the same names.

    groupby: the labels that name the entity; without any, all series are of `entity`. ignore:
    labels that are in no name.
    """

    groupby: tuple[str, ...]
    ignore: tuple[str, ...]
    entity: str

    def entity_of(self, labels: Mapping[str, str]) -> str:
        """The values of the labels of `groupby`, joined by slashes; KeyError where one is absent.

        With several labels, a slash or percent sign inside a value is written %2F or %25, so that
        no two entities share a name.
        """
        if not self.groupby:
            return self.entity
        values = [labels.get(name, "") for name in self.groupby]
        for name, value in zip(self.groupby, values, strict=True):
            if not value:
                raise KeyError(name)
        if len(values) == 1:
            return values[0]
        return "/".join(value.replace("%", "%25").replace("/", "%2F") for value in values)

    def channel_of(self, query: Query, labels: Mapping[str, str]) -> str:
        """The query's or else the metric's name, with the labels that name no entity.

        Under a query's name the metric's own stands among the labels only if the expression picks
        metrics by it: otherwise no two series differ by it alone.
        """
        rest = {
            name: value
            for name, value in sorted(labels.items())
            if name != _NAME and name not in self.groupby and name not in self.ignore
        }
        metric = labels.get(_NAME, "")
        if query.name and metric and _NAME in query.expression and _NAME not in self.ignore:
            rest = {_NAME: metric, **rest}
        return labelled(query.name or metric or _NAMELESS, rest.items())


class RubbishError(ValueError):
    """An answer that is not what Prometheus' interface promises; its text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The times of a range query: `count` of them from `first`, `step` apart; milliseconds."""

    first: int
    step: int
    count: int

    @property
    def last(self) -> int:
        """The last of them."""
        return self.first + (self.count - 1) * self.step

    def instants(self) -> NDArray[np.datetime64]:
        """datetime64[ns] (count,)."""
        milliseconds = self.first + self.step * np.arange(self.count, dtype=np.int64)
        return (milliseconds * MILLISECOND_NS).view("datetime64[ns]")


@dataclass(frozen=True, slots=True)
class Series:
    """The labels of one series, the places of its points on the grid, and their values."""

    labels: dict[str, str]
    slots: NDArray[np.int64]
    values: NDArray[np.float64]


def parse_json(body: bytes) -> dict[str, Any]:
    """The `data` of an answer that says "success", with its `warnings`; RubbishError otherwise."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RubbishError(f"no JSON ({type(error).__name__})") from error
    if not isinstance(answer, dict) or answer.get("status") != "success":
        raise RubbishError("the answer does not report success")
    if answer.get("isPartial"):
        raise RubbishError("a partial answer: some of its storage is missing")
    data = answer.get("data")
    if not isinstance(data, dict):
        raise RubbishError("no data")
    warnings = answer.get("warnings")
    said = [str(text) for text in warnings] if isinstance(warnings, list) else []
    return {**data, "warnings": said}


def parse_time(body: bytes) -> float:
    """The one number that `time()` gives, in seconds; RubbishError if there is none."""
    result: Any = parse_json(body).get("result")
    try:
        if isinstance(result[0], dict):  # VictoriaMetrics answers with a vector of one
            result = result[0]["value"]
        seconds = float(result[1])
    except (TypeError, ValueError, LookupError) as error:
        raise RubbishError("no number for time()") from error
    if not 0 < seconds < 9e9:  # nanoseconds end in the year 2262
        raise RubbishError(f"{seconds} for time()")
    return seconds


def parse_matrix(body: bytes, grid: Grid) -> tuple[list[Series], list[str]]:
    """All series of an answer, and sentences on what of it is of no use; RubbishError."""
    data = parse_json(body)
    result = data.get("result")
    if data.get("resultType") != "matrix" or not isinstance(result, list):
        raise RubbishError("no matrix")
    # Remarks on the query itself ("PromQL info: ...") say nothing of what the answer lacks.
    remarks = [f"warning: {said}" for said in data["warnings"] if not said.startswith("PromQL")]
    # All series as one array: a live answer has tens of thousands of series of one point each.
    labels, ends, points, histograms = [], [0], [], 0
    try:
        for item in result:
            labels.append({str(name): str(value) for name, value in item["metric"].items()})
            points += item.get("values", [])
            ends.append(len(points))
            histograms += len(item.get("histograms", ()))
        times = np.array([point[0] for point in points], dtype=np.float64)
        values = np.array([float(point[1]) for point in points], dtype=np.float64)
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
        raise RubbishError("a series of another form") from error
    slots = _slots(times, grid)
    if histograms:
        remarks.append(f"{histograms} values are histograms and not numbers")
    spans = zip(labels, pairwise(ends), strict=True)
    return [Series(mine, slots[a:b], values[a:b]) for mine, (a, b) in spans], remarks


def _slots(times: NDArray[np.float64], grid: Grid) -> NDArray[np.int64]:
    if np.isfinite(times).all():
        places = (times * 1000.0 - grid.first) / grid.step
        rounded = np.rint(places)
        on_grid = np.abs(places - rounded) * grid.step <= 1.0  # milliseconds
        if bool((on_grid & (rounded >= 0) & (rounded < grid.count)).all()):
            return rounded.astype(np.int64)
    raise RubbishError("times that were not requested")


class Gathering:
    """Series of several queries, sorted to entities and channels on one grid."""

    def __init__(self, grid: Grid, naming: Naming) -> None:
        self._grid, self._naming = grid, naming
        self._cells: dict[str, dict[tuple[int, str], NDArray[np.float64]]] = {}
        self._passed_over: Counter[str] = Counter()

    def add(self, place: int, query: Query, series: Series) -> None:
        """Take a series of the query at `place` of the configured order."""
        if not len(series.slots):
            return
        try:
            entity = self._naming.entity_of(series.labels)
        except KeyError as absent:
            self._passed_over[f"{query}: series without the label {absent.args[0]}"] += 1
            return
        channel = self._naming.channel_of(query, series.labels)
        values = series.values
        infinite = np.isinf(values)
        if infinite.any():
            what = f"{query}: infinite values of {channel} of {entity}"
            self._passed_over[what] += int(infinite.sum())
            values = np.where(infinite, math.nan, values)
        columns = self._cells.setdefault(entity, {})
        column = columns.get((place, channel))
        if column is None:
            column = columns[place, channel] = np.full(self._grid.count, math.nan)
            column[series.slots] = values
            return
        # Two series may share a name where one goes on for the other, never at the same time.
        taken = ~np.isnan(column[series.slots]) & ~np.isnan(values)
        if taken.any():
            what = f"{query}: values of a second series that is called {channel} of {entity} too"
            self._passed_over[what] += int(taken.sum())
        fresh = ~taken & ~np.isnan(values)
        column[series.slots[fresh]] = values[fresh]

    def frames(self) -> tuple[Frame, ...]:
        """A frame for each entity, by name; rows in which nothing was observed are left out."""
        instants, frames = self._grid.instants(), []
        for entity, columns in sorted(self._cells.items()):
            keys = sorted(columns)
            channels = tuple(channel for _, channel in keys)
            values = np.stack([columns[key] for key in keys], axis=1)
            observed = ~np.isnan(values)
            rows = observed.any(axis=1)
            if rows.any():
                frames.append(Frame(values[rows], observed[rows], instants[rows], channels, entity))
        return tuple(frames)

    def rejected(self) -> list[str]:
        """A sentence for each kind of thing that was passed over, with its number."""
        return [f"{what}: {count} skipped" for what, count in self._passed_over.items()]
