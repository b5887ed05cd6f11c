"""Import the official files of a public data set from one's own copy: PSM, SMD, SWaT, WADI.

A `Sheet` is a text table as people publish them: preambles, blanks in headers, semicolons, decimal
commas.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
from numpy.typing import NDArray

from imdiffusion.errors import ConfigError, DataError, OutputError
from imdiffusion.schema import nearest
from imdiffusion_bench.datasets.known import DATASETS, sha256_of
from imdiffusion_bench.datasets.layout import Part, entities_there, write_layout

_MINUTES = "timestamp_(min)"
Read = TypeVar("Read")


def import_official(
    name: str, source: Path, root: Path, *, about: Mapping[str, Any] | None = None
) -> Path:
    """Convert the official files in the folder `source` to `root/name`, and return that folder.

    Values are as published, as float32; labels become a last column. `index.json` names home,
    licence and the SHA-256 of every file that was read; `about` adds to it. Machines of SMD are
    added to those that `root/name` holds, which stay as they are.

    Raises ConfigError with the nearest names for a set that has no importer; DataError for files
    that are missing, or not what they should be; OutputError if all of it is in `root/name` already
    or it cannot be written. Nothing half-written is left.
    """
    if name not in OFFICIAL:
        raise ConfigError(f"no importer for the data set {name!r}", remedy=nearest(name, OFFICIAL))
    source = Path(source)
    if not source.is_dir():
        raise DataError(
            f"there is no folder {source}",
            remedy=f"Name the folder with the official files of {name}.",
        )
    there = room_for(root, name)
    official = OFFICIAL[name](source)
    fresh = {one: files for one, files in official.files.items() if one not in there}
    if not fresh:
        raise all_there(root, name)
    known = DATASETS[name]
    facts = {
        "home": known.home,
        "licence": known.licence,
        "period_s": known.period_s,
        "segment_end": known.segment_end,
        "source_files": {
            str(path.relative_to(source)): _read(path, sha256_of)
            for files in fresh.values()
            for path in files
        },
        **(about or {}),
    }
    return write_layout(root, name, official.channels, official.parts(fresh), facts)


def room_for(root: Path, name: str) -> frozenset[str]:
    """The entities of `name` that `root` holds already; makes `root`.

    Raises OutputError where the set has no more than is there, or something else is in its place.
    """
    there = entities_there(root, name)
    if there and name not in SEVERAL:
        raise all_there(root, name)
    return there


def all_there(root: Path, name: str) -> OutputError:
    """The error where nothing is left to add to `root/name`."""
    return OutputError(
        f"{Path(root) / name} is there already, with all of these entities",
        remedy="Move it first, or name another folder.",
    )


def read_psm(source: Path) -> Official:
    """PSM: train.csv, test.csv, test_label.csv; the minutes must agree, and are dropped.

    Empty fields stay missing. Raises DataError.
    """
    paths = [find(source, (file,), "PSM") for file in ("train.csv", "test.csv", "test_label.csv")]
    train, test, label = (open_sheet(path, (_MINUTES,)) for path in paths)
    if "label" not in label.header:
        raise DataError(f"{label.path} has no column 'label'", remedy="Copy it again.")
    channels = tuple(name for name in train.header if name and name != _MINUTES)
    lacking = [name for name in channels if name not in test.header]
    if lacking or len(test.header) != len(train.header):
        raise DataError(
            f"{test.path} does not have the columns of {train.path.name}",
            remedy="Copy both again from one source.",
        )
    if test.texts(_MINUTES) != label.texts(_MINUTES):
        raise DataError(
            f"{label.path} is not about the rows of {test.path.name}: their minutes differ",
            remedy="Copy both again from one source.",
        )
    truth = label.numbers(["label"])[:, 0]
    part = Part("psm", train.numbers(channels), test.numbers(channels), truth)
    return single(channels, part, paths)


def read_smd(source: Path) -> Official:
    """SMD: {train,test,test_label,interpretation_label}/machine-*.txt, the machines that are there.

    `source` is ServerMachineDataset or the folder that holds it. Raises DataError, also for a
    machine of which only a part is there.
    """
    inner = source / "ServerMachineDataset"
    top = inner if inner.is_dir() else source
    kinds = ("train", "test", "test_label")
    names = {path.stem for kind in kinds for path in (top / kind).glob("machine-*.txt")}
    if not names:
        raise DataError(
            f"{source} holds no train/machine-*.txt",
            remedy="Name the folder ServerMachineDataset of SMD's repository.",
        )
    machines: dict[str, list[Path]] = {}
    for name in sorted(names):
        machines[name] = [top / kind / f"{name}.txt" for kind in kinds]
        for path in machines[name]:
            if not path.is_file():
                raise DataError(
                    f"SMD {name} is not whole: there is no {path}",
                    remedy="Copy that file too, or remove the machine's other files.",
                )
        causes = top / "interpretation_label" / f"{name}.txt"
        machines[name] += [causes] if causes.is_file() else []
    channels = open_bare(next(iter(machines.values()))[0]).header

    def parts(wanted: Collection[str]) -> Iterator[Part]:
        return (_machine(name, machines[name], channels) for name in machines if name in wanted)

    return Official(channels, parts, machines)


def _machine(name: str, paths: Sequence[Path], channels: tuple[str, ...]) -> Part:
    """A machine of SMD from its train, test and label file, and its causes where they are there."""
    train, test = (open_bare(path) for path in paths[:2])
    for sheet in (train, test):
        if sheet.header != channels:
            raise DataError(
                f"{sheet.path} has {len(sheet.header)} columns, not {len(channels)}",
                remedy="Copy it again.",
            )
    label = open_bare(paths[2]).numbers(["f00"])[:, 0]
    causes = [_read(path, Path.read_bytes) for path in paths[3:]]
    return Part(name, train.numbers(channels), test.numbers(channels), label, *causes)


def _read(path: Path, how: Callable[[Path], Read]) -> Read:
    try:
        return how(path)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}", remedy="Copy it again."
        ) from error


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


_HEAD = 20  # lines among which the header is looked for
_MISSING = ["", " ", "NaN", "nan", "NA", "N/A", "#N/A", "null", "NULL", "None"]
_AGAIN = "Copy or export it again from its source."


@dataclass(frozen=True, slots=True)
class Sheet:
    """A text table: the names of its columns, and where and how its rows begin."""

    path: Path
    header: tuple[str, ...]
    skip: int  # lines before the first row
    delimiter: str = ","

    def numbers(self, names: Sequence[str]) -> NDArray[np.float32]:
        """The named columns as float32 (T, K), NaN where a field is empty.

        Raises DataError for text that is no number, for infinities, and for rows of other length.
        """
        table = self._numbers(names)
        values = np.empty((len(table), len(names)), np.float32)
        for k in range(len(names)):
            values[:, k] = table.column(k).to_numpy()
        infinite = np.argwhere(np.isinf(values))
        if len(infinite):
            row, k = infinite[0]
            raise DataError(
                f"{self.path}, row {row + 1}, column {names[k]!r}: it is infinite", remedy=_AGAIN
            )
        return values

    def texts(self, name: str) -> list[str]:
        """A column as text, without blanks around it; "" where it is empty."""
        column = self._read([name], pa.string(), ".").column(0)
        return [(text or "").strip() for text in column.to_pylist()]

    def _numbers(self, names: Sequence[str]) -> pa.Table:
        points = [".", ","] if self.delimiter == ";" else ["."]
        for point in points[:-1]:
            try:
                return self._read(names, pa.float32(), point)
            except DataError:  # what is no number with a point may be one with a comma
                continue
        return self._read(names, pa.float32(), points[-1])

    def _read(self, names: Sequence[str], kind: pa.DataType, point: str) -> pa.Table:
        # Columns go by position: a header may hold a name, or none at all, several times.
        every = [str(k) for k in range(len(self.header))]
        chosen = [str(self.header.index(name)) for name in names]
        try:
            return arrow_csv.read_csv(
                self.path,
                read_options=arrow_csv.ReadOptions(column_names=every, skip_rows=self.skip),
                parse_options=arrow_csv.ParseOptions(delimiter=self.delimiter),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(chosen, kind),
                    include_columns=chosen,
                    null_values=_MISSING,
                    strings_can_be_null=True,
                    decimal_point=point,
                ),
            )
        except (pa.ArrowException, OSError) as error:
            named = ", ".join(repr(name) for name in names[:1]) + (" ..." if names[1:] else "")
            raise DataError(
                f"{self.path} cannot be read (columns {named}): {error}", remedy=_AGAIN
            ) from error


def open_sheet(path: Path, marks: Collection[str]) -> Sheet:
    """The table in a file whose header is the first line that has all `marks` among its names.

    Names lose blanks around them and what stands before a backslash (a path of the recorder).
    Raises DataError if no line near the start is such a header.
    """
    for skip, line in enumerate(_first_lines(path), start=1):
        for delimiter in (",", ";", "\t"):
            cells = next(csv.reader([line], delimiter=delimiter), [])
            names = tuple(cell.rpartition("\\")[2].strip() for cell in cells)
            if set(marks) <= set(names):
                return Sheet(path, names, skip, delimiter)
    raise DataError(
        f"{path} has no header with {' and '.join(map(repr, marks))} in its first {_HEAD} lines",
        remedy=_AGAIN,
    )


def open_bare(path: Path, name: str = "f{:02d}") -> Sheet:
    """The table in a comma-separated file without a header; columns are named by position."""
    line = next(_first_lines(path), "")
    if not line.strip():
        raise DataError(f"{path} is empty", remedy=_AGAIN)
    return Sheet(path, tuple(name.format(k) for k in range(line.count(",") + 1)), 0)


def without_empty_end(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows (T, K) up to the last one in which something was observed."""
    filled = np.flatnonzero(~np.isnan(values).all(axis=1))
    return values[: int(filled[-1]) + 1 if len(filled) else 0]


def _first_lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            yield from islice(file, _HEAD)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", remedy=_AGAIN) from error


_SWAT_LABEL = "Normal/Attack"
_SWAT_OTHER = ("Timestamp", _SWAT_LABEL, "Normal", "Attack")
_WADI_OTHER = ("Row", "Date", "Time")
_WADI_LABELS = ("attack lable", "attack label")  # the official file has the first
_EXPORT_AGAIN = "Copy or export both again from one release."


def read_swat(source: Path) -> Official:
    """SWaT (December 2015): SWaT_Dataset_Normal_v1.csv (or v0) and SWaT_Dataset_Attack_v0.csv.

    The header may stand below a line of process stages, names may have blanks around them, and
    the text may have semicolons and decimal commas. Labels are Normal, Attack or "A ttack".
    Raises DataError.
    """
    normal = ("SWaT_Dataset_Normal_v1.csv", "SWaT_Dataset_Normal_v0.csv")
    paths = [find(source, names, "SWaT") for names in (normal, ("SWaT_Dataset_Attack_v0.csv",))]
    train = open_sheet(paths[0], ("Timestamp",))
    test = open_sheet(paths[1], ("Timestamp", _SWAT_LABEL))
    channels = _shared_channels(train, test, _SWAT_OTHER)
    training, values = (without_empty_end(sheet.numbers(channels)) for sheet in (train, test))
    texts = test.texts(_SWAT_LABEL)[: len(values)]
    label = _coded(texts, {"normal": 0, "attack": 1}, test.path)
    return single(channels, Part("swat", training, values, label), paths)


def read_wadi(source: Path) -> Official:
    """WADI, release A2 (19 November 2019): WADI_14days_new.csv and WADI_attackdataLABLE.csv.

    Lines before the header, the recorder's path before a name and rows without values at the end
    are passed over; channels without one value in both parts are dropped. Raises DataError, also
    for the first release, whose labels are only in a document.
    """
    train_path = find(source, ("WADI_14days_new.csv", "WADI_14days.csv"), "WADI")
    labelled = ("WADI_attackdataLABLE.csv", "WADI_attackdataLABEL.csv", "WADI_attackdata.csv")
    test_path = find(source, labelled, "WADI")
    train, test = (open_sheet(path, _WADI_OTHER) for path in (train_path, test_path))
    named = [name for name in test.header if name.lower().startswith(_WADI_LABELS)]
    if not named:
        raise DataError(
            f"WADI: {test_path} has no labels (release A1 gives them in a document only)",
            remedy="Use release A2, with WADI_attackdataLABLE.csv.",
        )
    channels = _shared_channels(train, test, (*_WADI_OTHER, *named))
    training, values = (without_empty_end(sheet.numbers(channels)) for sheet in (train, test))
    label = _coded(test.texts(named[0])[: len(values)], {"1": 0, "-1": 1}, test_path)
    empty = np.isnan(training).all(axis=0), np.isnan(values).all(axis=0)
    kept: NDArray[np.bool_] = np.logical_not(np.logical_and(*empty))
    part = Part("wadi", training[:, kept], values[:, kept], label)
    names = tuple(name for name, keep in zip(channels, kept, strict=True) if keep)
    return single(names, part, [train_path, test_path])


def _shared_channels(train: Sheet, test: Sheet, others: Collection[str]) -> tuple[str, ...]:
    """The columns of the training file that are channels; DataError unless the test file's too."""
    ours, theirs = (
        tuple(name for name in sheet.header if name and name not in others)
        for sheet in (train, test)
    )
    if not ours:
        raise DataError(f"{train.path} has no channel", remedy=_EXPORT_AGAIN)
    unshared = sorted(set(ours) ^ set(theirs))
    if unshared:
        raise DataError(
            f"{train.path} and {test.path.name} differ in their columns: {unshared[0]!r} is only "
            f"in {'the first' if unshared[0] in ours else 'the second'}",
            remedy=_EXPORT_AGAIN,
        )
    twice = [name for name in ours if ours.count(name) > 1 or theirs.count(name) > 1]
    if twice:
        raise DataError(
            f"the name {twice[0]!r} names two columns in {train.path} or {test.path.name}",
            remedy=_EXPORT_AGAIN,
        )
    return ours


def _coded(texts: list[str], codes: dict[str, int], path: Path) -> NDArray[np.int8]:
    """Labels (T,) of texts, in which neither case nor blanks count; DataError for any other."""
    label = np.empty(len(texts), np.int8)
    for row, text in enumerate(texts):
        code = codes.get("".join(text.split()).removesuffix(".0").lower())
        if code is None:
            raise DataError(
                f"{path}, row {row + 1}: the label is {text!r}, not {' or '.join(codes)}",
                remedy=_EXPORT_AGAIN,
            )
        label[row] = code
    return label


OFFICIAL: dict[str, Callable[[Path], Official]] = {
    "PSM": read_psm,
    "SMD": read_smd,
    "SWaT": read_swat,
    "WADI": read_wadi,
}
SEVERAL = frozenset({"SMD"})  # sets of several entities, some of which one may have already
