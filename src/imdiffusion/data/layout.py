"""How a file lays out its series: wide (a column a channel) or long (a row a channel and time)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa

from imdiffusion.arrays import Instants, Ints, Reals
from imdiffusion.data.columns import Place, check_ignored, no_numbers
from imdiffusion.data.csv_source import CsvSource
from imdiffusion.data.frame import Frame
from imdiffusion.data.json_source import JsonSource
from imdiffusion.data.parquet_source import ParquetSource
from imdiffusion.data.tables import SAMPLE, USUAL, find_time, warn_of_times
from imdiffusion.data.timestamps import text_of
from imdiffusion.errors import DataError, DataWarning, UsageError

CHANNEL, VALUE = "channel", "value"


@dataclass(frozen=True)
class FileOptions:
    """How to read a file.

    timestamp       the column of timestamps; a wide file may lack the usual "timestamp", and where
                    it does, a column that shows itself as the time is taken (`tables.find_time`)
    layout          "wide", "long" (entity, timestamp, channel, value), or "auto": by the columns
    entity_column   the column that tells entities apart, where there is one
    unit            of timestamps given as numbers: s, ms, us, ns, or "auto": by their magnitude
    ignore_columns  columns that are no channels
    sort            sort rows by time, and keep the last of rows with one timestamp
    """

    timestamp: str = "timestamp"
    layout: Literal["auto", "wide", "long"] = "auto"
    entity_column: str = "entity"
    unit: Literal["auto", "s", "ms", "us", "ns"] = "auto"
    ignore_columns: tuple[str, ...] = ()
    sort: bool = False


class Source(Protocol):
    """A file whose rows come as Arrow tables."""

    path: Path
    columns: tuple[str, ...]
    dated: tuple[str, ...]  # columns whose own type is a date or time

    def tables(self, columns: Sequence[str], text: Collection[str]) -> Generator[pa.Table]:
        """All rows in order, some at a time; columns in `text` may hold text, others numbers."""
        ...

    def line_of(self, row: int) -> int | None:
        """Line of the file where a row stands, both counted as people do and as code does."""
        ...


_FORMATS: dict[str, Callable[[Path], Source]] = {
    ".csv": CsvSource,
    ".csv.gz": CsvSource,
    ".parquet": ParquetSource,
    ".jsonl": JsonSource,
    ".ndjson": JsonSource,
    ".jsonl.gz": JsonSource,
    ".ndjson.gz": JsonSource,
}


@dataclass(frozen=True, slots=True)
class Layout:
    """What each column of a file is for."""

    long: bool
    timestamp: str | None
    entity: str | None
    channels: tuple[str, ...]  # columns of numbers; of a long file its one column of values

    @property
    def text(self) -> tuple[str, ...]:
        """Columns that are not numbers to begin with."""
        names = (self.entity, self.timestamp, CHANNEL if self.long else None)
        return tuple(name for name in names if name is not None)

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read."""
        return (*self.text, *self.channels)


def open_source(path: str | Path) -> Source:
    """Open a file by its suffix; raises DataError if it is absent, empty, or of no known form."""
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path} is a folder, not a file", remedy="Name a file in it.")
    form = _FORMATS.get(suffix_of(path).lower())
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(
            f"there is no file {path}"
            if isinstance(error, FileNotFoundError)
            else f"{path} cannot be read: {error.strerror}",
            remedy="Check its name and the folder.",
        ) from error
    if form is None:
        raise DataError(
            f"{path} has no suffix of a known form",
            remedy=f"Give a file that ends in {', '.join(_FORMATS)}.",
        )
    if not size:
        raise DataError(f"{path} is empty", remedy="Give a file with a header and rows.")
    try:
        return form(path)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror or error}",
            remedy="Check that you may read it.",
        ) from error


def suffix_of(path: Path) -> str:
    """The end of a file's name that tells its form, as it is written; "" for no known form."""
    found = next((suffix for suffix in _FORMATS if path.name.lower().endswith(suffix)), "")
    return path.name[len(path.name) - len(found) :]


def layout_of(source: Source, options: FileOptions) -> Layout:
    """Find out what the columns of a file are for; raises DataError where some are missing."""
    place = Place(str(source.path))
    check_ignored(options.ignore_columns, source.columns, place)
    columns = [name for name in source.columns if name not in options.ignore_columns]
    entity = options.entity_column if options.entity_column in columns else None
    mixed = entity is not None or CHANNEL in columns  # then times begin again within the file
    others = [name for name in columns if name != entity]
    timestamp = _timestamp(source, options, others, place, sort=options.sort or mixed)
    if options.layout not in ("auto", "wide", "long"):
        raise UsageError(f"unknown layout {options.layout!r}", remedy="Use auto, wide or long.")
    known = {entity, timestamp, CHANNEL, VALUE}
    whole = {timestamp or options.timestamp, CHANNEL, VALUE}
    if options.layout == "long" or (
        options.layout == "auto" and whole <= set(columns) and set(columns) <= known
    ):
        _check_long(columns, whole, known, place)
        return Layout(True, timestamp, entity, (VALUE,))
    if timestamp is None and options.timestamp != USUAL:
        raise _no_column(options.timestamp, columns, place)
    channels = tuple(name for name in columns if name not in (entity, timestamp))
    if not channels:
        raise no_numbers(place)
    return Layout(False, timestamp, entity, channels)


def _timestamp(
    source: Source, options: FileOptions, columns: list[str], place: Place, *, sort: bool
) -> str | None:
    """The column of the time: the one that was named, or else one that shows itself."""

    def sample(name: str) -> pa.ChunkedArray:
        with closing(source.tables([name], [name])) as tables:
            return next(tables)[name][:SAMPLE]

    if options.timestamp in columns:
        warn_of_times((name for name in columns if name != options.timestamp), sample, place=place)
        return options.timestamp
    if options.timestamp != USUAL:
        return None
    return find_time(columns, sample, dated=source.dated, sort=sort, place=place)


def _check_long(columns: list[str], whole: set[str], known: set[str | None], place: Place) -> None:
    for name in sorted(whole - set(columns)):
        raise _no_column(name, columns, place)
    others = [name for name in columns if name not in known]
    if others:
        raise DataError(
            place.says("a long file has no place for it", column=others[0]),
            remedy=f"Remove it, or leave it out with --ignore-column {others[0]}.",
        )


def _no_column(name: str, columns: list[Any], place: Place) -> DataError:
    return DataError(
        place.says("there is no such column", column=name),
        remedy=f"The columns are {', '.join(map(repr, columns))}.",
    )


# -- long rows (time, channel, value) -> a matrix (T, K)


@dataclass(frozen=True, slots=True)
class LongRows:
    """N long rows: times datetime64[ns] (N,), channel numbers codes (N,), values (N,)."""

    times: Instants
    codes: Ints
    values: Reals

    def __len__(self) -> int:
        return len(self.times)

    def take(self, rows: Ints | slice) -> LongRows:
        """Some of the rows."""
        return LongRows(self.times[rows], self.codes[rows], self.values[rows])

    def join(self, other: LongRows) -> LongRows:
        """These rows, then those."""
        return LongRows(
            np.concatenate([self.times, other.times]),
            np.concatenate([self.codes, other.codes]),
            np.concatenate([self.values, other.values]),
        )


def codes_of(column: pa.Array, place: Place, name: str) -> tuple[Ints, list[str]]:
    """Number the names in a column by first appearance; raises DataError where one is missing."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    column = column.cast(pa.string())
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    coded = column.dictionary_encode()
    names = coded.dictionary.to_pylist()
    codes = coded.indices.fill_null(-1).to_numpy().astype(np.int64)
    wrong = codes < 0
    if "" in names:
        wrong |= codes == names.index("")
    if wrong.any():
        raise DataError(
            place.says("the name is missing", row=int(np.argmax(wrong)), column=name),
            remedy="Name it in every row.",
        )
    return codes, names


def check_long(rows: LongRows, channels: list[str], *, place: Place, name: str) -> None:
    """Raise DataError unless each channel's timestamps strictly increase, row by row."""
    order = np.argsort(rows.codes, kind="stable")
    times, codes = rows.times[order], rows.codes[order]
    wrong = np.flatnonzero((codes[1:] == codes[:-1]) & (times[1:] <= times[:-1]))
    if not wrong.size:
        return
    at = wrong[np.argmin(order[wrong + 1])]  # the first in the file
    before, after = int(order[at]), int(order[at + 1])
    channel, instant = channels[rows.codes[after]], text_of(rows.times[after])
    if rows.times[before] == rows.times[after]:
        what = f"duplicate timestamp {instant} of channel {channel!r}"
        remedy = "Remove one of the two, or keep the last of them with --sort (sort=True)."
    else:
        what = f"unsorted timestamps: {instant} of channel {channel!r} comes after a later one"
        remedy = "Sort the rows by time, or have them sorted with --sort (sort=True)."
    raise DataError(
        place.says(f"{what} in {place.row(before)}", row=after, column=name), remedy=remedy
    )


def pivot(rows: LongRows, channels: list[str], *, place: Place, keep_last: bool = False) -> Frame:
    """The frame of long rows: a row a distinct time; pairs that are absent are not observed.

    Of several values for one time and channel the last stays, with a DataWarning, if `keep_last`;
    else they raise DataError. An infinite value raises DataError.
    """
    infinite = np.isinf(rows.values)
    if infinite.any():
        row = int(np.argmax(infinite))
        raise DataError(
            place.says(
                f"{rows.values[row]} is infinite", row=row, column=channels[rows.codes[row]]
            ),
            remedy="Replace infinities by NaN: that counts as missing.",
        )
    times, slot = np.unique(rows.times, return_inverse=True)
    cell = slot * len(channels) + rows.codes
    values: Reals = np.full((len(times), len(channels)), np.nan, dtype=rows.values.dtype)
    _check_pairs(cell, rows, channels, place=place, keep_last=keep_last)
    values.reshape(-1)[cell] = rows.values  # of equal cells numpy keeps the last
    return Frame(values, ~np.isnan(values), times, tuple(channels), kind="pyarrow")


def _check_pairs(
    cell: Ints, rows: LongRows, channels: list[str], *, place: Place, keep_last: bool
) -> None:
    order = np.argsort(cell, kind="stable")
    again = np.flatnonzero(cell[order][1:] == cell[order][:-1])
    if not again.size:
        return
    before, after = int(order[again[0]]), int(order[again[0] + 1])
    what = (
        f"a second value for channel {channels[rows.codes[after]]!r} at "
        f"{text_of(rows.times[after])}, after {place.row(before)}"
    )
    if not keep_last:
        raise DataError(
            place.says(what, row=after),
            remedy="Remove one of the two, or keep the last of them with --sort (sort=True).",
        )
    warnings.warn(
        place.says(f"{len(again)} values are replaced by later ones; {what}", row=after),
        DataWarning,
        stacklevel=4,
    )


def long_pieces(
    chunks: Iterable[LongRows], size: int, channels: list[str], *, place: Place, name: str
) -> Iterator[Frame]:
    """Frames of `size` distinct times from long rows that arrive in chunks, in the order of time.

    Raises DataError where they are not in that order, or a pair (time, channel) stands twice.
    """
    held: LongRows | None = None
    for rows in chunks:
        held = rows if held is None else held.join(rows)
        back = np.flatnonzero(held.times[1:] < held.times[:-1])
        if back.size:
            raise DataError(
                place.says(
                    "unsorted timestamps: rows are not in the order of time, which reading in "
                    "pieces needs",
                    row=int(back[0]) + 1,
                    column=name,
                ),
                remedy="Sort the file by time, or read it whole (imdiffusion.read).",
            )
        changes = np.flatnonzero(held.times[1:] != held.times[:-1]) + 1
        while len(changes) >= size:
            cut = int(changes[size - 1])
            yield pivot(held.take(slice(0, cut)), channels, place=place)
            held, place = held.take(slice(cut, None)), place.shifted(cut)
            changes = changes[size:] - cut
    if held is not None and len(held):
        yield pivot(held, channels, place=place)
