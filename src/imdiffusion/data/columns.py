"""One column or one array of any accepted form -> floating numbers, NaN where missing."""

from __future__ import annotations

import csv
import math
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import narwhals as nw
import numpy as np

from imdiffusion.arrays import Flags, Ints, Reals
from imdiffusion.errors import DataError, DataWarning, UsageError


@dataclass(frozen=True, slots=True)
class Place:
    """The source of a run of rows. Rows are counted from 0 in code, from 1 in messages."""

    source: str = ""  # a file; empty for a table or an array
    first: int = 0  # row of the source where the run starts
    rows: Ints | None = None  # rows of the source, where they are not in one piece
    line_of: Callable[[int], int | None] | None = None  # row of the source -> line of the file

    def row(self, index: int) -> str:
        """Row `index` of the run: "row 7", or "row 7 (line 8)" for a file of lines."""
        number = self.first + (index if self.rows is None else int(self.rows[index]))
        line = None if self.line_of is None else self.line_of(number)
        return f"row {number + 1}" if line is None else f"row {number + 1} (line {line})"

    def says(self, what: str, *, row: int | None = None, column: str | None = None) -> str:
        """ "train.csv, row 7 (line 8), column 'cpu': what"."""
        parts = [self.source] if self.source else []
        if row is not None:
            parts.append(self.row(row))
        if column is not None:
            parts.append(f"column {column!r}")
        return f"{', '.join(parts)}: {what}" if parts else what

    def shifted(self, rows: int) -> Place:
        """The run that starts `rows` rows later."""
        return replace(self, first=self.first + rows)

    def chosen(self, rows: Ints) -> Place:
        """The run made of these rows of this one."""
        return replace(self, rows=rows if self.rows is None else self.rows[rows])


# -- how a CSV file is written: separator, decimal mark, and where its header stands
#
# Separators are the comma, the semicolon, the tab and the bar. Before the header there may be lines
# of comment (#) and the line by which a spreadsheet names the separator (sep=;). The header itself
# may be the last comment, as numpy writes it. Where the comma does not separate, it may be the
# decimal mark: the first broken number of the file tells.

SEPARATORS = (",", ";", "\t", "|")
NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|inf(inity)?|nan)", re.IGNORECASE)
_SEP_LINE = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
DATE = re.compile(r"\d{4}-\d\d-\d\d([T ].*)?")
_BROKEN = re.compile(rb'(?:^|[;\t|])\s*"?[+-]?\d*([.,])\d+(?:[eE][+-]?\d+)?"?\s*(?=[;\t|\r\n]|$)')


@dataclass(frozen=True, slots=True)
class Dialect:
    """separator; skipped = lines before the header; names = the header, where a comment is it."""

    separator: str
    skipped: int
    names: tuple[str, ...] | None = None


def dialect_of(lines: Sequence[str]) -> Dialect:
    """The dialect that the first lines of a file show."""
    skipped, separator, comment = 0, None, ""
    for line in lines:
        text = line.rstrip("\r\n")
        named = _SEP_LINE.fullmatch(text)
        if named is not None and separator is None:
            separator = named[1]
        elif text.startswith("#"):
            comment = text.lstrip("#").strip()
        elif text.strip():
            break
        skipped += 1
    rest = [line for line in lines[skipped:] if line.strip()]
    if not rest:
        return Dialect(separator or ",", skipped)
    separator = separator or _separator(rest)
    first, names = fields(rest[0], separator), fields(comment, separator)
    if holds_values(first) and len(names) == len(first) and not holds_values(names):
        return Dialect(separator, skipped, tuple(names))
    return Dialect(separator, skipped)


def fields(line: str, separator: str) -> list[str]:
    """The fields of one line."""
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        return []


def holds_values(row: Sequence[str]) -> bool:
    """Whether a row holds nothing but numbers and dates: no header, unless it is 0, 1, 2, ..."""
    cells = [cell.strip() for cell in row if cell.strip()]
    if cells == [str(k) for k in range(len(cells))]:
        return False
    return all(NUMBER.fullmatch(cell) or DATE.fullmatch(cell) for cell in cells)


def decimal_mark(lines: Iterable[bytes], separator: str) -> str:
    """The decimal mark, by the first broken number of the file; "." where there is none."""
    if separator == ",":
        return "."
    for line in lines:
        found = _BROKEN.search(line)
        if found is not None:
            return found[1].decode()
    return "."


def _separator(lines: Sequence[str]) -> str:
    """The separator under which header and rows have as many fields, the comma first."""
    counts = {mark: len(fields(lines[0], mark)) for mark in SEPARATORS}
    several = [mark for mark in SEPARATORS if counts[mark] > 1]
    rows = lines[1:6]
    for mark in several:
        if all(abs(len(fields(row, mark)) - counts[mark]) <= 1 for row in rows):
            return mark
    return several[0] if several else ","


_ANYWHERE = Place()
_NUMBERS = (bool, int, float, Decimal, np.floating, np.integer, np.bool_)
IGNORE = "leave the column out with --ignore-column {name} (ignore_columns=[{name!r}])."


def numbers_of_series(series: nw.Series[Any], name: str, place: Place) -> Reals:
    """A narwhals series -> float32 as it is, anything else numeric as float64; null is NaN.

    Raises DataError naming the column and the row of the first value that is not a number.
    """
    kind = series.dtype
    if kind == nw.Float32 or kind == nw.Float64:
        return np.asarray(series.to_numpy())
    if kind == nw.Unknown and series.null_count() == len(series):  # Arrow's type of no value
        return np.full(len(series), np.nan)
    if isinstance(kind, nw.Decimal | nw.Object | nw.Unknown):
        return numbers_of_objects(series.to_list(), name, place)
    if kind.is_numeric() or kind == nw.Boolean:
        return np.asarray(series.cast(nw.Float64).to_numpy(), dtype=np.float64)
    filled = (~series.is_null()).to_numpy()
    if not filled.any():
        return np.full(len(series), np.nan)
    row = int(np.argmax(filled))
    raise not_a_number(series[row], name, place, row)


def numbers_of_objects(values: list[Any], name: str, place: Place) -> Reals:
    """Python numbers, booleans, decimals and None (or NA, NaT) -> float64 (T,)."""
    numbers = np.empty(len(values))
    for row, value in enumerate(values):
        if isinstance(value, _NUMBERS):
            numbers[row] = _as_float(value)
        elif value is None or type(value).__name__ in {"NAType", "NaTType"}:
            numbers[row] = math.nan
        else:
            raise not_a_number(value, name, place, row)
    return numbers


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer beyond 1e308; infinities are refused by name later
        return math.inf


def not_a_number(value: Any, name: str, place: Place, row: int) -> DataError:
    """The error of a value that should have been a number."""
    shown = repr(value if isinstance(value, str) else str(value))
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    remedy = f"Correct it, leave it empty, or {IGNORE.format(name=name)}"
    if isinstance(value, str) and DATE.fullmatch(value.strip()):
        remedy = f"If it is the time, say so with --timestamp {name} (timestamp={name!r}). {remedy}"
    return DataError(place.says(f"{shown} is not a number", row=row, column=name), remedy=remedy)


def matrix_of_array(x: Any, place: Place) -> Reals:
    """An array (T, K), or (T,) for one channel -> (T, K); float32 and float64 without a copy.

    Raises DataError for another number of axes, and for values that are not numbers.
    """
    if isinstance(x, np.ma.MaskedArray):
        x = np.ma.filled(x.astype(np.float64), np.nan)
    try:
        array = np.asarray(x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            place.says(f"{type(x).__name__} cannot be read as an array: {error}"),
            remedy="Give an array (T, K), or a pandas, polars or pyarrow table.",
        ) from error
    if array.ndim == 1 and array.dtype.names is None:
        array = array[:, None]
    if array.ndim != 2:
        raise DataError(
            place.says(f"an array of shape {array.shape} is not a series"),
            remedy="Give an array (T, K): a row a time, a column a channel.",
        )
    if array.dtype in (np.float32, np.float64):
        return array
    if array.dtype.kind in "OU":
        matrix = np.empty(array.shape)
        for k in range(array.shape[1]):
            matrix[:, k] = numbers_of_objects(array[:, k].tolist(), f"c{k}", place)
        return matrix
    if array.dtype.kind in "fiub":
        return array.astype(np.float32 if array.dtype == np.float16 else np.float64)
    raise DataError(
        place.says(f"an array of {array.dtype} does not hold real numbers"),
        remedy="Give an array of floats, integers or booleans.",
    )


def check_finite(values: Reals, channels: tuple[str, ...], place: Place) -> Flags:
    """True where observed (not NaN), (T, K); raises DataError naming the first infinity."""
    observed = ~np.isnan(values)
    for start in range(0, len(values), 65536):  # a block at a time: no third mask of the whole
        block = np.isinf(values[start : start + 65536])
        if block.any():
            row, k = (int(at) for at in np.argwhere(block)[0])
            value = values[start + row, k]
            raise DataError(
                place.says(f"{value} is infinite", row=start + row, column=channels[k]),
                remedy="Replace infinities by NaN: that counts as missing.",
            )
    return observed


def check_channels(channels: tuple[str, ...], place: Place) -> None:
    """Raise DataError unless there are names and each stands once."""
    if not channels:
        raise no_numbers(place)
    for k, name in enumerate(channels):
        if name in channels[:k]:
            raise DataError(
                place.says("two columns have this name", column=name),
                remedy=f"Rename one of them, or {IGNORE.format(name=name)}",
            )


def check_rows(count: int) -> None:
    """Raise DataError for a table or array without rows."""
    if not count:
        raise DataError("there are no rows", remedy="Give data with rows.")


def no_numbers(place: Place, texts: Sequence[str] = ()) -> DataError:
    """The error of data without a channel; `texts` are columns that hold text instead."""
    held = f" ({', '.join(map(repr, texts))} hold text)" if texts else ""
    return DataError(
        place.says(f"there is no numeric column{held}"),
        remedy="Give at least one column of numbers beside the timestamps.",
    )


def chosen_columns(
    there: Sequence[str], chosen: Sequence[str] | None, left_out: Collection[str]
) -> list[str]:
    """The chosen columns of a table, or all that are not left out.

    Raises UsageError for a chosen column that is not there.
    """
    if chosen is None:
        return [name for name in there if name not in left_out]
    for name in chosen:
        if name not in there:
            raise UsageError(
                f"the table has no column {name!r}",
                remedy=f"Its columns are {', '.join(map(str, there))}.",
            )
    return list(chosen)


def check_ignored(ignored: Iterable[str], there: Iterable[str], place: Place = _ANYWHERE) -> None:
    """Warn with DataWarning of columns to leave out that are not there: perhaps a slip."""
    absent = [name for name in ignored if name not in set(there)]
    if absent:
        warnings.warn(
            place.says(f"there is no column {absent[0]!r} to leave out"), DataWarning, stacklevel=4
        )
