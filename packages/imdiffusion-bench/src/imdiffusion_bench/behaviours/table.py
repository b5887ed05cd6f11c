"""What a run says: who found what, each detector in a line and under every scenario; and a plot."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from imdiffusion_bench.behaviours.config import SystemDials
from imdiffusion_bench.columns import NOTHING, markdown
from imdiffusion_bench.metrics import NAN
from imdiffusion_bench.plots import Panel, panels_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_FAULTS = (
    "found",
    "right channel first",
    "delay online",
    "delay offline",
    "start off by",
    "end off by",
)
_OUTSIDE = ("false events a day", "promised", "achieved", "achieved online")
# Title -> how it is read, and what a fault lacks that is counted as missed.
PANELS: Mapping[str, tuple[Callable[[Cell], float], str]] = {
    "Delay online, rows": (lambda cell: cell.median("delay_online"), "delay_online"),
    "Worse edge offline, rows off": (lambda cell: cell.worst_edge(), "end_error"),
    "False events a day": (lambda cell: cell.outside("false_events_a_day"), ""),
}


def panels(document: Mapping[str, Any]) -> list[Panel]:
    """What the plot of a document shows: a panel a measure, of what was measured."""
    records: list[Record] = document["records"]
    measured = {where: cell for where, cell in by_both(records).items() if cell.ok}
    found = []
    for title, (read, lacked) in PANELS.items():
        values: dict[str, dict[str, float]] = {}
        missed: dict[tuple[str, str], int] = {}
        for (detector, scenario), cell in measured.items():
            if lacked and scenario == "clean":
                continue
            values.setdefault(detector, {})[scenario] = read(cell)
            if lacked:
                missed[detector, scenario] = len(cell.faults) - cell.count(lacked)[1]
        found.append(Panel(title, values, missed if lacked else None))
    return found


def plot(document: Mapping[str, Any]) -> Figure:
    """The panels of a document on one sheet."""
    return panels_figure(panels(document), title="Behaviours")


def tables(document: Mapping[str, Any]) -> str:
    """All tables of a document as `measuring.document` makes it."""
    records: list[Record] = document["records"]
    detectors, scenarios = names(records, "detector"), names(records, "scenario")
    parts = [_head(document)]
    if records:
        found = by_both(records)
        parts += ["## Found", _found(found, detectors, scenarios)]
        parts += ["## Every detector over all scenarios", _lines(records, detectors)]
        for name in detectors:
            parts += [f"## `{name}`", _one_detector(found, name, scenarios)]
        parts += [*_troubles(records), *_warned(records)]
    return "\n\n".join(parts) + "\n"


def _head(document: Mapping[str, Any]) -> str:
    dials = SystemDials(**document["dials"])
    seeds = ", ".join(str(seed) for seed in document["seeds"])
    return (
        f"{dials.channels} channels, a row every {dials.period_s} s, {dials.rows_train} rows of "
        f"training, {dials.rows_test} of test; other than usual: {dials.spelled() or 'nothing'}. "
        f"Seeds {seeds}. Delays and edges in rows, medians over the faults that have them; below 0 "
        "an edge is too early."
    )


def _found(
    found: Mapping[tuple[str, str], Cell], detectors: Sequence[str], scenarios: Sequence[str]
) -> str:
    rows = []
    for one in scenarios:
        if one != "clean":
            rows.append([one, *(_found_cell(found.get((name, one))) for name in detectors)])
    return markdown(["scenario", *detectors], rows)


def _found_cell(cell: Cell | None) -> str:
    """ "2 of 3", with what went wrong; a dash where nothing was measured."""
    if cell is None or len(cell.of_status("impossible")) == len(cell.records):
        return NOTHING
    found, failed = _count(cell, "found"), len(cell.of_status("failed"))
    return f"{found} ({failed} failed)" if failed else found


def _lines(records: Sequence[Record], detectors: Sequence[str]) -> str:
    by_detector = cells(records, lambda one: one["detector"])
    rows = []
    for name in detectors:
        cell = by_detector[name]
        fit = max((one["fit_s"] for one in cell.ok), default=math.nan)
        rows.append(
            [
                f"`{name}`",
                *_fault_cells(cell)[:4],
                _number(cell.worst_edge()),
                *_outside_cells(cell),
                _number(fit, 2),
                str(len(cell.of_status("failed"))),
            ]
        )
    head = ["detector", *_FAULTS[:4], "worse edge off by", *_OUTSIDE, "longest fit, s", "failed"]
    return markdown(head, rows)


def _one_detector(
    found: Mapping[tuple[str, str], Cell], name: str, scenarios: Sequence[str]
) -> str:
    rows = []
    for one in scenarios:
        cell = found.get((name, one))
        if cell is not None and cell.ok:
            rows.append([one, *_fault_cells(cell), *_outside_cells(cell)])
    return markdown(["scenario", *_FAULTS, *_OUTSIDE], rows)


def _fault_cells(cell: Cell) -> list[str]:
    return [
        _count(cell, "found"),
        _count(cell, "channel_first"),
        _number(cell.median("delay_online")),
        _number(cell.median("delay_offline")),
        _signed(cell.median("start_error")),
        _signed(cell.median("end_error")),
    ]


def _outside_cells(cell: Cell) -> list[str]:
    return [
        _number(cell.outside("false_events_a_day"), 2),
        *(_share(cell.outside(one)) for one in ("promised", "achieved_offline", "achieved_online")),
    ]


def _troubles(records: Sequence[Record]) -> list[str]:
    """Runs that failed and scenarios that cannot exist, each once."""
    lines = []
    for one in records:
        if one["status"] == "failed":
            error = " ".join(f"{one['error']['type']}: {one['error']['message']}".split())
            where = f"`{one['detector']}`, {one['scenario']}, seed {one['seed']}"
            lines.append(f"- {where}: {one['stage']} failed: {error}")
        elif one["status"] == "impossible":
            lines.append(f"- {one['why']}")
    return ["## Not measured", "\n".join(dict.fromkeys(lines))] if lines else []


def _warned(records: Sequence[Record]) -> list[str]:
    """What detectors warned of, and in which scenarios; each text once a detector."""
    where: dict[tuple[str, str], list[str]] = {}
    for one in records:
        for text in one.get("warnings", ()):
            where.setdefault((one["detector"], " ".join(text.split())), []).append(one["scenario"])
    every = len(names(records, "scenario"))
    lines = []
    for (name, text), scenarios in where.items():
        some = list(dict.fromkeys(scenarios))
        lines.append(f"- `{name}`, {'all' if len(some) == every else ', '.join(some)}: {text}")
    return ["## Warnings", "\n".join(lines)] if lines else []


def _count(cell: Cell, name: str) -> str:
    yes, of = cell.count(name)
    return f"{yes} of {of}" if of else NOTHING


def _number(value: float, digits: int = 1) -> str:
    if not math.isfinite(value):
        return NOTHING
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if digits == 1 else text


def _signed(value: float) -> str:
    text = _number(value)
    return f"+{text}" if value > 0 else text


def _share(value: float) -> str:
    return f"{100 * value:.2f} %" if math.isfinite(value) else NOTHING


Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cell:
    """Records of one detector, of one scenario or several; numbers are NaN without a value."""

    records: tuple[Record, ...]

    def of_status(self, status: str) -> list[Record]:
        """Those that ended so: "ok", "failed" or "impossible" under the dials."""
        return [one for one in self.records if one["status"] == status]

    @property
    def ok(self) -> list[Record]:
        """Those that went well."""
        return self.of_status("ok")

    @property
    def faults(self) -> list[Record]:
        """The measures of every fault."""
        return [fault for one in self.ok for fault in one["faults"]]

    def count(self, name: str) -> tuple[int, int]:
        """How often a yes-or-no measure of the faults is yes, and how often it is defined."""
        values = _known(fault[name] for fault in self.faults)
        return int(sum(values)), len(values)

    def median(self, name: str) -> float:
        """The median of a measure over the faults that have it."""
        return _median(_known(fault[name] for fault in self.faults))

    def worst_edge(self) -> float:
        """The median over found faults of the larger error of both edges, in rows."""
        pairs = [(fault["start_error"], fault["end_error"]) for fault in self.faults]
        return _median([max(abs(a), abs(b)) for a, b in pairs if a is not None and b is not None])

    def outside(self, name: str) -> float:
        """The mean of a measure of the rows outside the faults."""
        values = _known(one["outside"][name] for one in self.ok)
        return float(np.mean(values)) if values else NAN


def cells(records: Iterable[Record], key: Callable[[Record], Any]) -> dict[Any, Cell]:
    """Records gathered by what `key` says of each, in their order."""
    found: dict[Any, list[Record]] = {}
    for one in records:
        found.setdefault(key(one), []).append(one)
    return {where: Cell(tuple(some)) for where, some in found.items()}


def by_both(records: Iterable[Record]) -> dict[tuple[str, str], Cell]:
    """(detector, scenario) -> cell."""
    return cells(records, lambda one: (one["detector"], one["scenario"]))


def names(records: Sequence[Record], key: str) -> list[str]:
    """The detectors or scenarios of records, in the order in which they first stand."""
    return list(dict.fromkeys(one[key] for one in records))


def _known(values: Iterable[float | None]) -> list[float]:
    return [float(value) for value in values if value is not None and math.isfinite(value)]


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else NAN
