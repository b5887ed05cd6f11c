"""Read series from files, whole or in pieces: CSV, Parquet, JSON lines; wide or long.

The parts: `layout` (what the columns are for), one file a form (`csv_source`, `parquet_source`,
`json_source`), `layout` (names, and the pivot of long rows), `writing`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np
import pyarrow as pa

from imdiffusion.arrays import Ints
from imdiffusion.data.columns import Place, numbers_of_series
from imdiffusion.data.frame import Frame, frame_of_columns
from imdiffusion.data.layout import (
    CHANNEL,
    VALUE,
    FileOptions,
    Layout,
    LongRows,
    Source,
    check_long,
    codes_of,
    layout_of,
    long_pieces,
    open_source,
    pivot,
)
from imdiffusion.data.timestamps import Counted, Times, mixed_zones, parse_times
from imdiffusion.errors import DataError, UsageError

_DEFAULT = FileOptions()


def read(path: str | Path, options: FileOptions = _DEFAULT) -> Frame | dict[str, Frame]:
    """Read a file: a frame, or a frame for each entity where there is an entity column.

    Suffixes .csv, .parquet, .jsonl and .ndjson; .gz after all but .parquet. In CSV, empty fields,
    NaN, nan, NA, N/A, null and None are missing. A long file becomes wide: its channels in the
    order in which they first appear. The frame's `rows` are None: after sorting or pivoting, a
    row of the frame is "the caller's row". Raises DataError for whatever cannot be used, naming
    the file, row, column and remedy.
    """
    source = open_source(path)
    layout = layout_of(source, options)
    place = Place(str(path), line_of=source.line_of)
    tables = list(source.tables(layout.columns, layout.text))
    table = pa.concat_tables(tables, promote_options="permissive")
    times = _times(table, layout, options.unit, place)
    if layout.entity is None:
        return _frame(table, times, layout, options, place)
    codes, names = codes_of(table[layout.entity], place, layout.entity)
    order = np.argsort(codes, kind="stable")
    frames = {}
    for name, rows in zip(names, np.split(order, np.cumsum(np.bincount(codes))[:-1]), strict=True):
        own = None if times is None else replace(times, values=times.values[rows])
        frame = _frame(table.take(rows), own, layout, options, place.chosen(rows))
        frames[name] = replace(frame, entity=name)
    return frames


def read_pieces(
    path: str | Path, *, rows: int = 65536, options: FileOptions = _DEFAULT
) -> Iterator[Frame]:
    """Read a file of one entity as frames of `rows` rows (the last may be shorter).

    Memory does not grow with the file, except with `sort`. The pieces together are what `read`
    gives: types, channels and the checks of order go across the borders. `rows` of each is None.
    A long file has to be in the order of time. Raises DataError as `read` does, some of it only
    when the piece is reached; UsageError for a file of several entities.
    """
    if rows < 1:
        raise UsageError(f"pieces of {rows} rows", remedy="Ask for at least one row.")
    source = open_source(path)
    layout = layout_of(source, options)
    place = Place(str(path), line_of=source.line_of)
    channels: list[str] = []
    if layout.long or layout.entity is not None:
        channels, entity = _names_in(source, layout, place)
    else:
        entity = None
    if options.sort:
        pieces = _slices(read(path, options), rows)
    elif layout.long:
        pieces = _long_pieces(source, layout, options, place, rows=rows, channels=channels)
    else:
        pieces = _wide_pieces(source, layout, options, place, rows=rows)
    return (replace(piece, entity=entity) for piece in pieces)


def _times(
    table: pa.Table, layout: Layout, unit: str, place: Place, before: Counted | None = None
) -> Times | None:
    name = layout.timestamp
    if name is None:
        return None
    return parse_times(table[name], place=place, name=name, unit=unit, before=before)


def _frame(
    table: pa.Table, times: Times | None, layout: Layout, options: FileOptions, place: Place
) -> Frame:
    if not layout.long:
        return frame_of_columns(
            nw.from_native(table, eager_only=True),
            layout.channels,
            times,
            time_name=layout.timestamp or "",
            sort=options.sort,
            place=place,
        )
    codes, channels = codes_of(table[CHANNEL], place, CHANNEL)
    rows = _long_rows(table, times, codes, place)
    if not options.sort:
        check_long(rows, channels, place=place, name=layout.timestamp or "")
    frame = pivot(rows, channels, place=place, keep_last=options.sort)
    return replace(frame, zone=None if times is None else times.frame_zone)


def _long_rows(table: pa.Table, times: Times | None, codes: Ints, place: Place) -> LongRows:
    assert times is not None, "a long layout has timestamps"  # noqa: S101
    series: nw.Series[Any] = nw.from_native(table[VALUE], series_only=True)
    return LongRows(times.values, codes, numbers_of_series(series, VALUE, place))


def _wide_pieces(
    source: Source, layout: Layout, options: FileOptions, place: Place, *, rows: int
) -> Iterator[Frame]:
    previous: np.datetime64 | None = None
    clock = _Clock(layout, options.unit)
    for table in _rebatched(source.tables(layout.columns, layout.text), rows):
        times = clock.read(table, place)
        frame = frame_of_columns(
            nw.from_native(table, eager_only=True),
            layout.channels,
            times,
            time_name=layout.timestamp or "",
            place=place,
            previous=previous,
        )
        previous = None if frame.timestamps is None else frame.timestamps[-1]
        place = place.shifted(len(frame))
        yield frame


def _long_pieces(
    source: Source,
    layout: Layout,
    options: FileOptions,
    place: Place,
    *,
    rows: int,
    channels: list[str],
) -> Iterator[Frame]:
    clock = _Clock(layout, options.unit)

    def chunks() -> Iterator[LongRows]:
        start = place
        for table in source.tables(layout.columns, layout.text):
            times = clock.read(table, start)
            codes, names = codes_of(table[CHANNEL], start, CHANNEL)
            number = np.array([channels.index(name) for name in names])
            yield _long_rows(table, times, number[codes], start)
            start = start.shifted(len(table))

    for piece in long_pieces(chunks(), rows, channels, place=place, name=layout.timestamp or ""):
        yield replace(piece, zone=clock.frame_zone)


class _Clock:
    """Reads the timestamps of piece after piece: unit and zone of the first hold for all."""

    def __init__(self, layout: Layout, unit: str) -> None:
        self.layout, self.unit = layout, unit
        self.first: Times | None = None

    @property
    def frame_zone(self) -> str | None:
        """The zone as a frame says it."""
        return None if self.first is None else self.first.frame_zone

    def read(self, table: pa.Table, place: Place) -> Times | None:
        first = self.first
        before = None if first is None else first.counted
        times = _times(table, self.layout, self.unit, place, before)
        if times is None:
            return None
        if first is None:
            self.first = first = replace(times, values=times.values[:0])
        elif (times.zone is None) != (first.zone is None):
            raise mixed_zones(first.zone, times.zone, "before", place, 0, self.layout.timestamp)
        return replace(times, zone=first.zone)


def _names_in(source: Source, layout: Layout, place: Place) -> tuple[list[str], str | None]:
    """Channels of a long file and the one entity, from a first look at those columns alone."""
    found: dict[str, dict[str, None]] = {CHANNEL: {}, layout.entity or "": {}}
    columns = [name for name in (layout.entity, CHANNEL if layout.long else None) if name]
    for table in source.tables(columns, columns):
        for name in columns:
            _, names = codes_of(table[name], place, name)
            found[name] |= dict.fromkeys(names)
        place = place.shifted(len(table))
        if len(found[layout.entity or ""]) > 1:
            raise UsageError(
                f"{source.path} holds several entities, and is read in pieces only for one",
                remedy="Read it whole with imdiffusion.read: that gives a frame for each entity.",
            )
    return list(found[CHANNEL]), next(iter(found[layout.entity or ""]), None)


def _rebatched(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of `rows` rows; the last may have fewer."""
    held: list[pa.Table] = []
    count = 0
    for table in tables:
        held.append(table)
        count += len(table)
        if count < rows:
            continue
        whole = pa.concat_tables(held, promote_options="permissive")
        for start in range(0, count - count % rows, rows):
            yield whole.slice(start, rows)
        held, count = [whole.slice(count - count % rows)], count % rows
    if count:
        yield pa.concat_tables(held, promote_options="permissive")


def _slices(found: Frame | dict[str, Frame], rows: int) -> Iterator[Frame]:
    frame = next(iter(found.values())) if isinstance(found, dict) else found
    for start in range(0, len(frame), rows):
        yield replace(frame.slice(start, start + rows), rows=None)


# -- the recording that ships with the package: a real host under load, with injected faults
#
# `examples/recording` holds the programs that made it; `about` says on what machine and when.


@dataclass(frozen=True, slots=True)
class InjectedFault:
    """A fault injected while recording: UTC times, what was run, which channels it should move."""

    start: np.datetime64
    end: np.datetime64
    kind: str
    description: str
    command: str
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recording:
    """Normal rows to train on, rows with faults to test on, the faults, facts on the machine."""

    train: Frame
    test: Frame
    faults: list[InjectedFault]
    about: dict[str, Any]


def recording() -> Recording:
    """Read the bundled recording; DataError if the installation lacks a file of it."""
    return Recording(
        train=_part_of_recording("train.parquet"),
        test=_part_of_recording("test.parquet"),
        faults=[_fault(label) for label in json.loads(_text("faults.json"))],
        about=json.loads(_text("about.json")),
    )


def _fault(label: dict[str, Any]) -> InjectedFault:
    return InjectedFault(
        start=_utc(label["start"]),
        end=_utc(label["end"]),
        kind=label["kind"],
        description=label["description"],
        command=label["command"],
        channels=tuple(label["channels"]),
    )


def _utc(text: str) -> np.datetime64:
    moment = datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None)
    return np.datetime64(moment, "ns")


def _part_of_recording(name: str) -> Frame:
    with as_file(files("imdiffusion") / "assets" / "recording" / name) as path:
        if not path.is_file():
            raise _absent(name)
        frame = read(path)
    if isinstance(frame, dict):
        raise DataError(f"{name} of the bundled recording holds several series")
    return frame


def _text(name: str) -> str:
    file = files("imdiffusion") / "assets" / "recording" / name
    if not file.is_file():
        raise _absent(name)
    return file.read_text(encoding="utf-8")


def _absent(name: str) -> DataError:
    return DataError(
        f"this installation lacks {name} of the bundled recording",
        remedy="Reinstall with: pip install --force-reinstall --no-deps imdiffusion.",
    )
