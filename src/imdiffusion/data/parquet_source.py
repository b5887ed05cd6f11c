"""Parquet files as a stream of Arrow tables."""

from __future__ import annotations

import re
from collections.abc import Collection, Generator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet

from imdiffusion.errors import DataError

_ROWS = 32768  # rows read at once
_BUFFER = 1 << 18  # bytes of each column read at once
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")


class ParquetSource:
    """A Parquet file; an index without a name that pandas stored counts only if it is a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with parquet.ParquetFile(path) as file:
                schema, rows = file.schema_arrow, file.metadata.num_rows
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from error
        if not rows:
            raise DataError(f"{path} holds no rows", remedy="Give a file with rows of data.")
        self._stored = {field.name: field.name for field in schema}
        for field in schema:
            if _PANDAS_INDEX.fullmatch(field.name):
                del self._stored[field.name]
                if pa.types.is_timestamp(field.type) and "timestamp" not in schema.names:
                    self._stored["timestamp"] = field.name
        self.columns = tuple(self._stored)
        dated = {
            f.name for f in schema if pa.types.is_timestamp(f.type) or pa.types.is_date(f.type)
        }
        self.dated = tuple(name for name, stored in self._stored.items() if stored in dated)

    def tables(self, columns: Sequence[str], text: Collection[str]) -> Generator[pa.Table]:
        """The named columns, in their own types, some rows at a time."""
        stored = [self._stored[name] for name in columns]
        try:
            # By default pyarrow keeps what it has read, in the end the whole file.
            with parquet.ParquetFile(self.path, pre_buffer=False, buffer_size=_BUFFER) as file:
                for batch in file.iter_batches(batch_size=_ROWS, columns=stored):
                    table = pa.Table.from_batches([batch]).select(stored)
                    yield table.rename_columns(list(columns))
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from error

    def groups(self) -> list[int]:
        """Number of rows of each row group, in order."""
        try:
            with parquet.ParquetFile(self.path) as file:
                about = file.metadata
                return [about.row_group(g).num_rows for g in range(about.num_row_groups)]
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from error

    def group(self, number: int, columns: Sequence[str]) -> pa.Table:
        """The named columns of one row group, in their own types."""
        stored = [self._stored[name] for name in columns]
        try:
            with parquet.ParquetFile(self.path) as file:
                table = file.read_row_group(number, columns=stored).select(stored)
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from error
        return table.rename_columns(list(columns))

    def line_of(self, row: int) -> int | None:
        """None: Parquet has no lines."""
        return None

    def _unreadable(self, error: Exception) -> DataError:
        return DataError(
            f"{self.path} is truncated, damaged or no Parquet file: {error}",
            remedy="Copy or write the file again.",
        )
