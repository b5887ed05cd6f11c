"""CSV files, plain or gzipped, as a stream of Arrow tables.

Arrow parses, with the type of every column fixed beforehand, so that a column may be empty for a
million rows before its first number. When Arrow fails, a slow second look with Python's own csv
module finds the row to blame.
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, NoReturn, cast

import pyarrow as pa
import pyarrow.csv as arrow_csv

from imdiffusion.data.columns import IGNORE, no_numbers, not_a_number
from imdiffusion.data.place import Place
from imdiffusion.errors import DataError

MISSING = frozenset({"", "NaN", "nan", "NAN", "-nan", "NA", "N/A", "null", "NULL", "None"})
_WORDS = frozenset({"true", "True", "TRUE", "false", "False", "FALSE"})
_NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|inf(inity)?|nan)", re.IGNORECASE)
_BLOCK = 1 << 20  # bytes parsed at once; Arrow reads some 32 blocks ahead
_SAMPLE = 100  # rows looked at to tell booleans from numbers


class CsvSource:
    """A CSV file with one line of column names; raises DataError for anything else."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._zipped = path.name.lower().endswith(".gz")
        self._place = Place(str(path), line_of=self.line_of)
        self._header_lines = 0
        self.columns = self._header()
        self._sample = list(islice(self._rows(), _SAMPLE))
        if not self._sample:
            raise DataError(
                f"{path} has a header and no rows", remedy="Give a file with rows of data."
            )

    def tables(self, columns: Sequence[str], text: Collection[str]) -> Iterator[pa.Table]:
        """The named columns, block by block; those in `text` as text, others as numbers."""
        self._check_names(columns)
        self._check_some_numbers([name for name in columns if name not in text])
        types = {
            name: pa.string()
            if name in text
            else pa.bool_()
            if self._boolean(name)
            else pa.float64()
            for name in columns
        }
        try:
            with pa.input_stream(
                str(self.path), compression="gzip" if self._zipped else None
            ) as stream:
                reader = arrow_csv.open_csv(
                    stream,
                    read_options=arrow_csv.ReadOptions(
                        block_size=_BLOCK,
                        skip_rows=self._header_lines,
                        column_names=list(self.columns),
                    ),
                    parse_options=arrow_csv.ParseOptions(ignore_empty_lines=len(self.columns) > 1),
                    convert_options=arrow_csv.ConvertOptions(
                        column_types=types,
                        include_columns=list(columns),
                        null_values=sorted(MISSING),
                        strings_can_be_null=False,
                    ),
                )
                for batch in reader:
                    yield pa.Table.from_batches([batch])
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            self._blame(error, [name for name in columns if name not in text])

    def line_of(self, row: int) -> int | None:
        """Line of the file, counted from 1, where data row `row` stands."""
        with self._open() as file:
            for number, line in enumerate(file, start=1):
                if number > self._header_lines and (line.strip(b"\r\n") or len(self.columns) == 1):
                    if row == 0:
                        return number
                    row -= 1
        return None

    def _open(self) -> IO[bytes]:
        return cast(IO[bytes], gzip.open(self.path) if self._zipped else self.path.open("rb"))

    def _header(self) -> tuple[str, ...]:
        for names in self._parsed():
            if names:
                columns = tuple(name.strip() for name in names)
                break
        else:
            raise DataError(f"{self.path} is empty", remedy="Give a file with a header and rows.")
        numeric = [_NUMBER.fullmatch(name) is not None for name in columns]
        if all(numeric) and list(columns) != [str(k) for k in range(len(columns))]:
            raise DataError(
                f"{self.path}: the first line holds numbers, not the names of columns",
                remedy="Put a line with the names of the columns before the data.",
            )
        return columns

    def _check_names(self, used: Sequence[str]) -> None:
        for k, name in enumerate(self.columns):
            if name == "" and name in used:
                raise DataError(
                    f"{self.path}: column {k + 1} has no name",
                    remedy="Name it, remove it (pandas: to_csv(index=False)), or "
                    + IGNORE.format(name=""),
                )
            if name in self.columns[:k]:
                raise DataError(
                    f"{self.path}: the name {name!r} stands for two columns",
                    remedy="Give every column a name of its own.",
                )

    def _boolean(self, name: str) -> bool:
        cells = set(self._cells(name))
        return bool(cells & _WORDS) and not any(_is_number(cell) for cell in cells - MISSING)

    def _cells(self, name: str) -> list[str]:
        """What the first rows hold in a column; rows too short for it are told of later."""
        k = self.columns.index(name)
        return [row[k] if k < len(row) else "" for row in self._sample]

    def _check_some_numbers(self, names: Sequence[str]) -> None:
        for name in names:
            if any(cell in MISSING | _WORDS or _is_number(cell) for cell in self._cells(name)):
                return
        if names:
            raise no_numbers(self._place, names)

    def _rows(self) -> Iterator[list[str]]:
        rows = self._parsed()
        next(row for row in rows if row)
        single = len(self.columns) == 1
        return (row or [""] for row in rows if row or single)

    def _parsed(self) -> Iterator[list[str]]:
        """Every line as Python's csv module sees it; [] for an empty one."""
        reader = csv.reader(self._lines())
        before = 0
        try:
            for row in reader:
                if self._header_lines == 0 and row:
                    self._header_lines = reader.line_num
                if reader.line_num > before + 1:
                    raise DataError(
                        f"{self.path}, line {before + 1}: a value goes over several lines",
                        remedy="Remove line breaks and stray quotes from the values.",
                    )
                before = reader.line_num
                yield row
        except csv.Error as error:
            raise DataError(
                f"{self.path}, line {reader.line_num}: {error}", remedy="Correct that line."
            ) from error

    def _lines(self) -> Iterator[str]:
        number = 0
        try:
            with self._open() as file:
                for number, line in enumerate(file, start=1):
                    yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            bad = error.object[error.start]
            raise DataError(
                f"{self.path}, line {number}: not UTF-8 (byte 0x{bad:02x})",
                remedy="Save the file as UTF-8, for instance with: iconv -f latin1 -t utf-8.",
            ) from error
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(
                f"{self.path}: damaged or no gzip file, after line {number}: {error}",
                remedy="Copy or compress the file again.",
            ) from error

    def _blame(self, error: Exception, numbers: Sequence[str]) -> NoReturn:
        """Raise DataError for the row that Arrow could not read."""
        where = [(self.columns.index(name), name, self._boolean(name)) for name in numbers]
        for index, row in enumerate(self._rows()):
            if len(row) != len(self.columns):
                raise DataError(
                    self._place.says(
                        f"{len(row)} values where the header names {len(self.columns)} columns",
                        row=index,
                    ),
                    remedy="Give every row as many values as there are columns.",
                ) from error
            for k, name, boolean in where:
                right = row[k] in _WORDS if boolean else _is_number(row[k])
                if not (right or row[k] in MISSING):
                    raise not_a_number(row[k], name, self._place, index) from error
        raise DataError(
            f"{self.path} cannot be read as CSV: {error}", remedy="Check how it was written."
        ) from error


def _is_number(cell: str) -> bool:
    return _NUMBER.fullmatch(cell.strip()) is not None
