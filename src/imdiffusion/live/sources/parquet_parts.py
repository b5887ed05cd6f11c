"""A Parquet file that grows in parts: crash safe and resumable."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from imdiffusion.data.atomic import atomic_path
from imdiffusion.errors import DataError, OutputError

__all__ = ["Parts"]


def _table(channels: tuple[str, ...], rows: list[tuple[int, np.ndarray]]) -> pa.Table:
    stamps = np.asarray([stamp for stamp, _ in rows], dtype=np.int64)
    values = np.asarray([row for _, row in rows], dtype=np.float32)
    values = values.reshape(len(rows), len(channels))
    columns = [pa.array(stamps).cast(pa.timestamp("ns", "UTC"))]
    columns += [pa.array(values[:, i]) for i in range(len(channels))]
    return pa.Table.from_arrays(columns, names=["timestamp", *channels])


def _write(path: Path, table: pa.Table) -> None:
    with atomic_path(path) as draft:
        pq.write_table(table, draft, compression="zstd")


class Parts:
    """A recording in the making: ``<path>.parts/part-00001.parquet`` and so on.

    Attributes:
        path: The final file, with a ``timestamp`` column (nanoseconds, UTC)
            and one float32 column for each channel.
        channels: Names of the values of a row.
        written: Rows that are safe in parts.

    Raises:
        OutputError: (an OSError) Parts exist and `resume` is not set.
        DataError: (a ValueError) What is to be resumed has other channels.
        OSError: The folder of the parts cannot be made or read.
    """

    def __init__(self, path: Path, channels: tuple[str, ...], *, resume: bool) -> None:
        self.path, self.channels = path, channels
        self.folder = path.with_name(path.name + ".parts")
        if not resume and self._files():
            raise OutputError(
                f"{self.folder} holds an interrupted recording",
                remedy="Resume it, or remove that folder.",
            )
        finished = resume and path.exists() and not self._files()
        self._rows: list[tuple[int, np.ndarray]] = []
        self.written = sum(self._rows_of(file) for file in ([path] if finished else self._files()))
        self.folder.mkdir(parents=True, exist_ok=True)
        if finished:  # it becomes the first part of the longer recording
            path.replace(self.folder / "part-00000.parquet")

    def _rows_of(self, file: Path) -> int:
        try:
            meta = pq.read_metadata(file)
        except pa.ArrowInvalid as error:
            raise DataError(f"{file} is not a Parquet file") from error
        if tuple(meta.schema.names) != ("timestamp", *self.channels):
            raise DataError(f"{file} has other channels than this host has now")
        return int(meta.num_rows)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.parquet"))

    @property
    def pending(self) -> int:
        """Rows that are in memory only."""
        return len(self._rows)

    def add(self, stamp: int, values: np.ndarray) -> int:
        """Keep a row (nanoseconds since the epoch; values of shape ``(channels,)``).

        Returns:
            How many rows there are in all.
        """
        self._rows.append((stamp, values))
        return self.written + len(self._rows)

    def flush(self) -> None:
        """Write the rows kept in memory as the next part; OSError if that fails."""
        if not self._rows:
            return
        files = self._files()
        number = int(files[-1].stem.partition("-")[2]) + 1 if files else 1
        table = _table(self.channels, self._rows)
        _write(self.folder / f"part-{number:05d}.parquet", table)
        self.written += len(self._rows)
        self._rows = []

    def merge(self) -> int:
        """Join all parts into the final file, remove them and return its rows.

        Raises:
            OSError: Writing failed; the parts are kept.
        """
        self.flush()
        tables = [pq.read_table(file) for file in self._files()]
        table = pa.concat_tables(tables) if tables else _table(self.channels, [])
        _write(self.path, table)
        shutil.rmtree(self.folder)
        return int(table.num_rows)
