"""From records to cells: mean and spread over the runs of one data set and one variant."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from imdiffusion.errors import DataError
from imdiffusion_bench.columns import NOTHING, markdown
from imdiffusion_bench.plots import Line
from imdiffusion_bench.record import Record

Reader = Callable[[Record], float | None]


@dataclass(frozen=True, slots=True)
class Cell:
    """The values of one metric over entities and seeds, and the runs that gave none.

    undefined: runs that went well and in which the metric has no value. failed: other runs.
    """

    values: tuple[float, ...] = ()
    undefined: int = 0
    failed: int = 0

    @property
    def mean(self) -> float:
        """Mean of the values; NaN without any."""
        return float(np.mean(self.values)) if self.values else math.nan

    @property
    def std(self) -> float:
        """Standard deviation of the values (n - 1); NaN below two."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else math.nan

    def __str__(self) -> str:
        """ "0.412 ± 0.013", with what is missing; a dash where no run was made."""
        text = number(self.mean)
        if len(self.values) > 1:
            text += f" ± {number(self.std)}"
        gaps = [f"{n} {what}" for n, what in self._gaps() if n]
        return f"{text} ({', '.join(gaps)})" if gaps else text

    def _gaps(self) -> tuple[tuple[int, str], ...]:
        return (self.failed, "failed"), (self.undefined, "undefined")


Cells = Mapping[tuple[str, str], Cell]


def metric(protocol: str, name: str) -> Reader:
    """Reads one metric of one protocol; None where the run does not define it."""

    def read(record: Record) -> float | None:
        return _plain(record["metrics"].get(protocol, {}).get(name))

    return read


def aside(name: str) -> Reader:
    """Reads one number of `extra`; None where the run has none."""

    def read(record: Record) -> float | None:
        return _plain((record.get("extra") or {}).get(name))

    return read


def last_steps(size: int) -> Reader:
    """Reads the AUC-PR of the mean over the last `size` steps; None where there are fewer."""

    def read(record: Record) -> float | None:
        found = record.get("extra") or {}
        curve = dict(
            zip(found.get("ensemble_sizes", ()), found.get("ensemble_auc_pr", ()), strict=True)
        )
        return _plain(curve.get(size))

    return read


def cells(records: Iterable[Record], read: Reader) -> Cells:
    """(data set, variant) -> cell."""
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    undefined: dict[tuple[str, str], int] = defaultdict(int)
    failed: dict[tuple[str, str], int] = defaultdict(int)
    for record in records:
        where = (record["dataset"], record["variant"])
        values[where] += []
        if record["status"] != "ok":
            failed[where] += 1
        elif (value := read(record)) is None:
            undefined[where] += 1
        else:
            values[where].append(value)
    return {
        where: Cell(tuple(found), undefined[where], failed[where])
        for where, found in values.items()
    }


def chosen(records: Iterable[Record], datasets: Sequence[str], study: str) -> list[Record]:
    """The records of a study's data sets; DataError without any."""
    wanted = set(datasets)
    found = [record for record in records if record["dataset"] in wanted]
    if not found:
        raise DataError(
            f"no run of the study {study!r} is among these records",
            remedy="Measure its plan first, or name the file that holds its runs.",
        )
    return found


def cell(found: Cells, dataset: str, variant: str) -> Cell:
    """The cell, empty where no run was made."""
    return found.get((dataset, variant), Cell())


def grid(
    found: Cells, corner: str, rows: Mapping[str, str], columns: Mapping[str, str], *, turn: bool
) -> str:
    """A table of cells. rows, columns: name in the records -> title.

    turn False: rows are data sets, columns variants; True: the other way round.
    """
    return markdown(
        [corner, *columns.values()],
        (
            [
                title,
                *(cell(found, *((other, name) if turn else (name, other))) for other in columns),
            ]
            for name, title in rows.items()
        ),
    )


def line(found: Cells, name: str, variant: str, at_x: Mapping[float, str]) -> Line:
    """The means of a variant as a line. at_x: x -> data set; bars are one standard deviation."""
    points = [(x, cell(found, dataset, variant)) for x, dataset in at_x.items()]
    return Line(name, tuple((x, one.mean, one.std) for x, one in points))


def number(value: float, digits: int = 3) -> str:
    """Three decimals; a dash where it is not finite."""
    return f"{value:.{digits}f}" if math.isfinite(value) else NOTHING


def best(found: Mapping[str, float]) -> str:
    """The name with the largest finite value; a dash where there is none."""
    finite = {name: value for name, value in found.items() if math.isfinite(value)}
    return max(finite, key=lambda name: finite[name]) if finite else NOTHING


def _plain(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
