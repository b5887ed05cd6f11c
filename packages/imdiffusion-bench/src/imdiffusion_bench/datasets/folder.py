"""A data set in a folder: index.json, and a train and a test file in Parquet for each entity.

`Joined` is such a data set of many entities as one series, its parts one after the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from imdiffusion.data.files import read
from imdiffusion.data.frame import Frame, concat
from imdiffusion.data.layout import FileOptions
from imdiffusion.errors import DataError
from imdiffusion.schema import nearest
from imdiffusion_bench.datasets.known import DATASETS, Known, SegmentEnd, check_file
from imdiffusion_bench.split import Cause, Split, Truth, check_label, check_label_values

INDEX, TRAIN, TEST, LABEL = "index.json", "train.parquet", "test.parquet", "label"
CAUSES = "interpretation_label.txt"
_AGAIN = "Fetch, import or copy the data set again."


class FolderDataSet:
    """The data set in `root/name`; its parts are read when loaded, labels when asked for.

        root/name/index.json                         {"entities": [{"name": ...}, ...]}, optional
        root/name/<entity>/train.parquet             a column a channel
        root/name/<entity>/test.parquet              the same columns, and `label` (0 or 1)
        root/name/<entity>/interpretation_label.txt  "start-end:d1,d2", optional

    Without index.json the entities are the subfolders with either part, sorted by name: one whose
    other part is missing is an error when it is loaded, not an uncounted entity.
    An entry of the index with `train_rows` and without `test_rows` is normal data without a test
    part, and no entity; one with `anomaly_rows` 0 can be loaded, but `entities` does not list it,
    for no ranking of its rows can be judged. index.json may also hold `period_s` and `segment_end`
    ("exclusive" or "inclusive"). A column `timestamp` is the time of the rows, which a detector
    gets too; what `Known.beside` names is not read. NaN is a missing value, and stays one.
    Entities need not share their channels. Raises DataError if there is no such folder.
    """

    def __init__(self, root: Path, name: str) -> None:
        self.name = name
        self.folder = Path(root) / name
        if not self.folder.is_dir():
            raise DataError(
                f"the data set {name} is not there: no folder {self.folder}",
                remedy="Fetch or import it, or name the folder that holds the data sets.",
            )

    def entities(self) -> list[str]:
        """The entities in the order of the index; DataError for a bad index, or no entity."""
        calm = {
            entry["name"]
            for entry in (self._index() or {}).get("entities", [])
            if isinstance(entry, dict) and entry.get("anomaly_rows") == 0
        }
        return [name for name in self.recordings() if name not in calm] or self.recordings()

    def recordings(self) -> list[str]:
        """All that have a test part, with anomalies in it or not; raises as `entities`."""
        index = self._index()
        if index is None:
            names = sorted({path.parent.name for path in _parts_in(self.folder)})
        else:
            entries = [entry for entry in index.get("entities", []) if not _only_trains(entry)]
            names = [_name_in(entry, self.folder / INDEX) for entry in entries]
        if not names:
            raise DataError(
                f"the data set {self.name} has no entity: nothing like <entity>/{TRAIN} in "
                f"{self.folder}",
                remedy=_AGAIN,
            )
        return names

    def load(self, entity: str) -> Split:
        """Both parts of an entity, without its labels: those are behind `Split.truth`.

        Raises DataError, naming data set and entity, for an unknown entity, a part that is
        missing, empty, unreadable or not what SHA256SUMS says (where there is one), and for a test
        part with other channels than the train part.
        """
        names = self.recordings()
        if entity not in names:
            raise DataError(
                f"the data set {self.name} has no entity {entity!r}", remedy=nearest(entity, names)
            )
        train, test = self._part(entity, TRAIN), self._part(entity, TEST)
        if set(test.channels) != set(train.channels):
            raise DataError(
                f"{self.name} {entity}: {_difference(train.channels, test.channels)}",
                remedy="Give both parts the same channels.",
            )
        rows = test.length
        truth = Truth(
            lambda: check_label(self.read_label(entity), rows, f"{self.name} {entity}"),
            lambda: self.read_causes(entity, train.width, rows),
        )
        has_causes = (self.folder / entity / CAUSES).is_file()
        return Split(
            self.name,
            entity,
            train,
            test.select(train.channels),
            truth if has_causes else Truth(truth.label),
            self._period_s(train),
        )

    def read_label(self, entity: str) -> NDArray[np.float64]:
        """The label column as numbers (T,), not checked further; NaN where it is null.

        Raises DataError if there is no such column, or if it does not hold numbers.
        """
        path, where = self.folder / entity / TEST, f"{self.name} {entity}"
        try:
            with parquet.ParquetFile(path) as file:
                if LABEL not in file.schema_arrow.names:
                    raise DataError(
                        f"{where}: {TEST} has no column {LABEL!r}",
                        remedy="Add the truth as a column of 0 and 1.",
                    )
                column = file.read([LABEL])[LABEL]
            numbers: NDArray[np.float64] = column.cast(pa.float64()).to_numpy()
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{where}: the labels in {path} cannot be read: {error}",
                remedy="Labels are a column of 0 and 1.",
            ) from error
        return numbers

    def read_causes(self, entity: str, width: int, rows: int) -> list[Cause]:
        """The channels that caused each segment, of `width` channels and `rows` rows.

        Raises DataError naming the line that is wrong, or a file that SHA256SUMS does not know so.
        """
        path = self.folder / entity / CAUSES
        check_file(self.folder.parent, self.name, path)
        return read_causes(path, self._segment_end(), width, rows, f"{self.name} {entity}")

    def _part(self, entity: str, file: str) -> Frame:
        path = self.folder / entity / file
        where, part = f"{self.name} {entity}", file.partition(".")[0]
        if not path.is_file():
            raise DataError(f"{where} has no {part} part: there is no {path}", remedy=_AGAIN)
        check_file(self.folder.parent, self.name, path)
        try:
            with parquet.ParquetFile(path) as opened:
                held, rows = opened.schema_arrow.names, opened.metadata.num_rows
            if not rows:
                raise DataError(
                    f"{where}: the {part} part has no rows ({path})",
                    remedy="Give a file with rows, or leave this entity out.",
                )
            ignored = tuple(name for name in (LABEL, *self._known().beside) if name in held)
            options = FileOptions(layout="wide", entity_column="", ignore_columns=ignored)
            frame = cast(Frame, read(path, options))
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{where}: {path} cannot be read: {error}", remedy=_AGAIN) from error
        except DataError as error:
            if error.what.startswith(where):
                raise
            raise DataError(f"{where}: {error.what}", remedy=error.remedy) from error
        return replace(frame, entity=entity)

    def _index(self) -> dict[str, Any] | None:
        path = self.folder / INDEX
        check_file(self.folder.parent, self.name, path)
        try:
            index = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise DataError(
                f"the data set {self.name}: {path} cannot be read: {error}", remedy=_AGAIN
            ) from error
        if not isinstance(index, dict) or not isinstance(index.get("entities", []), list):
            raise DataError(
                f"the data set {self.name}: {path} is not an index",
                remedy='Write {"entities": [{"name": "..."}]}, or remove it.',
            )
        return index

    def _known(self) -> Known:
        return DATASETS.get(self.name, Known("", ""))

    def _period_s(self, frame: Frame) -> float | None:
        given = (self._index() or {}).get("period_s", self._known().period_s)
        if isinstance(given, int | float) and given > 0:
            return float(given)
        if given is not None:
            raise DataError(
                f"the data set {self.name}: period_s is {given!r} in {self.folder / INDEX}",
                remedy="Write seconds between rows, or null.",
            )
        period = frame.period
        return None if period is None else float(period / np.timedelta64(1, "s"))

    def _segment_end(self) -> SegmentEnd:
        given = (self._index() or {}).get("segment_end", self._known().segment_end)
        if given not in ("exclusive", "inclusive"):
            raise DataError(
                f"the data set {self.name}: segment_end is {given!r} in {self.folder / INDEX}",
                remedy="Write exclusive or inclusive.",
            )
        return cast(SegmentEnd, given)


def available(root: Path) -> list[str]:
    """Names of the data sets in `root`, sorted: folders with an index, or with entities in them.

    Raises DataError if there is no such folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(
            f"there is no folder {root}", remedy="Name the folder that holds the data sets."
        )
    return sorted(
        folder.name
        for folder in root.iterdir()
        if folder.is_dir()
        and not folder.name.startswith(".")
        and ((folder / INDEX).is_file() or any(_parts_in(folder)))
    )


def _parts_in(folder: Path) -> Iterator[Path]:
    """The train and test files of the subfolders."""
    return chain(folder.glob(f"*/{TRAIN}"), folder.glob(f"*/{TEST}"))


def _only_trains(entry: Any) -> bool:
    """Whether an index counts the rows of a training part and knows of no test part."""
    return isinstance(entry, dict) and "train_rows" in entry and "test_rows" not in entry


def _name_in(entry: Any, path: Path) -> str:
    name = entry.get("name") if isinstance(entry, dict) else entry
    if not isinstance(name, str) or name in ("", ".", "..") or Path(name).name != name:
        raise DataError(
            f"{path}: {name!r} is not the name of an entity",
            remedy="An entity is named like its folder.",
        )
    return name


def _difference(train: tuple[str, ...], test: tuple[str, ...]) -> str:
    absent = [name for name in train if name not in test]
    added = [name for name in test if name not in train]
    parts = [f"lacks {', '.join(absent[:3])}"] if absent else []
    parts += [f"has {', '.join(added[:3])} besides"] if added else []
    return f"the test part does not have the train part's channels: it {' and '.join(parts)}"


_LINE = re.compile(r"\s*(\d+)\s*-\s*(\d+)\s*:\s*(\d+(?:\s*,\s*\d+)*)\s*,?\s*")


def read_causes(path: Path, end: SegmentEnd, width: int, rows: int, where: str) -> list[Cause]:
    """The segments of a file, in its order; channels count from 1 there and from 0 here.

    end: whether the last row of a segment belongs to it ("inclusive", as in ASD) or not
    ("exclusive", as in SMD). Raises DataError, naming `where` and the line, for a line of another
    form, a segment without rows or outside the `rows` rows, and a channel outside 1 to `width`.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{where}: {path} cannot be read: {error}", remedy="Copy the data set again."
        ) from error
    causes = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        found = _LINE.fullmatch(line)
        wrong = "not of the form start-end:d1,d2"
        if found is not None:
            start, stop = int(found[1]), int(found[2]) + (end == "inclusive")
            channels = frozenset(int(text) - 1 for text in found[3].split(","))
            if not start < stop <= rows:
                wrong = f"no segment within {rows} rows"
            elif min(channels) < 0 or max(channels) >= width:
                wrong = f"a channel outside 1 to {width}"
            else:
                causes.append(Cause(start, stop, channels))
                continue
        raise DataError(
            f"{where}: {path.name}, line {number}: {line.strip()[:60]!r} is {wrong}",
            remedy="Correct the line, or remove the file: it is optional.",
        )
    return causes


SUFFIX = "-concatenated"
ALL = "all"


class Joined:
    """The usual single-series form: entities concatenated in the order of the index, as "all".

    Nothing marks the seams, so a window may reach over one: that is how published results on MSL
    and SMAP came about. Timestamps are dropped, for they start again with every part.
    """

    def __init__(self, dataset: FolderDataSet) -> None:
        self.name = f"{dataset.name}{SUFFIX}"
        self._dataset = dataset

    def entities(self) -> list[str]:
        """One entity, "all"."""
        return [ALL]

    def load(self, entity: str) -> Split:
        """All parts, one after the other; labels are read, and joined, when they are asked for.

        Raises DataError for another entity than "all", where a part cannot be loaded, and where
        parts do not share their channels.
        """
        if entity != ALL:
            raise DataError(
                f"the data set {self.name} has no entity {entity!r}", remedy=nearest(entity, [ALL])
            )
        splits = [self._dataset.load(name) for name in self._dataset.recordings()]
        for split in splits[1:]:
            if split.train.channels != splits[0].train.channels:
                raise DataError(
                    f"{self._dataset.name} cannot be concatenated: {split.entity} has other "
                    f"channels than {splits[0].entity}",
                    remedy="Take its entities one by one.",
                )
        rows = {split.entity: split.test.length for split in splits}
        causes = _all_causes(splits)
        return Split(
            self.name,
            ALL,
            _joined([split.train for split in splits]),
            _joined([split.test for split in splits]),
            Truth(lambda: self._label(rows), causes),
            splits[0].period_s,
        )

    def _label(self, rows: dict[str, int]) -> NDArray[np.bool_]:
        parts = []
        for entity, count in rows.items():
            # Each for itself: lengths that even out would shift every label between.
            where = f"{self._dataset.name} {entity}"
            parts.append(check_label_values(self._dataset.read_label(entity), count, where))
        return check_label(np.concatenate(parts), sum(rows.values()), self.name)


def _joined(frames: Sequence[Frame]) -> Frame:
    bare = [replace(frame, timestamps=None, rows=None, zone=None) for frame in frames]
    return replace(concat(bare), entity=ALL)


def _all_causes(splits: Sequence[Split]) -> Callable[[], list[Cause]] | None:
    """Causes of every part, moved to where the part starts; None if some part has none."""
    readers = [split.truth.causes for split in splits]
    if any(reader is None for reader in readers):
        return None
    starts = [0, *accumulate(split.test.length for split in splits)]

    def read_all() -> list[Cause]:
        return [
            Cause(cause.start + start, cause.end + start, cause.channels)
            for reader, start in zip(readers, starts, strict=False)
            if reader is not None
            for cause in reader()
        ]

    return read_all
