"""Text tables as people publish them: preambles, blanks in headers, semicolons, decimal commas."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
from numpy.typing import NDArray

from imdiffusion.errors import DataError

_HEAD = 20  # lines among which the header is looked for
_MISSING = ["", " ", "NaN", "nan", "NA", "N/A", "#N/A", "null", "NULL", "None"]
_AGAIN = "Copy or export it again from its source."


@dataclass(frozen=True, slots=True)
class Sheet:
    """A text table: the names of its columns, and where and how its rows begin."""

    path: Path
    header: tuple[str, ...]
    skip: int  # lines before the first row
    delimiter: str = ","

    def numbers(self, names: Sequence[str]) -> NDArray[np.float32]:
        """The named columns as float32 (T, K), NaN where a field is empty.

        Raises DataError for text that is no number, for infinities, and for rows of other length.
        """
        table = self._numbers(names)
        values = np.empty((len(table), len(names)), np.float32)
        for k in range(len(names)):
            values[:, k] = table.column(k).to_numpy()
        infinite = np.argwhere(np.isinf(values))
        if len(infinite):
            row, k = infinite[0]
            raise DataError(
                f"{self.path}, row {row + 1}, column {names[k]!r}: it is infinite", remedy=_AGAIN
            )
        return values

    def texts(self, name: str) -> list[str]:
        """A column as text, without blanks around it; "" where it is empty."""
        column = self._read([name], pa.string(), ".").column(0)
        return [(text or "").strip() for text in column.to_pylist()]

    def _numbers(self, names: Sequence[str]) -> pa.Table:
        points = [".", ","] if self.delimiter == ";" else ["."]
        for point in points[:-1]:
            try:
                return self._read(names, pa.float32(), point)
            except DataError:  # what is no number with a point may be one with a comma
                continue
        return self._read(names, pa.float32(), points[-1])

    def _read(self, names: Sequence[str], kind: pa.DataType, point: str) -> pa.Table:
        # Columns go by position: a header may hold a name, or none at all, several times.
        every = [str(k) for k in range(len(self.header))]
        chosen = [str(self.header.index(name)) for name in names]
        try:
            return arrow_csv.read_csv(
                self.path,
                read_options=arrow_csv.ReadOptions(column_names=every, skip_rows=self.skip),
                parse_options=arrow_csv.ParseOptions(delimiter=self.delimiter),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(chosen, kind),
                    include_columns=chosen,
                    null_values=_MISSING,
                    strings_can_be_null=True,
                    decimal_point=point,
                ),
            )
        except (pa.ArrowException, OSError) as error:
            named = ", ".join(repr(name) for name in names[:1]) + (" ..." if names[1:] else "")
            raise DataError(
                f"{self.path} cannot be read (columns {named}): {error}", remedy=_AGAIN
            ) from error


def open_sheet(path: Path, marks: Collection[str]) -> Sheet:
    """The table in a file whose header is the first line that has all `marks` among its names.

    Names lose blanks around them and what stands before a backslash (a path of the recorder).
    Raises DataError if no line near the start is such a header.
    """
    for skip, line in enumerate(_first_lines(path), start=1):
        for delimiter in (",", ";", "\t"):
            cells = next(csv.reader([line], delimiter=delimiter), [])
            names = tuple(cell.rpartition("\\")[2].strip() for cell in cells)
            if set(marks) <= set(names):
                return Sheet(path, names, skip, delimiter)
    raise DataError(
        f"{path} has no header with {' and '.join(map(repr, marks))} in its first {_HEAD} lines",
        remedy=_AGAIN,
    )


def open_bare(path: Path, name: str = "f{:02d}") -> Sheet:
    """The table in a comma-separated file without a header; columns are named by position."""
    line = next(_first_lines(path), "")
    if not line.strip():
        raise DataError(f"{path} is empty", remedy=_AGAIN)
    return Sheet(path, tuple(name.format(k) for k in range(line.count(",") + 1)), 0)


def trailing_empty(values: NDArray[np.float32]) -> int:
    """The number of rows at the end in which nothing was observed."""
    filled = np.flatnonzero(~np.isnan(values).all(axis=1))
    return len(values) - (int(filled[-1]) + 1 if len(filled) else 0)


def _first_lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            yield from islice(file, _HEAD)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", remedy=_AGAIN) from error
