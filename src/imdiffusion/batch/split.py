"""A file of several entities, taken apart: one file an entity, its rows as they stood."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from imdiffusion.batch.folder import Series, file_name
from imdiffusion.data.atomic import atomic_path
from imdiffusion.data.csv_source import CsvSource
from imdiffusion.data.layout import FileOptions, layout_of, open_source
from imdiffusion.data.long_layout import codes_of
from imdiffusion.data.place import Place
from imdiffusion.data.writing import write_table


def split(path: Path, into: Path, options: FileOptions) -> list[Series]:
    """Write one file an entity into the folder `into`, and say which.

    Cells are not interpreted: what is wrong with one entity's is found when that entity is read.
    (JSON lines are: there a bad cell is the whole file's trouble.) The file is held in memory.
    Raises DataError for a file that cannot be read, or a row that names no entity; OutputError.
    """
    source = open_source(path)
    layout = layout_of(source, options)
    assert layout.entity is not None, "such files are not taken apart"  # noqa: S101
    plain = isinstance(source, CsvSource)
    tables = source.tables(layout.columns, layout.columns if plain else layout.text)
    table = pa.concat_tables(tables, promote_options="permissive")
    codes, names = codes_of(table[layout.entity], Place(str(path)), layout.entity)
    kept = table.drop_columns([layout.entity])
    order = np.argsort(codes, kind="stable")
    parts = zip(names, np.split(order, np.cumsum(np.bincount(codes))[:-1]), strict=True)
    suffix = ".csv" if plain else ".parquet"
    return [Series(name, write_part(kept.take(rows), name, into, suffix)) for name, rows in parts]


def write_part(table: pa.Table, entity: str, into: Path, suffix: str = ".parquet") -> Path:
    """Write the rows of one entity: equal tables become equal bytes, in any process."""
    path = into / f"{file_name(entity)}{suffix}"
    if suffix == ".csv":
        write_table(table, path)
        return path
    with atomic_path(path) as draft:
        parquet.write_table(table.combine_chunks().replace_schema_metadata(None), draft)
    return path


def clear(folder: Path) -> None:
    """An empty folder, whatever was there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
