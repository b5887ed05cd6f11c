"""Where official files lie in one's own copy, and what is read from them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imdiffusion.errors import DataError
from imdiffusion_bench.datasets.layout import Part


@dataclass(frozen=True, slots=True)
class Official:
    """What an importer found: K channels, and the files of each entity.

    parts(names) reads those entities one after the other.
    """

    channels: tuple[str, ...]
    parts: Callable[[Collection[str]], Iterator[Part]]
    files: Mapping[str, Sequence[Path]]


def single(channels: tuple[str, ...], part: Part, files: Sequence[Path]) -> Official:
    """A data set of one entity."""
    return Official(channels, lambda names: iter([part]), {part.entity: files})


def find(source: Path, names: Sequence[str], dataset: str) -> Path:
    """The file in `source` or its subfolders with the first of these names; case does not matter.

    Raises DataError if there is none, or if there are several of one name.
    """
    files = sorted(path for path in source.rglob("*") if path.is_file())
    for name in names:
        found = [path for path in files if path.name.lower() == name.lower()]
        if len(found) > 1:
            raise DataError(
                f"{dataset}: {source} holds {name} twice, as {found[0]} and {found[1]}",
                remedy="Name the folder with one of them.",
            )
        if found:
            return found[0]
    stems = {Path(name).stem.lower() for name in names}
    sheets = [path for path in files if path.suffix == ".xlsx" and path.stem.lower() in stems]
    if sheets:
        raise DataError(
            f"{dataset}: {sheets[0]} is a spreadsheet",
            remedy=f"Open it, and save it beside as {sheets[0].stem}.csv.",
        )
    raise DataError(
        f"{dataset}: there is no {' or '.join(names)} in {source}",
        remedy="Name the folder with the official files.",
    )
