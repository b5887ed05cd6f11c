"""CSV files, plain or gzipped, as a stream of Arrow tables; `columns` says how one is written.

Arrow parses, with the type of every column fixed beforehand, so that a column may be empty for a
million rows before its first number. When Arrow fails, a slow second look with Python's own csv
module finds the row to blame.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Collection, Generator, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, NoReturn, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from imdiffusion.data.columns import (
    IGNORE,
    NUMBER,
    Place,
    decimal_mark,
    dialect_of,
    holds_values,
    no_numbers,
    not_a_number,
)
from imdiffusion.errors import DataError

MISSING = frozenset({"", "NaN", "nan", "NAN", "-nan", "NA", "N/A", "null", "NULL", "None"})
_WORDS = frozenset({"true", "True", "TRUE", "false", "False", "FALSE"})
_BLOCK = 1 << 20  # bytes parsed at once; Arrow reads some 32 blocks ahead
_SAMPLE = 100  # rows looked at to tell booleans from numbers, and lines to tell the dialect
_UNNAMED = " unnamed"  # the last column where each row ends in a separator: names have no blanks
_COMMA = r"^([+-]?\d*),(\d+(?:[eE][+-]?\d+)?)$"  # a number in text, whose decimal mark is a comma


class CsvSource:
    """A CSV file with one line of column names; raises DataError for anything else.

    A last column without a name counts for nothing as long as it is empty: each line ends in a
    separator. A value in it raises DataError.
    """

    dated: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        self.path = path
        self._zipped = path.name.lower().endswith(".gz")
        self._place = Place(str(path), line_of=self.line_of)
        self._header_lines = 0
        self._dialect = dialect_of(list(islice(self._lines(), _SAMPLE)))
        self._names = self.columns = self._header()
        self._sample = list(islice(self._rows(), _SAMPLE))
        if not self._sample:
            raise DataError(
                f"{path} has a header and no rows", remedy="Give a file with rows of data."
            )
        self._leave_out_an_empty_last_column()
        self._decimal = "."
        if self._dialect.separator != ",":
            with self._open() as file:
                self._decimal = decimal_mark(file, self._dialect.separator)

    def _leave_out_an_empty_last_column(self) -> None:
        named = len(self.columns) - (self.columns[-1] == "")
        if named and all(len(row) <= named or not any(row[named:]) for row in self._sample):
            widths = {len(row) for row in self._sample}
            self.columns = self.columns[:named]
            self._names = (*self.columns, *([_UNNAMED] if widths == {named + 1} else []))

    def tables(self, columns: Sequence[str], text: Collection[str]) -> Generator[pa.Table]:
        """The named columns, block by block; those in `text` as text, others as numbers."""
        self._check_names(columns)
        self._check_some_numbers([name for name in columns if name not in text])
        types = dict.fromkeys(self._names[len(self.columns) :], pa.string())
        types |= {
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
                        column_names=list(self._names),
                    ),
                    parse_options=arrow_csv.ParseOptions(
                        delimiter=self._dialect.separator,
                        ignore_empty_lines=len(self._names) > 1,
                    ),
                    convert_options=arrow_csv.ConvertOptions(
                        column_types=types,
                        decimal_point=self._decimal,
                        include_columns=[*columns, *self._names[len(self.columns) :]],
                        null_values=sorted(MISSING),
                        strings_can_be_null=False,
                    ),
                )
                rows = 0
                for batch in reader:
                    yield self._read(pa.Table.from_batches([batch]), text, rows)
                    rows += len(batch)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            self._blame(error, [name for name in columns if name not in text])

    def _read(self, table: pa.Table, text: Collection[str], before: int) -> pa.Table:
        """A block without its unnamed column, decimal commas in text as points."""
        if _UNNAMED in table.column_names:
            filled = pc.not_equal(pc.fill_null(table[_UNNAMED], ""), "")
            row = pc.index(filled, True).as_py()
            if row >= 0:
                value = table[_UNNAMED][row].as_py()
                raise DataError(
                    self._place.says(f"{value!r} is in a column without a name", row=before + row),
                    remedy="Name the last column, or remove it.",
                )
            table = table.drop_columns([_UNNAMED])
        if self._decimal == ",":
            for name in text:
                k = table.column_names.index(name)
                points = pc.replace_substring_regex(table[name], _COMMA, r"\1.\2")
                table = table.set_column(k, name, points)
        return table

    def line_of(self, row: int) -> int | None:
        """Line of the file, counted from 1, where data row `row` stands."""
        with self._open() as file:
            for number, line in enumerate(file, start=1):
                if number > self._header_lines and (line.strip(b"\r\n") or len(self._names) == 1):
                    if row == 0:
                        return number
                    row -= 1
        return None

    def _open(self) -> IO[bytes]:
        return cast(IO[bytes], gzip.open(self.path) if self._zipped else self.path.open("rb"))

    def _header(self) -> tuple[str, ...]:
        if self._dialect.names is not None:
            self._header_lines = self._dialect.skipped
            return tuple(name.strip() for name in self._dialect.names)
        for names in self._parsed():
            if names:
                columns = tuple(name.strip() for name in names)
                break
        else:
            raise DataError(f"{self.path} is empty", remedy="Give a file with a header and rows.")
        if any(columns) and holds_values(columns):
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
                    f"{self.path}: two columns have the name {name!r}",
                    remedy="Give every column a name of its own.",
                )

    def _boolean(self, name: str) -> bool:
        cells = set(self._cells(name))
        return bool(cells & _WORDS) and not any(self._is_number(cell) for cell in cells - MISSING)

    def _cells(self, name: str) -> list[str]:
        """What the first rows hold in a column; rows too short for it are told of later."""
        k = self.columns.index(name)
        return [row[k] if k < len(row) else "" for row in self._sample]

    def _check_some_numbers(self, names: Sequence[str]) -> None:
        for name in names:
            if any(cell in MISSING | _WORDS or self._is_number(cell) for cell in self._cells(name)):
                return
        if names:
            raise no_numbers(self._place, names)

    def _is_number(self, cell: str) -> bool:
        if self._decimal == ",":
            cell = cell.replace(".", "x").replace(",", ".")
        return NUMBER.fullmatch(cell.strip()) is not None

    def _rows(self) -> Iterator[list[str]]:
        rows = self._parsed()
        if self._dialect.names is None:
            next(row for row in rows if row)
        single = len(self._names) == 1
        return (row or [""] for row in rows if row or single)

    def _parsed(self) -> Iterator[list[str]]:
        """Every line as Python's csv module sees it; [] for an empty one."""
        skipped = self._dialect.skipped
        lines = islice(self._lines(), skipped, None)
        reader = csv.reader(lines, delimiter=self._dialect.separator)
        before = 0
        try:
            for row in reader:
                if self._header_lines == 0 and row:
                    self._header_lines = skipped + reader.line_num
                if reader.line_num > before + 1:
                    raise DataError(
                        f"{self.path}, line {skipped + before + 1}: "
                        "a value goes over several lines",
                        remedy="Remove line breaks and stray quotes from the values.",
                    )
                before = reader.line_num
                yield row
        except csv.Error as error:
            raise DataError(
                f"{self.path}, line {skipped + reader.line_num}: {error}",
                remedy="Correct that line.",
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
            if len(row) != len(self._names):
                raise DataError(
                    self._place.says(
                        f"{len(row)} values where the header names {len(self.columns)} columns",
                        row=index,
                    ),
                    remedy="Give every row as many values as there are columns.",
                ) from error
            for k, name, boolean in where:
                right = row[k] in _WORDS if boolean else self._is_number(row[k])
                if not (right or row[k] in MISSING):
                    raise not_a_number(row[k], name, self._place, index) from error
        raise DataError(
            f"{self.path} cannot be read as CSV: {error}", remedy="Check how it was written."
        ) from error
