"""JSON lines, plain or gzipped, as a stream of Arrow tables.

Arrow parses blocks of lines; a block it cannot make sense of is read again line by line with
Python's json module, which accepts more (NaN, huge integers) and knows the line to blame.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Collection, Generator, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.json as arrow_json

from imdiffusion.data.columns import Place, not_a_number, numbers_of_objects
from imdiffusion.data.csv_source import MISSING
from imdiffusion.errors import DataError

_BLOCK = 4 << 20  # bytes parsed at once


class JsonSource:
    """A file with one JSON object a line; its columns are the keys of all lines together."""

    dated: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        self.path = path
        self._place = Place(str(path), line_of=self.line_of)
        self._texts: set[str] = set()  # keys that hold text in the first row
        keys: dict[str, None] = {}
        for first, block in self._blocks():
            if not keys:
                (row,) = self._objects(block.partition(b"\n")[0], first)
                self._texts = {name for name, value in row.items() if isinstance(value, str)}
            keys |= dict.fromkeys(self._keys(block, first))
        if not keys:
            raise DataError(f"{path} holds no rows", remedy="Give one JSON object a line.")
        self.columns = tuple(keys)

    def tables(self, columns: Sequence[str], text: Collection[str]) -> Generator[pa.Table]:
        """The named columns, block by block; those not in `text` as float64."""
        for first, block in self._blocks():
            table = self._parse(block)
            done = None if table is None else _chosen(table, columns, text)
            yield self._chosen_slowly(block, first, columns, text) if done is None else done

    def line_of(self, row: int) -> int | None:
        """Line of the file, counted from 1, where row `row` stands."""
        with self._open() as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    if row == 0:
                        return number
                    row -= 1
        return None

    def _open(self) -> IO[bytes]:
        zipped = self.path.name.lower().endswith(".gz")
        return cast(IO[bytes], gzip.open(self.path) if zipped else self.path.open("rb"))

    def _blocks(self) -> Iterator[tuple[int, bytes]]:
        """Whole lines of about `_BLOCK` bytes, and the number of rows before them."""
        rows = 0
        try:
            with self._open() as file:
                while lines := file.readlines(_BLOCK):
                    filled = [line for line in lines if not line.isspace()]
                    if filled:
                        yield rows, b"".join(filled)
                    rows += len(filled)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(
                f"{self.path}: damaged or no gzip file, after row {rows}: {error}",
                remedy="Copy or compress the file again.",
            ) from error

    def _keys(self, block: bytes, first: int) -> list[str]:
        table = self._parse(block)
        if table is None:
            keys: dict[str, None] = {}
            for row in self._objects(block, first):
                keys |= dict.fromkeys(row)
            return list(keys)
        return list(table.column_names)

    def _parse(self, block: bytes) -> pa.Table | None:
        schema = pa.schema([(name, pa.string()) for name in sorted(self._texts)])
        try:
            block.decode("utf-8")
            table = arrow_json.read_json(
                io.BytesIO(block),
                read_options=arrow_json.ReadOptions(block_size=len(block) + 1),
                parse_options=arrow_json.ParseOptions(explicit_schema=schema),
            )
        except (pa.ArrowException, UnicodeDecodeError):
            return None  # the second look, line by line, decides
        return table if table.num_rows == block.rstrip().count(b"\n") + 1 else None

    def _objects(self, block: bytes, first: int) -> list[dict[str, Any]]:
        rows = []
        for index, line in enumerate(block.rstrip().split(b"\n")):
            try:
                row = json.loads(line.decode("utf-8-sig"))
            except UnicodeDecodeError as error:
                raise DataError(
                    self._place.says(f"not UTF-8 ({error.reason})", row=first + index),
                    remedy="Save the file as UTF-8, for instance with: iconv -f latin1 -t utf-8.",
                ) from error
            except ValueError as error:
                raise DataError(
                    self._place.says(f"broken JSON: {error}", row=first + index),
                    remedy="Write one whole JSON object a line.",
                ) from error
            if not isinstance(row, dict):
                raise DataError(
                    self._place.says("not a JSON object", row=first + index),
                    remedy='Write each row as {"channel": value, ...}.',
                )
            rows.append(row)
        return rows

    def _chosen_slowly(
        self, block: bytes, first: int, columns: Sequence[str], text: Collection[str]
    ) -> pa.Table:
        rows = self._objects(block, first)
        place = self._place.shifted(first)
        chosen = {}
        for name in columns:
            values = [row.get(name) for row in rows]
            if name not in text:
                values = [None if _missing(value) else value for value in values]
                chosen[name] = pa.array(numbers_of_objects(values, name, place), pa.float64())
            elif name in self._texts:
                chosen[name] = pa.array([_text(value) for value in values], pa.string())
            else:
                chosen[name] = self._numbers_or_blame(values, name, place)
        return pa.table(chosen)

    def _numbers_or_blame(self, values: list[Any], name: str, place: Place) -> Any:
        """A column of `text` that started with a number: it must go on so."""
        for row, value in enumerate(values):
            if value is not None and not isinstance(value, int | float):
                raise not_a_number(value, name, place, row)
        return pa.array(values)


def _chosen(table: pa.Table, columns: Sequence[str], text: Collection[str]) -> pa.Table | None:
    """The named columns of a block; None if one for numbers holds something else."""
    chosen = {}
    for name in columns:
        column = table[name] if name in table.column_names else pa.nulls(table.num_rows)
        if name not in text:
            kind = column.type
            if not (
                pa.types.is_integer(kind)
                or pa.types.is_floating(kind)
                or pa.types.is_boolean(kind)
                or pa.types.is_null(kind)
            ):
                return None
            column = column.cast(pa.float64(), safe=False)
        chosen[name] = column
    return pa.table(chosen)


def _missing(value: Any) -> bool:
    return isinstance(value, str) and value in MISSING


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)
