"""Which entities a folder or file holds, found without trusting any single file."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

from imdiffusion.data.layout import FileOptions, open_source, suffix_of
from imdiffusion.errors import DataError

PARTS = ("train", "test")  # of an entity that has a folder to itself
MOST_LETTERS = 120  # of an entity's name in a file name, once it is quoted


@dataclass(frozen=True, slots=True)
class Series:
    """Where the rows of one entity lie; `problem` says why they cannot be used, "" if they can."""

    entity: str
    path: Path
    problem: str = ""


@dataclass(slots=True)
class Found:
    """What is in a folder.

    series: one an entity. shared: files of several entities, still to be taken apart. passed: names
    that are neither, with the reason.
    """

    series: list[Series] = field(default_factory=list)
    shared: list[Path] = field(default_factory=list)
    passed: dict[str, str] = field(default_factory=dict)


def find(folder: Path, part: str, options: FileOptions) -> Found:
    """The entities of `folder`, in the order of its names; a file is looked at alone.

    part: "train" or "test", for entities that have a folder each. A file that cannot be read is
    the entity of its name: what is wrong with it is found out, and told, by its reader.
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
    except DataError:  # reported by the worker that reads it
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
