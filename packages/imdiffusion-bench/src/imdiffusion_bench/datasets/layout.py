"""Write a data set as a folder that appears whole: Parquet, index.json, SHA256SUMS."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from imdiffusion.data.atomic import atomic_folder
from imdiffusion.errors import DataError, OutputError
from imdiffusion_bench.datasets.folder import CAUSES, INDEX, LABEL, TEST, TRAIN, FolderDataSet
from imdiffusion_bench.datasets.known import SUMS, check, sha256_of


@dataclass(frozen=True, slots=True)
class Part:
    """One entity: train float32 (T, K), test float32 (T', K), label (T',), 0 or 1.

    causes: the text of its segments and their channels, byte for byte, or None.
    """

    entity: str
    train: NDArray[np.float32]
    test: NDArray[np.float32]
    label: NDArray[np.generic]
    causes: bytes | None = None


def write_layout(
    root: Path,
    name: str,
    channels: Sequence[str],
    parts: Iterable[Part],
    about: Mapping[str, Any],
) -> Path:
    """Write `root/name` and return it; `about` is put into its index.json.

    Where the folder is there with other entities, the parts are added to them: the folder is
    replaced as a whole, what was in it is linked or copied, not written again.

    Raises OutputError if something else stands there already or it cannot be written; DataError if
    the parts cannot be used, have other channels than the entities there, or if those are not what
    their checksums say. Either way nothing half-written is left.
    """
    target = Path(root) / name
    there = entities_there(root, name)
    with atomic_folder(target, marker=INDEX) as draft:
        index = _carry_over(Path(root), name, draft, channels) if there else {}
        entities = [
            {"name": entry} if isinstance(entry, str) else entry
            for entry in index.get("entities", [])
        ]
        for part in parts:
            _check(part, name)
            folder = draft / part.entity
            folder.mkdir()
            train = _table(part.train, channels)
            test = _table(part.test, channels)
            test = test.append_column(LABEL, pa.array(part.label.astype(np.int8)))
            parquet.write_table(train, folder / TRAIN, compression="zstd")
            parquet.write_table(test, folder / TEST, compression="zstd")
            if part.causes is not None:
                (folder / CAUSES).write_bytes(part.causes)
            entities.append(_entry(part))
        entities.sort(key=lambda entry: _by_number(entry["name"]))
        index = {key: _joined(index.get(key), value) for key, value in {**index, **about}.items()}
        index |= {"dataset": name, "columns": list(channels), "entities": entities}
        (draft / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
        (draft / SUMS).write_text("".join(_lines(draft)), encoding="utf-8")
    return target


def entities_there(root: Path, name: str) -> frozenset[str]:
    """The entities that `root/name` holds already, none where it is absent or empty; makes `root`.

    Raises OutputError where something else stands there, and DataError for a bad index.
    """
    target = Path(root) / name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        taken = target.exists() and (not target.is_dir() or any(target.iterdir()))
    except OSError as error:
        raise OutputError(
            f"cannot write {target}: {error.strerror}", remedy="Name another folder."
        ) from error
    if not taken:
        return frozenset()
    if not (target / INDEX).is_file():
        raise OutputError(
            f"{target} is there already, and is no data set: it holds no {INDEX}",
            remedy="Move it first, or name another folder.",
        )
    return frozenset(FolderDataSet(Path(root), name).entities())


def _carry_over(root: Path, name: str, draft: Path, channels: Sequence[str]) -> dict[str, Any]:
    """Put what `root/name` holds into the draft too, and return its index."""
    check(root, name)  # its list is written again: what was damaged must not pass for whole
    folder = root / name
    index: dict[str, Any] = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    columns = index.get("columns", list(channels))
    if list(columns) != list(channels):
        raise DataError(
            f"{folder} has {len(columns)} channels ({', '.join(columns[:3])}, ...), the new "
            f"entities {len(channels)} ({', '.join(channels[:3])}, ...)",
            remedy="Import both from one release, into an empty folder.",
        )
    ours = shutil.ignore_patterns(INDEX, SUMS)
    shutil.copytree(folder, draft, ignore=ours, copy_function=_link, dirs_exist_ok=True)
    return index


def _joined(before: Any, now: Any) -> Any:
    """What an index says of all its entities: files and lists of both, else what is said now."""
    if isinstance(before, dict) and isinstance(now, Mapping):
        return {**before, **now}
    if isinstance(before, list) and isinstance(now, list):
        return [*before, *(one for one in now if one not in before)]
    return now


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)


def _by_number(name: str) -> list[tuple[int, str]]:
    """machine-3-10 comes after machine-3-2."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def _check(part: Part, name: str) -> None:
    where = f"{name} {part.entity}"
    for text, values in (("train", part.train), ("test", part.test)):
        if not len(values):
            raise DataError(f"{where}: the {text} part has no rows", remedy="Copy it again.")
    if part.test.shape[1] != part.train.shape[1]:
        raise DataError(
            f"{where}: train has {part.train.shape[1]} columns, test {part.test.shape[1]}",
            remedy="Copy both again from one source.",
        )
    if part.label.shape != (len(part.test),):
        raise DataError(
            f"{where}: {len(part.label)} labels for {len(part.test)} test rows",
            remedy="Copy both again from one source.",
        )
    wrong = np.flatnonzero(~np.isin(part.label, (0, 1)))
    if len(wrong):
        raise DataError(
            f"{where}: the label of test row {wrong[0] + 1} is {part.label[wrong[0]]}",
            remedy="Labels are 0 (normal) or 1 (anomalous).",
        )


def _table(values: NDArray[np.float32], channels: Sequence[str]) -> pa.Table:
    """A column a channel; what is missing stays NaN, which reads back as not observed."""
    columns = {name: np.ascontiguousarray(values[:, k]) for k, name in enumerate(channels)}
    return pa.table(columns)


def _entry(part: Part) -> dict[str, Any]:
    label = part.label.astype(np.int8)
    return {
        "name": part.entity,
        "train_rows": len(part.train),
        "features": part.train.shape[1],
        "test_rows": len(part.test),
        "anomaly_rows": int(label.sum()),
        "anomaly_segments": int((np.diff(label, prepend=0) == 1).sum()),
    }


def _lines(folder: Path) -> Iterator[str]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield f"{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n"
