"""Folders of a batch: which entities the input holds, and where their results go.

Inputs are found without trusting any single file. A file of several entities is split: one file an
entity, its rows as they stood. The output has one folder an entity, and one more for what the next
call goes on from:

OUT/NAME/                  the model, or scores.parquet and events.parquet
OUT/batch.json             the summary of the last call
OUT/.batch/receipts/       of what each result was made
OUT/.batch/fits/           fits that were cut off
OUT/.batch/parts/          files of several entities, split, while a call is under way
OUT/.batch/lock            held by the call that writes here
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from imdiffusion.data.atomic import atomic_path
from imdiffusion.data.columns import Place
from imdiffusion.data.csv_source import CsvSource
from imdiffusion.data.layout import FileOptions, codes_of, layout_of, open_source, suffix_of
from imdiffusion.data.writing import write_table
from imdiffusion.errors import DataError, OutputError, UsageError

PARTS = ("train", "test")  # of an entity that has a folder to itself
MOST_LETTERS = 120  # of an entity's name in a file name, once it is quoted
SUMMARY = "batch.json"
OWN = ".batch"
_DRAFT = re.compile(r"\.[0-9a-f]{8}\..")  # what data/atomic.py names what is not whole yet


@dataclass(frozen=True, slots=True)
class Series:
    """Where the rows of one entity lie; `problem` says why they cannot be used, "" if they can."""

    entity: str
    path: Path
    problem: str = ""


@dataclass(slots=True)
class Found:
    """What is in a folder.

    series: one an entity. shared: files of several entities, still to be split. passed: names
    that are neither, with the reason.
    """

    series: list[Series] = field(default_factory=list)
    shared: list[Path] = field(default_factory=list)
    passed: dict[str, str] = field(default_factory=dict)


def find(folder: Path, part: str, options: FileOptions) -> Found:
    """The entities of `folder`, in the order of its names; a file is looked at alone.

    part: "train" or "test", for entities that have a folder each. A file that cannot be read is
    the entity of its name: the worker that reads it says what is wrong with it.
    Raises DataError where there is no such folder or it holds no entity.
    """
    if not folder.exists():
        raise DataError(f"there is no folder {folder}", remedy="Check its name.")
    found = Found()
    try:
        places = sorted(folder.iterdir()) if folder.is_dir() else [folder]
    except OSError as error:
        raise DataError(
            f"{folder} cannot be read: {error.strerror}", remedy="Check that you may read it."
        ) from error
    for place in places:
        if place.name.startswith(".") and folder.is_dir():
            found.passed[place.name] = "hidden"
        elif place.is_dir():
            _look_into(place, part, found)
        elif suffix_of(place):
            _look_at(place, options, found)
        else:
            found.passed[place.name] = "not a file of a known form"
    if not (found.series or found.shared):
        raise DataError(
            f"{folder} holds no entity ({len(found.passed)} other names)",
            remedy="Give it one file an entity, or one folder an entity with train and test files.",
        )
    return found


def distinct(series: Iterable[Series]) -> list[Series]:
    """One series an entity, sorted by name; an entity that two files hold has that problem."""
    claims: dict[str, list[Series]] = defaultdict(list)
    for one in series:
        claims[one.entity].append(one)
    return [
        one[0]
        if len(one) == 1
        else replace(one[0], problem=f"{_named(s.path for s in one)} both hold this entity")
        for _, one in sorted(claims.items())
    ]


def file_name(entity: str) -> str:
    """The name of an entity in file names: percent-encoded, never two entities' at once.

    A name that is too long for a file system ends in a digest, behind "%~", which no other has.
    """
    quoted = quote(entity.encode("utf-8", "surrogatepass"), safe="")
    if quoted.startswith("."):
        quoted = f"%2E{quoted[1:]}"
    if len(quoted) <= MOST_LETTERS:
        return quoted
    digest = hashlib.sha256(entity.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{quoted[:MOST_LETTERS]}%~{digest[:16]}"


def _look_into(place: Path, part: str, found: Found) -> None:
    """A folder is an entity if it has a train or a test file."""
    here = {
        name: sorted(
            file
            for file in place.iterdir()
            if file.is_file() and suffix_of(file) and _stem(file) == name
        )
        for name in PARTS
    }
    files = here[part]
    if not any(here.values()):
        found.passed[place.name] = "a folder without a train or test file"
    elif not files:
        found.series.append(Series(place.name, place, f"{place} holds no {part} file"))
    elif len(files) > 1:
        problem = f"{_named(files)} are both its {part} file"
        found.series.append(Series(place.name, place, problem))
    else:
        found.series.append(Series(place.name, files[0]))


def _look_at(place: Path, options: FileOptions, found: Found) -> None:
    try:
        columns = open_source(place).columns
    except DataError:  # the worker that reads it says so
        columns = ()
    if options.entity_column in columns and options.entity_column not in options.ignore_columns:
        found.shared.append(place)
    else:
        found.series.append(Series(_stem(place), place))


def _stem(path: Path) -> str:
    """The name of a file without its suffix: "disk.csv.gz" is "disk"."""
    return path.name[: -len(suffix_of(path))] or path.name


def _named(paths: Iterable[Path]) -> str:
    return " and ".join(str(path) for path in paths)


def split(path: Path, into: Path, options: FileOptions) -> list[Series]:
    """Write one file an entity into the folder `into`, and say which.

    Cells are not interpreted: what is wrong with one entity's is found when that entity is read.
    (Those of JSON lines are: a bad cell there is the trouble of the whole file.) The file is held
    in memory. Raises DataError for a file that cannot be read, or a row that names no entity;
    OutputError.
    """
    source = open_source(path)
    layout = layout_of(source, options)
    assert layout.entity is not None, "such files are not split"  # noqa: S101
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
    """Write the rows of one entity: equal tables become equal bytes on every backend."""
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


class OutputFolder:
    """The paths in an output folder, and the lock on it."""

    def __init__(self, out: Path) -> None:
        self.out = out.absolute()
        self.own = self.out / OWN
        self.parts = self.own / "parts"

    def target(self, entity: str) -> Path:
        """The folder of an entity's result."""
        return self.out / file_name(entity)

    def receipt(self, entity: str) -> Path:
        """What says of what it was made."""
        return self.own / "receipts" / f"{file_name(entity)}.json"

    def fit(self, entity: str) -> Path:
        """The folder of its fit, while it is under way."""
        return self.own / "fits" / file_name(entity)

    def unused(self, entities: Iterable[str]) -> list[str]:
        """Names of results that are of none of these entities."""
        known = {file_name(entity) for entity in entities} | {OWN, SUMMARY}
        return sorted(path.name for path in self.out.iterdir() if path.name not in known)

    def check_verb(self, verb: str) -> None:
        """OutputError where the last summary is of another verb: its results are not to mix."""
        try:
            last = json.loads((self.out / SUMMARY).read_text(encoding="utf-8"))["verb"]
        except (OSError, ValueError, TypeError, KeyError):
            return  # none, or one that says nothing: each folder is still looked at
        if last != verb:
            raise OutputError(
                f"cannot write the batch {self.out}: it holds what {last!r} made",
                remedy="Name a new folder.",
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Make the folders, and be the only call that writes here.

        Held by an advisory lock, which a kill releases. Raises OutputError where it cannot be
        written or holds other things, UsageError where another call holds it.
        """
        try:
            if self.out.is_dir() and not self.own.is_dir() and any(self.out.iterdir()):
                raise OutputError(
                    f"cannot write the batch {self.out}: it holds other things",
                    remedy="Name a new folder, or empty this one.",
                )
            for folder in (self.own / "receipts", self.own / "fits"):
                folder.mkdir(parents=True, exist_ok=True)
            held = (self.own / "lock").open("ab")
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError(
                f"cannot write the batch {self.out}: {error.strerror}",
                remedy="Name a folder that you may write to.",
            ) from error
        with held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    f"another call writes to {self.out}", remedy="Wait for it, or end it."
                ) from None
            for draft in self.out.iterdir():  # of a call that was killed
                if _DRAFT.match(draft.name):
                    shutil.rmtree(draft) if draft.is_dir() else draft.unlink()
            try:
                yield
            finally:
                shutil.rmtree(self.parts, ignore_errors=True)
