"""Import the official files of a public data set from one's own copy: PSM, SMD, SWaT, WADI."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imdiffusion.errors import ConfigError, DataError, OutputError
from imdiffusion.registry import nearest
from imdiffusion_bench.datasets.checksums import sha256_of
from imdiffusion_bench.datasets.known import DATASETS
from imdiffusion_bench.datasets.layout import Part, entities_there, write_layout
from imdiffusion_bench.datasets.sheets import open_bare, open_sheet
from imdiffusion_bench.datasets.sources import Official, find, single
from imdiffusion_bench.datasets.water import read_swat, read_wadi

_MINUTES = "timestamp_(min)"


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
            str(path.relative_to(source)): _digits_of(path)
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
        remedy="Move it away first, or name another folder.",
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


@dataclass(frozen=True, slots=True)
class _Machine:
    """The files of one machine of SMD; causes may be absent."""

    name: str
    train: Path
    test: Path
    label: Path
    causes: Path | None

    @property
    def files(self) -> list[Path]:
        found = [self.train, self.test, self.label]
        return found if self.causes is None else [*found, self.causes]


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
    machines = []
    for name in sorted(names):
        paths = [top / kind / f"{name}.txt" for kind in kinds]
        for path in paths:
            if not path.is_file():
                raise DataError(
                    f"SMD {name} is not whole: there is no {path}",
                    remedy="Copy that file too, or take the machine's other files away.",
                )
        causes = top / "interpretation_label" / f"{name}.txt"
        train, test, label = paths
        present = causes if causes.is_file() else None
        machines.append(_Machine(name, train, test, label, present))
    channels = open_bare(machines[0].train).header

    def parts(wanted: Collection[str]) -> Iterator[Part]:
        return (_part_of(one, channels) for one in machines if one.name in wanted)

    return Official(channels, parts, {one.name: one.files for one in machines})


def _part_of(machine: _Machine, channels: tuple[str, ...]) -> Part:
    train, test = open_bare(machine.train), open_bare(machine.test)
    for sheet in (train, test):
        if sheet.header != channels:
            raise DataError(
                f"{sheet.path} has {len(sheet.header)} columns, not {len(channels)}",
                remedy="Copy it again.",
            )
    label = open_bare(machine.label).numbers(["f00"])[:, 0]
    text = None if machine.causes is None else _bytes_of(machine.causes)
    return Part(machine.name, train.numbers(channels), test.numbers(channels), label, text)


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}", remedy="Copy it again."
        ) from error


def _digits_of(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}", remedy="Copy it again."
        ) from error


OFFICIAL: dict[str, Callable[[Path], Official]] = {
    "PSM": read_psm,
    "SMD": read_smd,
    "SWaT": read_swat,
    "WADI": read_wadi,
}
SEVERAL = frozenset({"SMD"})  # sets of several entities, some of which one may have already
