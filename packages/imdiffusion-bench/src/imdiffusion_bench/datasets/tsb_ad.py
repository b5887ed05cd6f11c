"""TSB-AD-M (Liu and Paparrizos, NeurIPS 2024) as a data set: rebuilt from parts, or one's own copy.

A file of it is one series: a detector is fitted on its first `train_rows` rows and scores the whole
file, the training rows among it; that is how published values came about. 48 of its 180 files are
the test parts of public sets, or whole sets, that a folder of this benchmark holds; who has the
files themselves names their folder instead, and all of them are read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imdiffusion.data.frame import Frame, concat, frame_from
from imdiffusion.errors import DataError
from imdiffusion.schema import nearest
from imdiffusion_bench.datasets.folder import FolderDataSet
from imdiffusion_bench.datasets.official import open_sheet
from imdiffusion_bench.metrics.range_based import window_of
from imdiffusion_bench.split import Split, Truth, check_label

NAME = "tsb_ad_m"
LABEL = "Label"
_FILE = re.compile(r"(\d+)_(\w[\w.-]*?)_id_.+_tr_(\d+)_1st_\d+")
# Files that published methods chose their settings on (TSB-AD-M-Tuning.csv of its home): by number.
TUNING = frozenset(
    (4, 11, 23, 28, 40, 49, 62, 72, 82, 90, 107, 113, 120, 126, 131, 140, 149, 164, 178, 195)
)


@dataclass(frozen=True, slots=True)
class TsbFile:
    """One file that can be rebuilt, and what was published of it (VUS-PR).

    file        its name without ".csv"
    dataset, entity  ours: the test part, or train and test part one after the other (`whole`)
    published   method -> value
    """

    file: str
    dataset: str
    entity: str
    rows: int
    channels: int
    train_rows: int
    published: Mapping[str, float]

    @property
    def best(self) -> float:
        """The highest published value: what choosing a method for each file would have got."""
        return max(self.published.values())

    @property
    def whole(self) -> bool:
        """Whether the training part is the beginning of the file."""
        return self.dataset in ("Genesis", "Daphnet")


@cache
def known_files() -> Mapping[str, TsbFile]:
    """The 48 files by name, in the order of their numbers."""
    listed: list[dict[str, Any]] = _facts()["files"]
    return {one["file"]: TsbFile(**one) for one in listed}


def source_of_values() -> str:
    """Where the published values come from."""
    return str(_facts()["source"])


def _facts() -> dict[str, Any]:
    path = files("imdiffusion_bench.datasets") / "tsb_ad_m.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def train_rows_of(file: str) -> int:
    """The training rows that the name of a file says; DataError for a name of another form."""
    found = _FILE.fullmatch(file)
    if found is None:
        raise DataError(
            f"{file} is not named as TSB-AD names its files",
            remedy="Keep the names: NUMBER_SET_id_..._tr_ROWS_1st_ROW.csv.",
        )
    return int(found[3])


class TsbAdM:
    """The files of TSB-AD-M as entities, by their names without ".csv".

    root: a folder with files so named (then those are the entities, the 20 that settings are chosen
    on left out), or the folder of the benchmark data, from which 48 are rebuilt.
    """

    name = NAME

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def entities(self) -> list[str]:
        """The names of the files, in order; DataError where there is no such folder."""
        if not self.root.is_dir():
            raise DataError(
                f"there is no folder {self.root}",
                remedy="Name the folder of TSB-AD-M's files, or that of the benchmark data.",
            )
        return list(self._own()) or list(known_files())

    def _own(self) -> dict[str, Path]:
        """The files of one's own copy by name."""
        found = {}
        for path in sorted(self.root.glob("*_tr_*_1st_*.csv")):
            match = _FILE.fullmatch(path.stem)
            if match is not None and int(match[1]) not in TUNING:
                found[path.stem] = path
        return found

    def load(self, entity: str) -> Split:
        """The first rows as `train`, the whole file as `test`, and the window of its measure.

        Raises DataError for another name, a file or part that cannot be read, and a rebuilt file
        that has other rows or channels than the one it stands for.
        """
        names = self.entities()
        if entity not in names:
            raise DataError(
                f"the data set {NAME} has no entity {entity!r}", remedy=nearest(entity, names)
            )
        own = self._own()
        if own:
            return _from_csv(own[entity])
        return self._rebuilt(known_files()[entity])

    def _rebuilt(self, file: TsbFile) -> Split:
        source = FolderDataSet(self.root, file.dataset)
        part = source.load(file.entity)
        frame = concat([part.train, part.test]) if file.whole else part.test
        before = part.train.length if file.whole else 0
        if frame.values.shape != (file.rows, file.channels):
            raise DataError(
                f"{file.file}: {file.dataset} {file.entity} gives {frame.values.shape} values, the "
                f"file has ({file.rows}, {file.channels})",
                remedy="Copy the data set again.",
            )

        def label() -> NDArray[np.bool_]:
            given = np.asarray(source.read_label(file.entity), np.float64)
            return _checked(np.concatenate([np.zeros(before), given]), frame.length, file.file)

        return _split(file.file, frame, file.train_rows, label)


def _from_csv(path: Path) -> Split:
    """A file of one's own; rows with a missing value are dropped, as TSB-AD drops them."""
    sheet = open_sheet(path, (LABEL,))
    if sheet.header[-1] != LABEL or len(sheet.header) < 2:
        raise DataError(
            f"{path}: its columns end with {sheet.header[-1]!r}",
            remedy=f"The last column of a file of TSB-AD is {LABEL}, the others are channels.",
        )
    values = sheet.numbers(sheet.header[:-1])
    whole = ~np.isnan(values).any(axis=1)
    frame = frame_from(values[whole], channels=sheet.header[:-1])

    def label() -> NDArray[np.bool_]:
        return _checked(sheet.numbers((LABEL,))[whole, 0], frame.length, path.stem)

    return _split(path.stem, frame, train_rows_of(path.stem), label)


def _checked(label: NDArray[Any], rows: int, file: str) -> NDArray[np.bool_]:
    return check_label(label, rows, f"{NAME} {file}")


def _split(file: str, frame: Frame, train_rows: int, label: Any) -> Split:
    if not 0 < train_rows < frame.length:
        raise DataError(
            f"{file}: {train_rows} training rows of {frame.length}",
            remedy="Copy the file again; its name says how many of its rows are for training.",
        )
    plain = replace(frame, entity=file, timestamps=None, rows=None, zone=None)
    window = window_of(plain.values[:, 0].astype(np.float64))
    return Split(NAME, file, plain.slice(0, train_rows), plain, Truth(label), tsb_ad_window=window)
