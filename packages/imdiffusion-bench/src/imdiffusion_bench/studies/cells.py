"""What a study is, and how its records are read: cells, mean and spread over the runs of each."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from imdiffusion.errors import DataError
from imdiffusion.schema import Value
from imdiffusion_bench.columns import NOTHING, bullets, markdown
from imdiffusion_bench.generator import Generated
from imdiffusion_bench.generator.config import Dials
from imdiffusion_bench.plan import Plan, Variant
from imdiffusion_bench.plots import Chart, Line, charts_figure
from imdiffusion_bench.record import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
        counts = ((self.failed, "failed"), (self.undefined, "undefined"))
        gaps = [f"{count} {what}" for count, what in counts if count]
        return f"{text} ({', '.join(gaps)})" if gaps else text


class Cells(dict[tuple[str, str], Cell]):
    """(data set, variant) -> cell; an empty one where no run was made."""

    def __missing__(self, where: tuple[str, str]) -> Cell:
        return Cell()

    def grid(
        self, corner: str, rows: Mapping[str, str], columns: Mapping[str, str], *, turn: bool
    ) -> str:
        """A table of cells. rows, columns: name in the records -> title.

        turn False: rows are data sets, columns variants; True: the other way round.
        """
        lines = [
            [title, *(self[(other, name) if turn else (name, other)] for other in columns)]
            for name, title in rows.items()
        ]
        return markdown([corner, *columns.values()], lines)

    def means(self, dataset: str, variants: Iterable[str]) -> dict[str, float]:
        """The means of some variants on a data set."""
        return {one: self[dataset, one].mean for one in variants}

    def line(self, variant: str, at_x: Mapping[float, str]) -> Line:
        """The means of a variant. at_x: x -> data set; bars are one standard deviation."""
        points = [(x, self[dataset, variant]) for x, dataset in at_x.items()]
        return Line(variant, tuple((x, one.mean, one.std) for x, one in points))


def metric(protocol: str, name: str) -> Reader:
    """Reads one metric of one protocol; None where the run does not define it."""
    return lambda record: _plain(record["metrics"].get(protocol, {}).get(name))


def aside(name: str) -> Reader:
    """Reads one number of `extra`; None where the run has none."""
    return lambda record: _plain((record.get("extra") or {}).get(name))


def last_steps(size: int) -> Reader:
    """Reads the AUC-PR of the mean over the last `size` steps; None where there are fewer."""

    def read(record: Record) -> float | None:
        found = record.get("extra") or {}
        pairs = zip(found.get("ensemble_sizes", ()), found.get("ensemble_auc_pr", ()), strict=True)
        return _plain(dict(pairs).get(size))

    return read


def cells(records: Iterable[Record], read: Reader) -> Cells:
    """What is read of the records, by data set and variant."""
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
    return Cells({w: Cell(tuple(found), undefined[w], failed[w]) for w, found in values.items()})


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


# One network for many scorings: small, and one that imputes: a token a row, clean values beside the
# mask, trained under all kinds of masks, from all the noise. What is hidden from it matters: its
# held-out error is .6 of a channel's deviation under bands of two rows, and as large as the
# deviation under bands of twenty. Scored under gratings, its errors neither averaged over time nor
# rid of what drifts. So a study sees steps and masks, and nothing that hides them. What `fast`
# changes for itself stays as it was: another default is no reason to measure again.
IMPUTING: Mapping[str, Value] = {
    "max_steps": 400,
    "validate_every": 100,
    "patience": 0,
    "scale": "zscore",
    "scale_factor": 1.0,
    "denoiser": "mixer",
    "conditioning": "conditional",
    "prediction": "x0",
    "train_levels": "all",
    "patch_length": 1,
    "width": 64,
    "feedforward": 128,
    "layers": 3,
    "batch_size": 16,
    "learning_rate": 2e-3,
    "lr_schedule": "cosine",
    "stride": 50,
    "train_mask": "mixed",
    "subset_share": 0.5,
    "mask": "grating",
    "mask_groups": 2,
    "bands": 10,
    "sampling_steps": 10,
    "sampling_start": 1.0,
    "ensemble": "mean",
    "ensemble_steps": 5,
    "ensemble_every": 1,
    "detrend": (0,),
    "smooth": (1,),
    "error_scale": ("holdout",),
    "log_gain": 0.0,
    "reduce": "mean",
    "calibrate_on": "holdout",
}
Sections = dict[str, str]  # heading -> table


@dataclass(frozen=True, slots=True)
class Study:
    """A question, and data sets x variants x seeds that answer it.

    datasets: names that describe generated data sets in full. tables, says, charts: of the records
    of these data sets, the tables by heading, what they say in sentences, and what is drawn.
    limits: what they do not say. `table` and `plot` raise DataError without a record.
    """

    name: str
    question: str
    datasets: tuple[str, ...]
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    tables: Callable[[list[Record]], Sections]
    says: Callable[[list[Record]], list[str]]
    limits: tuple[str, ...]
    charts: Callable[[list[Record]], list[Chart]]

    @property
    def plan(self) -> Plan:
        """What the runner is to measure."""
        return Plan(f"study:{self.name}", self.datasets, self.variants, self.seeds)

    def table(self, records: list[Record]) -> str:
        """Markdown: tables first, then what they say and what they do not."""
        own = chosen(records, self.datasets, self.name)
        sections = {
            **self.tables(own),
            "What the numbers say": bullets(self.says(own)),
            "What they do not say": bullets(self.limits),
        }
        parts = [f"## {heading}\n\n{text}" for heading, text in sections.items()]
        return "\n\n".join([f"# {self.question}", *parts]) + "\n"

    def plot(self, records: list[Record]) -> Figure:
        """All charts on one sheet."""
        own = chosen(records, self.datasets, self.name)
        return charts_figure(self.charts(own), title=self.question)


def dataset(**dials: Any) -> str:
    """The name of the generated data set with these dials; ConfigError for a wrong one."""
    return Generated(Dials(**dials)).name


def imputing(name: str, **settings: Value) -> Variant:
    """A variant that scores the network that imputes: IMPUTING over `fast`."""
    return Variant(name, "fast", {**IMPUTING, **settings})


def titles(variants: Sequence[Variant]) -> dict[str, str]:
    """The names of variants as the titles of a grid."""
    return {one.name: one.name for one in variants}


def lines_of(
    found: Cells, variants: Sequence[Variant], at_x: Mapping[float, str]
) -> tuple[Line, ...]:
    """A line for each variant."""
    return tuple(found.line(one.name, at_x) for one in variants)


def auc_pr(records: list[Record]) -> Cells:
    """Average precision, label-free protocol."""
    return cells(records, metric("label_free", "auc_pr"))


AUC_PR = "AUC-PR, label-free protocol"
F1_LABEL_FREE = "F1 at the label-free threshold, label-free protocol"
F1_ORACLE = "F1, best threshold by the labels, oracle protocol"


def short_of(heading: str) -> str:
    """ "F1, best threshold" is "F1": the label of an axis."""
    return heading.partition(",")[0].partition(" at ")[0]
